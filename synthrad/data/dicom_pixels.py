"""Pixel data of DICOM files: what a header declares is compared with what the file holds before anything is decoded.

Decoders are pydicom's own (uncompressed, RLE), Pillow (JPEG), pyjpegls (JPEG-LS), openjpeg (JPEG 2000) and libjpeg-turbo by imagecodecs (lossless JPEG,
JPEG of 12 bit): those that pydicom names for the last two are under the GPL.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from synthrad.data.dicom_fields import number, text
from synthrad.errors import InputError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MOST_RATIO, SMALL = 1000, 1 << 24  # a picture over 16 MiB that is packed tighter than 1000 to 1 is a bomb
UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
CODECS = {  # transfer syntax -> (family, the plugin of pydicom that decodes it; its one for openjpeg needs a further package)
    "1.2.840.10008.1.2.5": ("RLE", "pydicom"),
    "1.2.840.10008.1.2.4.50": ("JPEG", "pillow"),
    "1.2.840.10008.1.2.4.51": ("JPEG", "pillow"),
    "1.2.840.10008.1.2.4.80": ("JPEG-LS", "pyjpegls"),
    "1.2.840.10008.1.2.4.81": ("JPEG-LS", "pyjpegls"),
    **{f"1.2.840.10008.1.2.4.{n}": ("JPEG 2000", "") for n in (90, 91, 201, 202, 203)},
    **{f"1.2.840.10008.1.2.4.{n}": ("lossless JPEG", "") for n in (57, 70)},
}
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
_PLAIN = "decompress it first, e.g. with `gdcmconv --raw IN OUT` or `dcmdjpeg IN OUT`"
AGAIN = "copy or export the file again, or leave it out"


def stored_pixels(header: Dataset, where: str) -> np.ndarray:
    """The stored values of the one picture of a file, checked and decoded.

    Args:
        header: with PixelData. where: the file, for messages.

    Returns:
        [H, W] of 8 or 16 bit, or [H, W, 3] of 8 bit, RGB.

    Raises:
        InputError: no pixel data, or such as do not hold the picture that the header declares, are truncated or of a kind that is not read.
    """
    data = _pixel_data(header, where)
    samples = _check_size(header, data, where)
    pixels = _decoded(header, data, where)
    shape = tuple(int(number(header, k, where) or 0) for k in ("Rows", "Columns")) + (3,) * (samples != 1)
    depth = pixels.dtype.itemsize
    if pixels.shape != shape or depth > (2 if samples == 1 else 1) or 8 * depth < int(number(header, "BitsStored", where) or 0):
        raise InputError(where, "pixel data that decode to another size or depth than the header states",
                         " x ".join(map(str, shape)), AGAIN)
    _check_stored(header, pixels, where)
    return pixels


def _check_stored(header: Dataset, pixels: np.ndarray, where: str) -> None:
    """A compressed stream holds no overlays in its higher bits: what is there is grey that the header denies."""
    bits = int(number(header, "BitsStored", where) or 0)
    compressed = text(header.file_meta, "TransferSyntaxUID") in CODECS and not number(header, "PixelRepresentation", where)
    if compressed and pixels.dtype.kind == "u" and bits < 8 * pixels.dtype.itemsize and (pixels >> bits).any():
        raise InputError(where, f"compressed values up to {int(pixels.max())} under BitsStored {bits}", f"at most {(1 << bits) - 1}", AGAIN)


def _pixel_data(header: Dataset, where: str) -> bytes:
    try:
        data = header.get("PixelData")
    except Exception:
        data = None
    if not isinstance(data, bytes) or not data:
        raise InputError(where, "no pixel data", "a picture", AGAIN)
    return data


def _check_size(header: Dataset, data: bytes, where: str) -> int:
    """Samples of a pixel, once the pixel data can hold the picture that the header declares: checked before any decoding.

    Raises:
        InputError: too few or too many bytes, a code stream of another size, or one that ends early.
    """
    rows, columns, samples = (int(number(header, k, where) or 0) for k in ("Rows", "Columns", "SamplesPerPixel"))
    depth = int(number(header, "BitsAllocated", where) or 0) // 8
    size = rows * columns * samples * depth
    syntax = text(header.file_meta, "TransferSyntaxUID")
    if syntax in UNCOMPRESSED:
        if text(header, "PhotometricInterpretation").upper() == "YBR_FULL_422":
            size = size * 2 // 3
        spare = len(data) - size
        if spare < 0 or (spare > 1 and spare >= min(rows, columns) * depth):
            raise InputError(where, f"{len(data):,} bytes of pixels", f"{size:,} for {columns} x {rows} pixels", AGAIN)
        return samples
    if syntax not in CODECS:
        raise InputError(where, "a transfer syntax that is not read", "uncompressed, RLE, JPEG, lossless JPEG, JPEG-LS or JPEG 2000", _PLAIN)
    stream = _code_stream(data, where)
    if size > SMALL and size > MOST_RATIO * len(stream):
        raise InputError(where, f"{len(stream):,} bytes that would unpack to {size:,}", f"at most {MOST_RATIO} times as many", AGAIN)
    if (family := CODECS[syntax][0]) != "RLE":
        stated, lossless = _stated_size(stream, family)
        if lossless != (family == "lossless JPEG") or (lossless and samples != 1):
            raise InputError(where, f"a code stream of {'another process' if samples == 1 else 'colours'} as {family}", "one that its transfer syntax names, lossless ones of greys", _PLAIN)
        if stated != (rows, columns):
            found = "a code stream without a size" if stated is None else f"a code stream of {stated[1]} x {stated[0]} pixels"
            raise InputError(where, found, f"{columns} x {rows}, as the header says", AGAIN)
        if not stream.rstrip(b"\0").endswith(b"\xff\xd9"):
            raise InputError(where, "a code stream that ends early", "an end marker", AGAIN)
    return samples


def _code_stream(data: bytes, where: str) -> bytes:
    from pydicom.encaps import get_frame

    try:
        return get_frame(data, 0, number_of_frames=1)
    except Exception as e:
        raise InputError(where, f"compressed pixels that cannot be taken apart ({type(e).__name__})", "encapsulated pixel data", AGAIN) from None


def _stated_size(stream: bytes, family: str) -> tuple[tuple[int, int] | None, bool]:
    """(rows, columns) that a code stream states, None for none, and whether it is of JPEG's lossless process: decoders go by it and not by the header."""
    if family == "JPEG 2000":
        at = stream.find(b"\xff\x4f\xff\x51")  # start of the code stream and the SIZ marker (ISO 15444-1 A.5.1)
        if at < 0 or len(stream) < at + 24:
            return None, False
        right, bottom, left, top = struct.unpack_from(">4I", stream, at + 8)
        return (bottom - top, right - left), False
    at = 2
    while len(stream) >= at + 9 and stream[at] == 0xFF:
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):  # a start of frame
            return struct.unpack_from(">2H", stream, at + 5), marker == 0xC3  # T.81 table B.1
        at += 1 if marker == 0xFF else 2 + length  # 0xFF before a marker is filling
    return None, False


def _decoded(header: Dataset, data: bytes, where: str) -> np.ndarray:
    """The stored values [H, W], or [H, W, 3] RGB."""
    from imagecodecs import jpeg8_decode
    from openjpeg import decode
    from pydicom.pixels import pixel_array

    syntax = text(header.file_meta, "TransferSyntaxUID")
    family, plugin = CODECS.get(syntax, ("", ""))
    try:
        if family == "lossless JPEG" or (syntax == _JPEG_EXTENDED and int(number(header, "BitsStored", where) or 0) > 8):
            return jpeg8_decode(_code_stream(data, where))
        if family != "JPEG 2000":
            return pixel_array(header, index=0, decoding_plugin=plugin)
        pixels = decode(_code_stream(data, where))  # gives RGB for YBR_RCT and YBR_ICT
        grey = pixels.ndim == 3 and text(header, "PhotometricInterpretation").upper().startswith("YBR_FULL")
        return np.repeat(pixels[..., :1], 3, axis=2) if grey else pixels  # Y is the luma
    except Exception as e:  # decoders raise what the bytes lead them to
        raise InputError(where, f"pixel data that cannot be decoded ({type(e).__name__})", "a whole picture", AGAIN) from None

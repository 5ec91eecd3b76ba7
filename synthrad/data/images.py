"""Image files: PNG and JPEG, 8 or 16 bit, read as grey arrays; masks as their pixel values; resizing by policy."""

from __future__ import annotations

import colorsys
import hashlib
import os
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from synthrad.data.png import encode_png
from synthrad.errors import InputError, naming
from synthrad.files import file_digest

FORMATS = ("PNG", "JPEG")  # Pillow tries no other decoder: each is a way in for a crafted file
MOST_PIXELS = 50_000_000  # of a picture: a digitised film mammogram has 35 million; 164 kB of PNG can hold 169 million
MOST_SCANS = 200  # of a JPEG: progressive ones have some ten, and each costs a pass over the picture
POLICIES = ("letterbox", "squeeze")
_REPAIR = "give a PNG or JPEG file that opens in an image viewer"


def read_image(path: Path | str) -> np.ndarray:
    """Read one image as grey.

    Colour becomes grey by ITU-R 601 luma, transparency is dropped. Pillow reduces 16-bit colour (not 16-bit grey) to
    8 bit while decoding.

    Returns:
        [H, W] uint8 or uint16, the values as stored.

    Raises:
        InputError: the file is missing, not a PNG or JPEG, broken, or too large (MOST_PIXELS, MOST_SCANS).
    """
    with _opened(path) as picture:
        if picture.mode.startswith("I"):
            array = np.asarray(picture)
            if array.min(initial=0) < 0 or array.max(initial=0) > 65535:
                raise InputError(str(path), "pixel values beyond 16 bit", "8 or 16 bit", _REPAIR)
            return array.astype(np.uint16)
        if picture.mode in ("L", "LA", "1", "RGB", "RGBA"):
            return np.array(picture.convert("L"))
        return np.array(picture.convert("RGB").convert("L"))


def read_mask(path: Path | str) -> np.ndarray:
    """Read a mask's pixel values (palette indices of an indexed PNG), [H, W] uint8 or uint16.

    Raises:
        InputError: the file is missing or broken, or a colour picture whose channels differ.
    """
    with _opened(path) as picture:
        if picture.mode in ("L", "P"):
            return np.array(picture)
        if picture.mode == "1":
            return np.array(picture.convert("L"))
        if picture.mode.startswith("I"):
            return np.asarray(picture).astype(np.uint16)
        colours = np.asarray(picture.convert("RGB"))
    if (colours != colours[..., :1]).any():
        raise InputError(
            str(path), "a colour picture", "a mask with one value a pixel", "save it as a grey or indexed PNG"
        )
    return colours[..., 0].copy()


def image_size(path: Path | str) -> tuple[int, int]:
    """(height, width) from the file's header."""
    with _opened(path, header=True) as picture:
        return picture.height, picture.width


def is_deep(path: Path | str) -> bool:
    """Whether read_image would give uint16, from the file's header."""
    with _opened(path, header=True) as picture:
        return picture.mode.startswith("I")


def write_mask(path: Path | str, mask: np.ndarray) -> None:
    """Write an indexed PNG: pixel k is palette entry k (grey 0, then well separated colours)."""
    picture = Image.fromarray(np.ascontiguousarray(mask, dtype=np.uint8), mode="L")
    picture = picture.convert("P") if picture.mode != "L" else picture
    picture.putpalette(_palette())
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        picture.save(path, format="PNG", optimize=False)


def write_image(path: Path | str, image: np.ndarray) -> None:
    """Write a grey PNG of the array's depth, and nothing else, see `encode_png`.

    Args:
        path: of the PNG. image: [H, W] uint8 or uint16.

    Raises:
        TypeError: another dtype.
    """
    data = encode_png(image)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        Path(path).write_bytes(data)


def files_digest(paths: Sequence[Path | str | None]) -> str:
    """Digest of the files of one row: a single file's SHA-256, else the SHA-256 of theirs in order; "" for no file."""
    return joined_digest(["" if p is None else file_digest(p) for p in paths])


def joined_digest(digests: Sequence[str]) -> str:
    """One digest of those of the files of a row, see `files_digest`; "" is a file that is not there."""
    if len(digests) == 1 or not any(digests):
        return digests[0] if digests else ""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def fit(
    array: np.ndarray, size: tuple[int, int], policy: str, nearest: bool = False, pad: float = 0
) -> np.ndarray:
    """Resize [H, W] to `size`.

    Args:
        array: uint8, uint16 or float32.
        size: (height, width).
        policy: letterbox keeps the aspect and pads both sides evenly with `pad`; squeeze does not.
        nearest: for masks: values are picked, never mixed. Images are averaged over areas when they shrink
            and interpolated linearly when they grow.
        pad: the value around a letterboxed picture.
    """
    if policy not in POLICIES:
        raise InputError("resize", repr(policy), f"one of {', '.join(POLICIES)}")
    height, width = array.shape
    inner = size
    if policy == "letterbox":
        scale = min(size[0] / height, size[1] / width)
        inner = (max(1, min(size[0], round(height * scale))), max(1, min(size[1], round(width * scale))))
    small = _resize(array, inner, nearest)
    if inner == tuple(size):
        return small
    out = np.full(size, pad, dtype=array.dtype)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    out[top : top + inner[0], left : left + inner[1]] = small
    return out


def _resize(array: np.ndarray, size: tuple[int, int], nearest: bool) -> np.ndarray:
    if array.shape == tuple(size):
        return array.copy()
    if nearest:  # centres of the new pixels; Pillow has no nearest for every depth
        rows = ((np.arange(size[0]) + 0.5) * array.shape[0] / size[0]).astype(int)
        columns = ((np.arange(size[1]) + 0.5) * array.shape[1] / size[1]).astype(int)
        return array[rows[:, None], columns]
    shrinks = size[0] <= array.shape[0] and size[1] <= array.shape[1]
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    if array.dtype == np.uint8:
        return np.array(Image.fromarray(array).resize(size[::-1], method))
    small = np.array(Image.fromarray(array.astype(np.float32)).resize(size[::-1], method))
    if np.issubdtype(array.dtype, np.integer):
        limits = np.iinfo(array.dtype)
        small = np.clip(np.rint(small), limits.min, limits.max)
    return small.astype(array.dtype)


class _opened:
    """`Image.open` with the pixels loaded, or the `header` alone; every way in which that fails is one InputError naming the file."""

    def __init__(self, path: Path | str, header: bool = False):
        self.path, self.header = path, header

    def __enter__(self) -> Image.Image:
        try:
            if os.path.exists(self.path) and not os.path.isfile(self.path):
                raise InputError(str(self.path), "no regular file", "a PNG or JPEG image", _REPAIR)  # a pipe has no end
            self.picture = Image.open(self.path, formats=FORMATS)
            pixels = self.picture.width * self.picture.height
            if pixels > MOST_PIXELS:
                raise Image.DecompressionBombError(f"({pixels} pixels)")
            if not self.header:
                self._refuse_scans()
                self.picture.load()
        except InputError:
            raise
        except (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as e:
            raise _fault(self.path, e) from e
        return self.picture

    def _refuse_scans(self) -> None:
        if self.picture.format != "PNG" and (scans := Path(self.path).read_bytes().count(b"\xff\xda")) > MOST_SCANS:
            raise InputError(str(self.path), f"a JPEG of {scans:,} scans", f"at most {MOST_SCANS}", "save it again as PNG")

    def __exit__(self, *_: object) -> None:
        self.picture.close()


def _fault(path: Path | str, error: Exception) -> InputError:
    if isinstance(error, Image.DecompressionBombError):
        pixels = re.search(r"\((\d+) pixels\)", str(error))
        found = f"a picture of {int(pixels[1]):,} pixels" if pixels else "a picture too large to read"
        return InputError(str(path), found, f"at most {MOST_PIXELS:,}", "shrink it, or cut out what the task needs")
    found = (
        "no such file" if isinstance(error, FileNotFoundError) else f"a file that cannot be read ({error})"
    )
    return InputError(str(path), found, "a PNG or JPEG image", _REPAIR)


def _palette() -> bytes:
    # Golden-ratio hues: neighbouring indices (neighbouring teeth) look different; 0 is black, 255 is white.
    colours = (
        [(0.0, 0.0, 0.0)]
        + [colorsys.hsv_to_rgb(k * 0.61803 % 1, 0.75, 1.0) for k in range(1, 255)]
        + [(1.0, 1.0, 1.0)]
    )
    return bytes(round(255 * v) for colour in colours for v in colour)

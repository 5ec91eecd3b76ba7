"""From stored DICOM values to grey levels (PS3.3 C.11): Modality LUT, VOI LUT or window, MONOCHROME1, padding.

Padding (PixelPaddingValue, C.7.5.1.1.2) is no measurement: it gets the darkest level that the header allows, in MONOCHROME1 too. Every step maps one value to one value, so all of it is one table with an entry for each value that the stored bits can
hold: made from the header alone, it says which grey levels a file may have before a pixel is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthrad.data.dicom_fields import number
from synthrad.errors import InputError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

WINDOWS = ("none", "window")
SHIFT = 32768  # added where grey levels may be negative (Hounsfield units): 32768 is 0
_ANEW = "write the file anew by the software that made it, or leave it out"


@dataclass(frozen=True)
class GreyTable:
    """What each stored value becomes.

    Args:
        levels: [2 ** BitsStored] float64, the grey level of each code, rounded; it may lie beyond 16 bit.
        low, high: the lowest and the highest of them within 16 bit.
        shifted: whether SHIFT was added. doubtful: some level is beyond 16 bit, or rounding may have made one of two.
        padding: [2 ** BitsStored] bool, the codes that are no measurement; None where the header names none.
    """

    levels: np.ndarray
    low: int
    high: int
    shifted: bool = False
    doubtful: bool = False
    padding: np.ndarray | None = None

    def apply(self, codes: np.ndarray, where: str) -> np.ndarray:
        """Grey levels of pixels.

        Args:
            codes: [H, W] uint8 or uint16, the stored bits. where: the file, for messages.

        Returns:
            [H, W] uint8 where every level that the header allows fits, else uint16.

        Raises:
            InputError: levels beyond 16 bit, or levels that rounding would merge.
        """
        if self.doubtful:
            self._check(codes, where)
        kind = np.uint8 if self.high <= 255 else np.uint16
        if np.array_equal(self.levels, np.arange(len(self.levels))):
            return codes.astype(kind, copy=False)
        return np.clip(self.levels, 0, 65535).astype(kind)[codes]

    def _check(self, codes: np.ndarray, where: str) -> None:
        used = np.zeros(len(self.levels), dtype=bool)
        used[codes] = True
        levels = self.levels[used if self.padding is None else used & ~self.padding]
        if not len(levels):
            return
        if levels.min() < 0 or levels.max() > 65535:
            raise InputError(where, "grey levels beyond 16 bit after the rescale slope and intercept", "0 to 65535",
                             "take the display window: --window window")
        if len(np.unique(levels)) < len(levels):
            raise InputError(where, "a rescale slope that makes one whole number of several stored values",
                             "values that whole numbers can hold", "take the display window: --window window")


def grey_table(header: Dataset, window: str, where: str) -> GreyTable:
    """The table of one grey image.

    Args:
        header: with valid BitsStored and PixelRepresentation.
        window: none keeps the values of the Modality LUT (rescale slope and intercept) as whole numbers; window takes the
            first VOI LUT or window of the file to 0-255.
        where: the file, for messages.

    Raises:
        InputError: a table or window that is missing or makes no sense.
    """
    bits, inverted = int(number(header, "BitsStored", where) or 0), is_inverted(header)
    codes = np.arange(1 << bits)
    negative = codes >= (1 << bits) >> 1 if number(header, "PixelRepresentation", where) else np.zeros(len(codes), bool)
    stored = codes - (negative << bits)
    padding = _padding(header, stored, where)
    values, exact = _modality(header, stored, where)
    if window == "window":
        shares = _voi(header, values, where)
        shares = 1 - shares if inverted else shares
        return GreyTable(np.rint(255 * (shares if padding is None else np.where(padding, 0, shares))), 0, 255, padding=padding)
    levels = np.floor(values + 0.5)
    low, high = levels.min(), levels.max()
    shift = SHIFT if low < 0 else 0
    if inverted:
        levels = low + high - levels
    doubtful = not exact or low + shift < 0 or high + shift > 65535
    levels = levels if padding is None else np.where(padding, low, levels)
    low, high = (int(np.clip(v + shift, 0, 65535)) for v in (low, high))
    return GreyTable(levels + shift, low, high, shift > 0, doubtful, padding)


def is_inverted(header: Dataset) -> bool:
    """Whether the lowest value is white (MONOCHROME1)."""
    return str(header.get("PhotometricInterpretation", "")).strip().upper() == "MONOCHROME1"


def _padding(header: Dataset, stored: np.ndarray, where: str) -> np.ndarray | None:
    """Which stored values are padding, from PixelPaddingValue to PixelPaddingRangeLimit; None for none, or where that would be all."""
    first, last = number(header, "PixelPaddingValue", where), number(header, "PixelPaddingRangeLimit", where)
    if first is None:
        return None
    signed = bool(stored.min() < 0)
    ends = [v - 65536 if signed and v > 32767 else v + 65536 if not signed and v < 0 else v for v in (first, first if last is None else last)]
    found = (stored >= min(ends)) & (stored <= max(ends))
    return found if found.any() and not found.all() else None


def _modality(header: Dataset, stored: np.ndarray, where: str) -> tuple[np.ndarray, bool]:
    """Values after the Modality LUT, float64, and whether they are whole numbers (C.11.1)."""
    if (item := _first_item(header, "ModalityLUTSequence", where)) is not None:
        first, entries, _ = _lookup_table(item, "ModalityLUTSequence", header, bool(stored.min() < 0), where)
        return entries[np.clip(stored - first, 0, len(entries) - 1)].astype(np.float64), True
    slope, intercept = number(header, "RescaleSlope", where), number(header, "RescaleIntercept", where)
    slope, intercept = 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    if slope == 0 or max(abs(slope), abs(intercept)) > 1e9:
        raise InputError(where, "a rescale slope of 0, or a slope or intercept beyond 1e9", "a slope that keeps values apart", _ANEW)
    return stored * slope + intercept, float(slope).is_integer() and float(intercept).is_integer()


def _voi(header: Dataset, values: np.ndarray, where: str) -> np.ndarray:
    """Shares of full brightness, 0 to 1 (C.11.2): the VOI LUT where there is one, else the window; the first of several."""
    if (item := _first_item(header, "VOILUTSequence", where)) is not None:
        first, entries, bits = _lookup_table(item, "VOILUTSequence", header, bool(values.min() < 0), where)
        index = np.clip(np.rint(values).astype(np.int64) - first, 0, len(entries) - 1)
        return np.minimum(entries[index] / ((1 << bits) - 1), 1.0)
    center, width = number(header, "WindowCenter", where), number(header, "WindowWidth", where)
    if center is None or width is None:
        raise InputError(where, "neither a window nor a VOI LUT", "WindowCenter and WindowWidth", "take the values as they are: --window none")
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise InputError(where, "a VOILUTFunction that the standard does not have", "LINEAR, LINEAR_EXACT or SIGMOID", "take --window none")
    if width < (1 if function == "LINEAR" else 1e-6):
        raise InputError(where, "a WindowWidth that is too small", "1 or more", "take the values as they are: --window none")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -500, 500)))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)


def _first_item(header: Dataset, keyword: str, where: str) -> Dataset | None:
    try:
        items = header.get(keyword)
        return items[0] if items else None
    except Exception:
        raise InputError(where, f"a {keyword} that cannot be read", "a sequence", _ANEW) from None


def _lookup_table(item: Dataset, keyword: str, header: Dataset, signed: bool, where: str) -> tuple[int, np.ndarray, int]:
    """(first value mapped, entries, bits of an entry) of a LUT item (C.11.1.1); signed: the values that it maps may be negative."""
    try:
        count, first, bits = (int(v) for v in item.LUTDescriptor)
        count = count or 65536
        data = item.LUTData
        if isinstance(data, bytes):
            kind = "u1" if len(data) < 2 * count else ">u2" if header.original_encoding[1] is False else "<u2"
            data = np.frombuffer(data, dtype=kind, count=count)
        entries = np.asarray(data, dtype=np.int64)[:count]
        if not (8 <= bits <= 16 and len(entries) == count and 0 <= entries.min() and entries.max() < 1 << 16):
            raise ValueError
    except Exception:
        raise InputError(where, f"a {keyword} whose table does not fit its LUTDescriptor",
                         "as many entries as it states, of 8 to 16 bit", _ANEW) from None
    return first - 65536 if signed and first > 32767 else first, entries, bits

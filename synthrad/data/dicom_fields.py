"""Fields of a DICOM header as numbers and text; no message repeats a value, for any field may hold a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from synthrad.errors import InputError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def number(header: Dataset, keyword: str, where: str) -> float | None:
    """A number of the header, the first of several; None where it is missing or blank.

    Raises:
        InputError: it is no finite number. The value itself is not told: a field may hold what it should not.
    """
    try:
        value: Any = header.get(keyword)
        if value is not None and not isinstance(value, str | bytes | int | float):
            value = value[0] if len(value) else None
        if value is None or value in ("", b""):
            return None
        found = float(value)
    except Exception:  # pydicom converts when it is asked, and raises what the bytes lead it to
        found = float("nan")
    if not np.isfinite(found):
        raise InputError(where, f"a {keyword} that is no number", "a number",
                         "write the file anew by the software that made it, or leave it out") from None
    return found


def text(header: Dataset, keyword: str) -> str:
    """A field as text, "" where it is missing or cannot be read; the first of several."""
    try:
        value: Any = header.get(keyword)
        if value is not None and not isinstance(value, str):
            value = str(value[0]) if type(value).__name__ == "MultiValue" and len(value) else str(value)
        return (value or "").strip(" \0")
    except Exception:
        return ""

"""Masks as run lengths, in the forms that published tables of radiographs have.

Both forms are text, pairs of numbers, and run down the columns: pixel n of an [H, W] mask is row n mod H, column n // H.

- relative: "gap length gap length ...": a gap is counted from the end of the run before it, the first from pixel 0
  (SIIM-ACR pneumothorax, CANDID-PTX);
- absolute: "start length start length ...": starts count from 1 (most other Kaggle tables, such as Airbus ships).

-1 is a mask without a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthrad.errors import InputError

FORMS = ("relative", "absolute")
EMPTY = "-1"
Region = tuple[str, str]  # table, row and column, for messages; run lengths


def decode(text: str, shape: tuple[int, int], form: str, where: str) -> np.ndarray:
    """A mask from its run lengths.

    Args:
        text: pairs of whole numbers, or -1. shape: (height, width) of the picture that was annotated.
        form: relative or absolute. where: file, row and column, for messages.

    Returns:
        [H, W] bool.

    Raises:
        InputError: no pairs of whole numbers, or runs beyond the picture.
    """
    height, width = shape
    pixels = height * width
    if text.strip() in (EMPTY, "-1.0"):  # a column read as numbers once
        return np.zeros(shape, dtype=bool)
    try:
        numbers = np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        numbers = np.zeros(0, dtype=np.int64)
    if not len(numbers) or len(numbers) % 2:
        raise InputError(where, "run lengths that are no pairs of whole numbers", "two numbers a run, or -1 for an empty mask",
                         "leave the row out, or get the table again")
    first, lengths = numbers[::2], numbers[1::2]
    if numbers.min() < 0 or numbers.max() > pixels:
        raise _beyond(where, shape, form)
    ends = np.cumsum(first + lengths) if form == "relative" else first - 1 + lengths
    starts = ends - lengths
    if starts.min() < 0 or ends.max() > pixels:
        raise _beyond(where, shape, form)
    steps = np.zeros(pixels + 1, dtype=np.int32)  # runs may overlap
    np.add.at(steps, starts, 1)
    np.add.at(steps, ends, -1)
    return (np.cumsum(steps[:-1]) > 0).reshape(width, height).T


def united(regions: Sequence[Region], shape: tuple[int, int], form: str) -> np.ndarray:
    """[H, W] bool: all regions of one image, see `decode`."""
    return np.logical_or.reduce([decode(text, shape, form, where) for where, text in regions])


def contradiction(regions: Sequence[Region]) -> list[str]:
    """The fault of an image that has -1 and run lengths; none of others."""
    empty = [text == EMPTY for _, text in regions]
    if not any(empty) or all(empty):
        return []
    return [f"{regions[empty.index(True)][0]}: found -1, which says none, and run lengths in {regions[empty.index(False)][0]} of the same image; "
            "remove one"]


def _beyond(where: str, shape: tuple[int, int], form: str) -> InputError:
    return InputError(where, "runs that leave the picture", f"{form} run lengths of {shape[1]} x {shape[0]} pixels",
                      "run lengths hold for the published size: give pictures of that size, and the table's own form")

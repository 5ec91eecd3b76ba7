"""Regions as COCO writes them: polygons, and run lengths down the columns, plain or packed into text.

pycocotools allocates and writes what coordinates and counts ask for, so all of them are checked here before it sees them.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthrad.errors import InputError

SLACK = 2.0  # pixels that an outline may pass the edge by rounding
LONGEST = 2_000_000  # pixels along an outline; pycocotools holds 40 bytes for each
_DIGITS = 13  # characters of five bits that a 64-bit count can have


@dataclass(frozen=True)
class Region:
    """Run lengths of a region: pixels outside and inside by turns, down the columns. area: pixels inside."""

    counts: np.ndarray
    shape: tuple[int, int]

    @property
    def area(self) -> int:
        """Pixels inside."""
        return int(self.counts[1::2].sum())

    def mask(self) -> np.ndarray:
        """[H, W] bool."""
        values = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(values, self.counts).reshape(self.shape[::-1]).T


def region_of(mark: Mapping[str, Any], shape: tuple[int, int], where: str, boxes: bool = False) -> Region:
    """The region of an annotation.

    Args:
        mark: with `segmentation` (outlines or run lengths), or with `bbox` where `boxes`.
        shape: (height, width) of the annotated picture. where: for messages.

    Raises:
        InputError: neither of them, numbers that are none or lie outside the picture, run lengths of another size.
    """
    found = mark.get("segmentation")
    if boxes:
        return _outlined([_box(mark.get("bbox"), where)], shape, where)
    if isinstance(found, Mapping):
        return _run_lengths(found, shape, where)
    if not isinstance(found, list) or not found:
        raise InputError(where, "no segmentation", "outlines or run lengths", "draw boxes with --boxes")
    return _outlined([_outline(part, where) for part in found], shape, where)


def _numbers(values: Any, where: str) -> np.ndarray:
    try:
        if not isinstance(values, list) or any(isinstance(v, bool | str) for v in values):
            raise TypeError
        numbers = np.array(values, dtype=np.float64)
        if numbers.ndim != 1 or not np.isfinite(numbers).all():
            raise ValueError
    except (TypeError, ValueError, OverflowError) as e:
        raise InputError(where, reprlib.repr(values), "a list of finite numbers", "export the annotations again") from e
    return numbers


def _outline(part: Any, where: str) -> np.ndarray:
    points = _numbers(part, where)
    if len(points) < 6 or len(points) % 2:
        raise InputError(where, f"an outline of {len(points)} numbers", "x, y, x, y ... of three points or more", "use --boxes")
    return points


def _box(values: Any, where: str) -> np.ndarray:
    box = _numbers(values if values is not None else [], where)
    if len(box) != 4 or (box[2:] < 0).any():
        raise InputError(where, f"the bbox {reprlib.repr(values)}", "x, y, width, height", "leave --boxes out, or export the annotations again")
    x, y, w, h = box
    return np.array([x, y, x + w, y, x + w, y + h, x, y + h])


def _outlined(parts: list[np.ndarray], shape: tuple[int, int], where: str) -> Region:
    """The union of polygons, as pycocotools fills them."""
    from pycocotools import mask as coco

    height, width = shape
    for points in parts:
        x, y = points[::2], points[1::2]
        if x.min() < -SLACK or y.min() < -SLACK or x.max() > width + SLACK or y.max() > height + SLACK:
            raise InputError(where, f"an outline from x, y = {x.min():g}, {y.min():g} to {x.max():g}, {y.max():g}", f"one inside {width} x {height}",
                             "if the image was shrunk after it was annotated, give --annotation-size W H")
        length = np.maximum(np.abs(np.diff(x, append=x[0])), np.abs(np.diff(y, append=y[0]))).sum()
        if length > LONGEST:
            raise InputError(where, f"an outline that is {length:,.0f} pixels long", f"at most {LONGEST:,}", "export the region as run lengths")
    clipped = [np.clip(p, 0, np.tile([width, height], len(p) // 2)).tolist() for p in parts]
    packed = coco.merge(coco.frPyObjects(clipped, height, width))
    return Region(_unpacked(packed["counts"].decode(), where), shape)


def _run_lengths(found: Mapping[str, Any], shape: tuple[int, int], where: str) -> Region:
    if found.get("size") != list(shape):
        raise InputError(where, f"run lengths of the size {reprlib.repr(found.get('size'))}", f"[height, width] = {list(shape)}, of the annotated picture",
                         "if the image was shrunk after it was annotated, give --annotation-size W H")
    given = found.get("counts")
    if isinstance(given, str):
        counts = _unpacked(given, where)
    else:
        counts = _numbers(given, where)
        if (counts != np.rint(counts)).any() or (counts > shape[0] * shape[1]).any():
            raise InputError(where, "run lengths that are no pixel counts", "whole numbers", "export the annotations again")
        counts = counts.astype(np.int64)
    if (counts < 0).any() or int(counts.sum()) != shape[0] * shape[1]:
        raise InputError(where, f"run lengths that sum to {int(counts.sum())}", f"{shape[0] * shape[1]} = {shape[0]} x {shape[1]}, none below 0",
                         "export the annotations again")
    return Region(counts, shape)


def _unpacked(text: str, where: str) -> np.ndarray:
    """Counts of COCO's text: five bits a character from 48 on, low ones first; from the fourth count on the difference to the one before the last."""
    counts: list[int] = []
    value = digits = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or digits == _DIGITS:
            raise InputError(where, f"the run lengths {text[:30]!r}", "text as pycocotools writes it", "export the annotations again")
        value |= (code & 31) << (5 * digits)
        digits += 1
        if not code & 32:
            if code & 16:
                value -= 1 << (5 * digits)
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = digits = 0
    if digits or max(map(abs, counts), default=0) > 2**40:
        raise InputError(where, f"the run lengths {text[:30]!r}, cut short or out of range", "text as pycocotools writes it", "export the annotations again")
    return np.array(counts, dtype=np.int64)

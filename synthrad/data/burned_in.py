"""Text burned into pictures: rows of thin, sharp, similar marks, found by classical means and without knowing any letter.

A name or a date drawn on a radiograph is a row of marks that are thin, of about one height, on one line, close together, of one
brightness far from what surrounds them. Each scale of the picture is searched for bright and for dark marks: what a grey opening (closing)
takes away is thin, what of it stands out is a mark, and marks that line up are text. A single letter, as the L and R of a side, lines up
with nothing and is not reported; neither is handwriting, text that is fainter than 15 % of the picture's range, or higher than a tenth of it.
It warns; it does not vouch for a picture that it says nothing of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

SCALES = (1, 2, 4, 8)  # a mark is up to HIGHEST pixels high at one of them
LEAST = {0.3: 4, 0.15: 6}  # contrast of marks to their surroundings, of the range of the picture -> marks in a row, at least
THICKEST = 5  # pixels of a stroke
LOWEST, HIGHEST = 5, 26  # pixels of a mark's height
PART = 10  # of the shorter side: higher marks are anatomy
LARGEST = 2048  # pixels of the longer side: what is larger is shrunk first


@dataclass(frozen=True)
class Text:
    """One row of marks.

    Args:
        top, left, height, width: its box in pixels of the picture. marks: how many.
    """

    top: int
    left: int
    height: int
    width: int
    marks: int


def find_text(image: np.ndarray) -> list[Text]:
    """Rows of marks in a picture, [H, W] of any depth; the longest first."""
    grey = _eight_bits(image)
    shrunk = max(1, -(-max(grey.shape) // LARGEST))
    found = []
    for scale in SCALES:
        small = _shrink(grey, scale * shrunk)
        if min(small.shape) < 2 * LOWEST:
            break
        for bright in (True, False):
            thin = _thin(small, bright)
            for contrast, least in LEAST.items():
                found += [_times(t, scale * shrunk) for t in _rows(thin, contrast, least)]
    return _apart(found)


def _eight_bits(image: np.ndarray) -> np.ndarray:
    """uint8, the range between the picture's extremes stretched to 0-255."""
    low, high = float(image.min()), float(image.max())
    return np.zeros(image.shape, np.uint8) if high <= low else ((image - low) * (255 / (high - low))).astype(np.uint8)


def _shrink(grey: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return grey
    size = max(1, grey.shape[1] // factor), max(1, grey.shape[0] // factor)
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX))


def _thin(grey: np.ndarray, bright: bool) -> np.ndarray:
    """int16 [H, W]: how far bright (or dark) strokes stand out."""
    least, most = (np.minimum, np.maximum) if bright else (np.maximum, np.minimum)
    return np.abs(grey.astype(np.int16) - _over(_over(grey, least), most))  # less its opening, or its closing less it


def _over(grey: np.ndarray, extreme: np.ufunc) -> np.ndarray:
    """The extreme of the square of THICKEST + 2 pixels around each; an edge counts as mirrored. In whole rows, far faster than a filter of SciPy."""
    side = THICKEST + 2
    for axis in (0, 1):
        lines = np.pad(grey, [(side // 2, side // 2) if a == axis else (0, 0) for a in (0, 1)], mode="symmetric").swapaxes(0, axis)
        reach = 1
        while reach < side:  # extremes of twice as many lines each time
            step = min(reach, side - reach)
            lines, reach = extreme(lines[:-step], lines[step:]), reach + step
        grey = lines.swapaxes(0, axis)
    return grey


def _rows(thin: np.ndarray, contrast: float, least: int) -> list[Text]:
    """Text of one polarity at one scale."""
    labels, number = ndimage.label(thin > 255 * contrast, structure=np.ones((3, 3)))
    return [_text(row) for row in _lines(_marks(labels, thin, number)) if len(row) >= least and _regular(row)] if number else []


def _marks(labels: np.ndarray, thin: np.ndarray, number: int) -> np.ndarray:
    """[n, 5]: top, left, bottom, right and mean contrast of what may be a letter."""
    inside = np.flatnonzero(labels)
    of = labels.ravel()[inside]
    area = np.bincount(of, minlength=number + 1)
    large = area >= LOWEST
    of = np.where(large, np.cumsum(large), 0)[of]
    area = area[large]
    contrast = np.bincount(of, thin.ravel()[inside], minlength=len(area) + 1)[1:] / area
    labels = np.zeros_like(labels)
    labels.ravel()[inside] = of  # grain is thousands of specks: their boxes are not looked for
    boxes = np.array([(y.start, x.start, y.stop, x.stop) for y, x in ndimage.find_objects(labels)], float).reshape(-1, 4)
    high, wide = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    filled = area / (high * wide)
    letters = (high >= LOWEST) & (high <= min(HIGHEST, min(thin.shape) / PART + 1)) & (wide <= 2.5 * high) & (filled > 0.12)
    return np.column_stack([boxes, contrast])[letters]


def _lines(marks: np.ndarray) -> list[np.ndarray]:
    """Marks that follow each other: of similar height and contrast, their middles on one line, gaps below a letter."""
    marks = marks[np.argsort(marks[:, 1], kind="stable")] if len(marks) else marks
    after, taken, lines = {}, set(), []
    for i, a in enumerate(marks):
        high = a[2] - a[0]
        for j in range(i + 1, len(marks)):
            b = marks[j]
            gap = b[1] - a[3]
            if gap > 1.2 * high:
                break
            tall = b[2] - b[0]
            level = min(abs(a[2] - b[2]), abs(a[0] + a[2] - b[0] - b[2]) / 2)
            if gap >= -0.3 * high and 0.6 <= tall / high <= 1.67 and level <= 0.25 * max(high, tall) and 0.5 <= b[4] / a[4] <= 2:
                after[i] = j
                break
    for i in range(len(marks)):
        if i in taken:
            continue
        line = [i]
        while (j := after.get(line[-1])) is not None and j not in taken:
            line.append(j)
        taken.update(line)
        lines.append(marks[line])
    return lines


def _regular(row: np.ndarray) -> bool:
    """Whether heights, feet and contrasts of a row are those of text rather than of bones or teeth."""
    high = row[:, 2] - row[:, 0]
    feet, middles = row[:, 2], (row[:, 0] + row[:, 2]) / 2
    slope = np.polyfit(row[:, 1], middles, 1)[0]
    straight = min(feet.std(), middles.std()) <= 0.15 * np.median(high) + 0.3
    return bool(straight and abs(slope) < 0.1 and high.std() <= 0.3 * high.mean() and row[:, 4].std() <= 0.3 * row[:, 4].mean())


def _text(row: np.ndarray) -> Text:
    top, left, bottom, right = row[:, 0].min(), row[:, 1].min(), row[:, 2].max(), row[:, 3].max()
    return Text(int(top), int(left), int(bottom - top), int(right - left), len(row))


def _times(text: Text, factor: int) -> Text:
    return Text(text.top * factor, text.left * factor, text.height * factor, text.width * factor, text.marks)


def _apart(found: list[Text]) -> list[Text]:
    """Without what overlaps a longer row: the same text at two scales."""
    kept: list[Text] = []
    for t in sorted(found, key=lambda t: -t.marks):
        if not any(t.top < k.top + k.height and k.top < t.top + t.height and t.left < k.left + k.width and k.left < t.left + t.width for k in kept):
            kept.append(t)
    return kept

"""Near copies of pictures in a set: re-encoded, resized, mirrored and cropped ones, under any subject.

Radiographs of one body part all look alike, so two pictures are not compared as they are but by how they differ from the set's mean.

1. Candidates. Every picture is seen whole, mirrored, turned by 180 degrees and as crops of up to 15 % an axis, each with and without a mirror
   image (`VIEWS`). The lowest 63 frequencies of a view's cosine transform, less that view's mean over the set and whitened by its covariance,
   are a row of one matrix product with all pictures. Each picture keeps the most similar ones over all views.
2. Verification. Candidates are laid on each other by Gauss-Newton steps over scale and shift of both axes. What is compared is structure without
   shading, less the mean of the view, by correlation: the likeness.
3. Threshold. What the most similar pictures reach whom nothing links decides, in this very set (`threshold_of`).

Turns by other angles, blends, inverted pictures and local changes are not looked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage

from synthrad.data.images import fit

FULL, SIDE = 64, 32  # pixels of a side: of what is kept of a picture, and of what is compared
LOW = 8  # cosine frequencies an axis of the first stage
KEPT, REFINED = 6, 3  # candidates of a picture that are laid on it once, and until they fit
STEPS = 4  # Gauss-Newton steps
ROWS, PAIRS = 1024, 1024  # pictures of a matrix product, pairs laid on each other at once
MARGINS = ((0.0, 0.0), (0.075, 0.0), (0.0, 0.075), (0.15, 0.0), (0.075, 0.075), (0.0, 0.15))  # cut off before and after, of an axis
RIDGE = 0.1  # of a covariance, as a share of its mean eigenvalue
FEW = 32  # pictures whose mean counts half: the mean of a few pictures is mostly they themselves
SHADING = 1 / 8  # deviation of the blur that is taken away, as a share of the side
BORDER = 2  # compared pixels that are left out on each side
SOFT = 1.75  # half width of the kernel that a picture is laid on another with, in compared pixels
TAIL = 3.75  # distances from median to upper quartile, beyond the median, that pictures without a link do not reach
LEAST, MOST = 0.9, 0.96  # bounds of the threshold, for small sets and for sets with many copies
SCALE, SHIFT = (0.7, 1.3), 0.2  # limits of the fit


class View(NamedTuple):
    """How a picture is seen: (before, after) cut off each axis, turned upside down, mirrored."""

    rows: tuple[float, float] = MARGINS[0]
    columns: tuple[float, float] = MARGINS[0]
    upside_down: bool = False
    mirrored: bool = False

    @property
    def place(self) -> tuple[float, float, float, float]:
        """Scale and shift of rows, then of columns, as shares of the side."""
        (a, b), (c, d) = self.rows, self.columns
        return 1 - a - b, (a - b) / 2, 1 - c - d, (c - d) / 2


VIEWS = (*(View(r, c, False, m) for m in (False, True) for r in MARGINS for c in MARGINS), View(upside_down=True), View(upside_down=True, mirrored=True))


class Pair(NamedTuple):
    """Two pictures (first < second) and their likeness, at most 1."""

    first: int
    second: int
    likeness: float


def picture_of(channels: Sequence[np.ndarray]) -> np.ndarray:
    """A row's channels [H, W] at FULL x FULL, each of mean 0 and deviation 1, averaged: float32 [FULL, FULL]; 0 where all are flat."""
    parts = []
    for pixels in channels:
        small = fit(pixels.astype(np.float32), (FULL, FULL), "squeeze")
        small -= small.mean()
        deviation = float(small.std())
        parts.append(small / deviation if deviation > 1e-3 else np.zeros_like(small))
    return np.mean(parts, axis=0, dtype=np.float32)


def near_copies(pictures: np.ndarray, owners: Sequence[object], done: Callable[[int], object] | None = None) -> tuple[list[Pair], float]:
    """Pairs that show one picture and have different owners.

    Args:
        pictures: float32 [n, FULL, FULL] as `picture_of` gives them. owners: [n] subjects; pictures of one owner are never compared: studies of one
            patient look alike. done: called with the number of views worked through, of len(VIEWS).

    Returns:
        the pairs, most alike first, and the threshold.
    """
    alive = np.flatnonzero(np.einsum("nij,nij->n", pictures, pictures) > 0)
    if len(alive) < 2:
        return [], MOST
    pictures, owners = np.ascontiguousarray(pictures[alive], np.float32), np.unique([str(owners[i]) for i in alive], return_inverse=True)[1]
    first, second, view = _candidates(pictures, owners, done or (lambda number: None))
    if not len(first):
        return [], MOST
    first, second, likeness = _Aligned(pictures).likeness(first, second, view)
    best = np.full(len(pictures), -1.0)
    np.maximum.at(best, first, likeness)
    np.maximum.at(best, second, likeness)
    threshold = threshold_of(best[best > -1])
    found: dict[tuple[int, int], float] = {}
    for a, b, value in zip(alive[first].tolist(), alive[second].tolist(), likeness.tolist(), strict=True):
        if value >= threshold:
            key = (min(a, b), max(a, b))
            found[key] = max(value, found.get(key, -1.0))
    return sorted((Pair(a, b, v) for (a, b), v in found.items()), key=lambda p: (-p.likeness, p.first, p.second)), threshold


def threshold_of(best: np.ndarray) -> float:
    """The likeness above which two pictures are one, from each picture's highest one: by Fisher's z, so far beyond the median as no picture without a
    copy comes in a set in which fewer than a quarter have one; between LEAST and MOST."""
    middle, upper = np.quantile(np.arctanh(np.clip(best, -0.999, 0.9999)), (0.5, 0.75))
    return float(np.clip(math.tanh(middle + TAIL * (upper - middle)), LEAST, MOST))


def _candidates(pictures: np.ndarray, owners: np.ndarray, done: Callable[[int], object]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each picture up to KEPT others that look most like it under some view, [k] each: picture, other, number of the view of the first."""
    n, order = len(pictures), np.argsort(owners, kind="stable")  # one owner's pictures lie beside each other
    low, high = (np.searchsorted(owners[order], owners[order], side) for side in ("left", "right"))
    flat = pictures.reshape(n, SIDE, FULL // SIDE, SIDE, FULL // SIDE).mean((2, 4)).reshape(n, -1)[order]
    whole = _unit(flat @ _transform(VIEWS[0]))
    best, other = np.full((len(VIEWS), n), -1.0, np.float32), np.zeros((len(VIEWS), n), np.int64)
    for number, view in enumerate(VIEWS):
        seen = _unit(flat @ _transform(view))
        mean, whitening = _statistics(seen)
        views, pool = _unit((seen - mean) @ whitening), np.ascontiguousarray(_unit((whole - mean) @ whitening).T)
        for top in range(0, n, ROWS):
            rows = slice(top, min(top + ROWS, n))
            product = views[rows] @ pool
            for row, (a, b) in enumerate(zip(low[rows].tolist(), high[rows].tolist(), strict=True)):
                product[row, a:b] = -1
            at = product.argmax(1)
            best[number, order[rows]], other[number, order[rows]] = product[np.arange(len(at)), at], order[at]
        done(1)
    return _most_alike(best, other)


def _most_alike(best: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of [views, n] highest products and whose they are: the KEPT different others of each picture under their best views."""
    kept: list[tuple[int, int, int]] = []
    for picture, ranked in enumerate(np.argsort(-best, axis=0, kind="stable").T):
        met: set[int] = set()
        for view in ranked:
            if best[view, picture] <= 0 or len(met) == KEPT:
                break
            if (found := int(other[view, picture])) not in met:
                met.add(found)
                kept.append((picture, found, int(view)))
    first, second, view = np.array(kept, dtype=np.int64).reshape(-1, 3).T
    return first, second, view


def _statistics(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (drawn to 0 where there are few) and whitening matrix of rows [n, d]."""
    mean = rows.mean(0) * (len(rows) / (len(rows) + FEW))
    values, vectors = np.linalg.eigh(np.cov((rows - mean).T))
    values = np.maximum(values, 0)
    return mean, (vectors / np.sqrt(values + RIDGE * values.mean() + 1e-9)).astype(np.float32)


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)).astype(np.float32)


def _transform(view: View) -> np.ndarray:
    """[SIDE^2, LOW^2 - 1]: from flat pictures to the low frequencies of a view; the mean is left out."""
    cosine = fft.dct(np.eye(SIDE), axis=0, norm="ortho")[:LOW]
    rows, columns = _sampling(view.rows), _sampling(view.columns)
    rows, columns = rows[:, ::-1] if view.upside_down else rows, columns[:, ::-1] if view.mirrored else columns
    return np.kron(cosine @ rows, cosine @ columns)[1:].T.astype(np.float32)


def _sampling(margins: tuple[float, float]) -> np.ndarray:
    """[SIDE, SIDE]: an axis without its margins, stretched to its length again, linearly."""
    place = np.clip((margins[0] + (np.arange(SIDE) + 0.5) / SIDE * (1 - sum(margins))) * SIDE - 0.5, 0, SIDE - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(SIDE)))


class _Aligned:
    """Likeness of pairs of pictures that are laid on each other.

    Args:
        pictures: [n, FULL, FULL].
    """

    def __init__(self, pictures: np.ndarray):
        self.pictures = pictures
        self.centres = ((np.arange(SIDE) + 0.5) / SIDE - 0.5).astype(np.float32)
        inside = np.zeros((SIDE, SIDE), bool)
        inside[BORDER:-BORDER, BORDER:-BORDER] = True
        self.border = ~inside  # what lies beyond the edge of a crop is unknown, and shows in the kernel there
        self.blur = ndimage.gaussian_filter1d(np.eye(SIDE), SHADING * SIDE, axis=0, mode="nearest").astype(np.float32)
        self.whole = self._structure(self._laid(pictures, VIEWS[0].place))[0]
        some = pictures[np.random.default_rng(0).permutation(len(pictures))[:1000]]
        share = len(pictures) / (len(pictures) + FEW)
        self.means = np.stack([share * self._structure(self._laid(_turned(some, v.upside_down, v.mirrored), v.place))[0].mean(0) for v in VIEWS])
        self.starts = np.array([v.place for v in VIEWS], np.float32)
        self.turns = np.array([(v.upside_down, v.mirrored) for v in VIEWS])

    def likeness(self, first: np.ndarray, second: np.ndarray, view: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The REFINED pairs of each first picture that fit best after one step, [k] each: first, second, likeness after STEPS."""
        value, place = self._ascend(first, second, view, self.starts[view], 1)
        order = np.lexsort((-value, first))
        keep = np.sort(order[np.arange(len(order)) - np.searchsorted(first[order], first[order]) < REFINED])
        first, second = first[keep], second[keep]
        return first, second, self._ascend(first, second, view[keep], place[keep], STEPS - 1)[0]

    def _ascend(self, first: np.ndarray, second: np.ndarray, view: np.ndarray, start: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        best, where = np.full(len(first), -1.0, np.float32), start.copy()
        for top in range(0, len(first), PAIRS):
            part = slice(top, top + PAIRS)
            seen, place = self._seen(first[part], view[part]), start[part]
            for step in range(steps + 1):
                value, following = self._step(seen, second[part], view[part], place, step < steps)
                better = value > best[part]
                best[part], where[part] = np.where(better, value, best[part]), np.where(better[:, None], place, where[part])
                place = following
        return best, where

    def _seen(self, rows: np.ndarray, view: np.ndarray) -> np.ndarray:
        seen = self.pictures[rows]
        for down, mirrored in ((True, False), (False, True), (True, True)):
            these = (self.turns[view] == (down, mirrored)).all(1)
            seen[these] = _turned(seen[these], down, mirrored)
        return seen

    def _step(self, seen: np.ndarray, second: np.ndarray, view: np.ndarray, place: np.ndarray, move: bool) -> tuple[np.ndarray, np.ndarray]:
        """Likeness at a place [k, 4], and the place of the next step (the same where none is wanted)."""
        laid = self._laid(seen, place.T)
        structure, length = self._structure(laid)
        target, mean = self.whole[second], self.means[view]
        mine, theirs = structure - mean, target - mean
        value = np.minimum(np.einsum("nij,nij->n", mine, theirs) / (_length(mine) * _length(theirs)), 1)
        if not move:
            return value, place
        down, right = np.gradient(laid / length[:, None, None], 1 / SIDE, axis=(1, 2))
        down, right = down / place[:, 0, None, None], right / place[:, 2, None, None]
        slopes = np.stack([self._flat(g).reshape(len(seen), -1) for g in (down * self.centres[:, None], down, right * self.centres, right)], 1)
        products = slopes @ slopes.transpose(0, 2, 1)
        products += 1e-3 * np.trace(products, axis1=1, axis2=2)[:, None, None] * np.eye(4, dtype=np.float32) + 1e-9 * np.eye(4, dtype=np.float32)
        change = np.linalg.solve(products, slopes @ (target - structure).reshape(len(seen), -1, 1))[:, :, 0]
        following = place + np.clip(change, -0.1, 0.1)
        following[:, ::2] = np.clip(following[:, ::2], *SCALE)
        following[:, 1::2] = np.clip(following[:, 1::2], -SHIFT, SHIFT)
        return value.astype(np.float32), following.astype(np.float32)

    def _laid(self, pictures: np.ndarray, place: Sequence) -> np.ndarray:
        """[n, SIDE, SIDE] at scales and shifts (numbers or [n] each)."""
        rows, columns = self._kernel(place[0], place[1]), self._kernel(place[2], place[3])
        return rows @ pictures @ columns.swapaxes(-1, -2)

    def _kernel(self, scale: np.ndarray | float, shift: np.ndarray | float) -> np.ndarray:
        """[..., SIDE, FULL]: triangles around the places that the compared pixels come from, inside the picture."""
        scale, shift = np.asarray(scale, np.float32)[..., None], np.asarray(shift, np.float32)[..., None]
        place = np.clip((0.5 + shift + scale * self.centres) * FULL - 0.5, 0, FULL - 1)
        weight = np.maximum(0, 1 - np.abs(place[..., None] - np.arange(FULL, dtype=np.float32)) * (SIDE / FULL / SOFT))
        return weight / weight.sum(-1, keepdims=True)

    def _flat(self, pictures: np.ndarray) -> np.ndarray:
        """Without shading; two plain matrix products rather than n small ones."""
        blurred = (pictures.reshape(-1, SIDE) @ self.blur.T).reshape(pictures.shape).swapaxes(1, 2)
        return pictures - (np.ascontiguousarray(blurred).reshape(-1, SIDE) @ self.blur.T).reshape(pictures.shape).swapaxes(1, 2)

    def _structure(self, laid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Without shading and of length 1, [n, SIDE, SIDE], and the lengths, [n]."""
        structure = self._flat(laid)
        structure[:, self.border] = 0
        length = _length(structure)
        return structure / length[:, None, None], length


def _turned(pictures: np.ndarray, upside_down: bool, mirrored: bool) -> np.ndarray:
    return pictures[:, :: -1 if upside_down else 1, :: -1 if mirrored else 1]


def _length(pictures: np.ndarray) -> np.ndarray:
    return np.maximum(np.sqrt(np.einsum("nij,nij->n", pictures, pictures)), 1e-3)


def copies_between(ours: np.ndarray, theirs: np.ndarray, done: Callable[[int], object] | None = None) -> tuple[list[Pair], float]:
    """Pairs of a picture of one set and one of another that show the same; pictures of one set are not compared with each other.

    As `near_copies`, but for the threshold: the larger of what `threshold_of` finds on either side in the pairs below MOST. Those above are copies
    whatever it is, and of two sets all pictures may be the same.

    Args:
        ours, theirs: float32 [n, FULL, FULL] and [m, FULL, FULL] as `picture_of` gives them. done: called with the number of views worked through, of
            len(VIEWS).

    Returns:
        the pairs (first: a number of ours, second: of theirs), most alike first, and the threshold.
    """
    alive = [np.flatnonzero(np.einsum("nij,nij->n", side, side) > 0) for side in (ours, theirs)]
    count = len(alive[0])
    if not count or not len(alive[1]):
        return [], MOST
    pictures = np.concatenate([ours[alive[0]], theirs[alive[1]]], dtype=np.float32)
    first, second, view = _candidates_between(pictures, count, done or (lambda number: None))
    if not len(first):
        return [], MOST
    first, second, likeness = _Aligned(pictures).likeness(first, second, view)
    one, other = np.minimum(first, second), np.maximum(first, second) - count
    below = likeness < MOST
    sides = [_highest(numbers[below], likeness[below]) for numbers in (one, other)]
    threshold = max(threshold_of(best) if len(best) else LEAST for best in sides)
    found: dict[tuple[int, int], float] = {}
    for a, b, value in zip(alive[0][one].tolist(), alive[1][other].tolist(), likeness.tolist(), strict=True):
        if value >= threshold:
            found[a, b] = max(value, found.get((a, b), -1.0))
    return sorted((Pair(a, b, v) for (a, b), v in found.items()), key=lambda p: (-p.likeness, p.first, p.second)), threshold


def _highest(numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The highest of the values of each number, of those that have one."""
    best = np.full(numbers.max(initial=-1) + 1, -1.0)
    np.maximum.at(best, numbers, values)
    return best[best > -1]


def _candidates_between(pictures: np.ndarray, count: int, done: Callable[[int], object]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`_candidates` of two sets, the first `count` pictures and the rest: each picture's are of the other one."""
    n = len(pictures)
    flat = pictures.reshape(n, SIDE, FULL // SIDE, SIDE, FULL // SIDE).mean((2, 4)).reshape(n, -1)
    whole = _unit(flat @ _transform(VIEWS[0]))
    best, other = np.full((len(VIEWS), n), -1.0, np.float32), np.zeros((len(VIEWS), n), np.int64)
    sides = (slice(0, count), slice(count, n))
    for number, view in enumerate(VIEWS):
        seen = _unit(flat @ _transform(view))
        mean, whitening = _statistics(seen)
        views, pool = _unit((seen - mean) @ whitening), _unit((whole - mean) @ whitening)
        for mine, others in (sides, sides[::-1]):
            turned = np.ascontiguousarray(pool[others].T)
            for top in range(mine.start, mine.stop, ROWS):
                rows = slice(top, min(top + ROWS, mine.stop))
                product = views[rows] @ turned
                at = product.argmax(1)
                best[number, rows], other[number, rows] = product[np.arange(len(at)), at], at + others.start
        done(1)
    return _most_alike(best, other)

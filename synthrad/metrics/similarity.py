"""Similarity of images to a reference set: the highest normalised correlation and which image has it.

Pearson's correlation of pixels (as np.corrcoef), over the channels together: blind to brightness and contrast, so a
re-windowed copy still has correlation 1. Flat images have no correlation; theirs is 0 by definition here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

MEMORY = 64 * 2**20  # bytes of blocks held at once, whatever the size of the sets
MOST_PIXELS = 2**31 // 2**14 - 1  # of 8-bit images: their products of at most 2^14 then sum up below 2^31
FLAT = 1e-6  # norm per pixel below which an image counts as flat


class Nearest(NamedTuple):
    """For each query: its highest correlation, the index of that reference, and whether the query had to be flipped."""

    correlation: np.ndarray
    index: np.ndarray
    flipped: np.ndarray


class NearCopies(NamedTuple):
    """What `near_copies` finds: images above the threshold, the threshold, and how likely so many are by chance."""

    number: int
    threshold: float
    p: float


def near_copies(synthetic: np.ndarray, held_out: np.ndarray) -> NearCopies:
    """Synthetic images that resemble a training image more than every held-out real image does.

    If synthetic and held-out images were exchangeable, the k most similar of m + n would all be synthetic with probability
    C(m, k) / C(m + n, k), an exact tail without any assumption on the shape of the similarities. Held-out images of one
    patient resemble each other, so read a p near the border with care. A generator that only blurs also moves its images
    closer to all others: look at the pairs.

    Args:
        synthetic: [m], held_out: [n] similarity of each image to its nearest training image; NaN is left out.

    Returns:
        number, threshold (NaN without held-out images), p (1 if nothing can be said).
    """
    synthetic, held_out = (x[~np.isnan(x)] for x in (np.asarray(synthetic, float), np.asarray(held_out, float)))
    if not len(synthetic) or not len(held_out):
        return NearCopies(0, float("nan"), 1.0)
    m, n, threshold = len(synthetic), len(held_out), float(held_out.max())
    number = int((synthetic > threshold).sum())
    ranks = np.arange(number)
    return NearCopies(number, threshold, float(np.exp(np.log((m - ranks) / (m + n - ranks)).sum())))


def standardise(images: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and norm 1.

    Args:
        images: [n, ...] of any numeric type.

    Returns:
        float32 [n, pixels]; a flat image becomes all 0.
    """
    flat = np.asarray(images, dtype=np.float32).reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    norm = np.sqrt(np.square(flat, dtype=np.float64).sum(axis=1, keepdims=True))
    alive = norm > FLAT * np.sqrt(flat.shape[1])
    return np.where(alive, flat / np.where(alive, norm, 1.0), 0.0).astype(np.float32)


class _Queries:
    """Some images, and their correlations with others.

    uint8 images are compared by exact sums of products of integers: a multiple of the speed, and no rounding before the end. With
    a = query - 128 and b = other - 128 in int8, n pixels: r = (n sum ab - sum a sum b) / sqrt(n sum a^2 - (sum a)^2) / likewise b.
    """

    def __init__(self, images: np.ndarray):
        self.images = images
        self.small = images.dtype == np.uint8 and 0 < images[0].size <= MOST_PIXELS

    @cached_property
    def _integers(self) -> tuple[Any, np.ndarray, np.ndarray]:
        return _integers(self.images)

    @cached_property
    def _standard(self) -> np.ndarray:
        return standardise(self.images)

    def correlate(self, others: np.ndarray) -> np.ndarray:
        """float32 [queries, others]."""
        if not self.small or others.dtype != np.uint8:
            return self._standard @ standardise(others).T
        import torch

        (rows, totals, scale), (columns, theirs, their_scale) = self._integers, _integers(others)
        products = torch._int_mm(rows, columns.t()).numpy().astype(np.float64)
        products *= rows.shape[1] * scale[:, None]
        products -= (totals * scale)[:, None] * theirs
        products *= their_scale
        return products.astype(np.float32)


def _integers(images: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray]:
    """Rows less 128 as a torch int8 tensor, their sums, and what makes their products correlations (0 for flat ones)."""
    import torch

    flat = (np.ascontiguousarray(images).reshape(len(images), -1) ^ np.uint8(128)).view(np.int8)
    total = flat.sum(1, dtype=np.int64)
    squares = np.einsum("ij,ij->i", flat, flat, dtype=np.int64)
    spread = np.sqrt((flat.shape[1] * squares - total**2).astype(np.float64))
    alive = spread > FLAT * flat.shape[1]  # the norm of a centred image times the root of its pixels
    return torch.from_numpy(flat), total, np.where(alive, 1 / np.where(alive, spread, 1.0), 0.0)


def nearest_images(
    queries: np.ndarray,
    references: np.ndarray,
    *,
    flip: bool = False,
    exclude: np.ndarray | None = None,
    memory_bytes: int = MEMORY,
    progress: Callable[[int], object] | None = None,
) -> Nearest:
    """Highest correlation of each query with any reference, by blocked matrix products.

    Args:
        queries: [n, ..., W], any numeric type; memory maps are read block by block.
        references: [m, ..., W] of the same shape per image.
        flip: also compare the left-right mirrored query.
        exclude: bool [n, m], pairs that do not count (an image and itself, images of one subject).
        memory_bytes: bound on the float32 blocks held at once.
        progress: called with the number of queries done.

    Returns:
        correlation float32 [n] in [-1, 1], index int64 [n] (the lowest one of equals; -1 where every reference is
        excluded, correlation then NaN), flipped bool [n].
    """
    if queries.shape[1:] != references.shape[1:]:
        raise ValueError(
            f"queries are {queries.shape[1:]}, references {references.shape[1:]}: resize them to one size"
        )
    n, m = len(queries), len(references)
    pixels = int(np.prod(queries.shape[1:]))
    block = int(np.clip(memory_bytes // (16 * max(1, pixels)), 1, 2048))  # two blocks and their temporaries
    best = np.full(n, -np.inf, dtype=np.float32)
    index = np.full(n, -1, dtype=np.int64)
    flipped = np.zeros(n, dtype=bool)
    for first in range(0, n, block):
        rows = slice(first, min(first + block, n))
        views = [np.asarray(queries[rows])]
        views += [views[0][..., ::-1]] if flip else []
        against = [_Queries(v) for v in views]
        for start in range(0, m, block):
            columns = slice(start, min(start + block, m))
            reference = np.asarray(references[columns])
            for mirrored, view in enumerate(against):
                products = view.correlate(reference)
                if exclude is not None:
                    products[exclude[rows, columns]] = -np.inf
                at = products.argmax(axis=1)
                value = products[np.arange(len(at)), at]
                better = value > best[rows]
                best[rows] = np.where(better, value, best[rows])
                index[rows] = np.where(better, at + start, index[rows])
                flipped[rows] = np.where(better, bool(mirrored), flipped[rows])
        if progress:
            progress(len(views[0]))
    return Nearest(np.where(index < 0, np.nan, np.clip(best, -1.0, 1.0)).astype(np.float32), index, flipped)

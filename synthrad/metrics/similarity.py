"""Similarity of images to a reference set: the highest normalised correlation and which image has it.

Pearson's correlation of pixels (as np.corrcoef), over the channels together: blind to brightness and contrast, so a
re-windowed copy still has correlation 1. Flat images have no correlation; theirs is 0 by definition here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

MEMORY = 56 * 2**20  # bytes of blocks held at once, whatever the size of the sets
MOST_PIXELS = 2**31 // 2**14 - 1  # of 8-bit images: their products of at most 2^14 then sum up below 2^31
ROWS_AT_ONCE = 64  # of integer products made correlations: they stay in the cache
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


def standardise(images: np.ndarray) -> Tensor:
    """Rows of mean 0 and norm 1.

    Args:
        images: [n, ...] of any numeric type.

    Returns:
        float32 [n, pixels]; a flat image becomes all 0.
    """
    import torch

    rows = torch.from_numpy(np.ascontiguousarray(images)).reshape(len(images), -1).to(torch.float32, copy=True)
    rows -= rows.mean(1, keepdim=True)
    rows -= rows.mean(1, keepdim=True)  # what rounding left of a large offset
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    rows *= torch.where(norm > FLAT * rows.shape[1] ** 0.5, 1 / norm, 0.0)
    return rows


class _Floats:
    """Rows of mean 0 and norm 1, whose products are correlations."""

    def __init__(self, images: np.ndarray):
        self.rows = standardise(images)

    def nearest(self, others: _Floats, excluded: Tensor | None) -> tuple[Tensor, Tensor]:
        """Highest correlation of each row with any other, and whose, [n] each; -inf where all are excluded."""
        products = self.rows @ others.rows.T
        if excluded is not None:
            products.masked_fill_(excluded, -math.inf)
        return products.max(1)


class _Bytes:
    """8-bit images, compared by exact sums of products of integers: a multiple of the speed, and no rounding before the end.

    With a = query - 128 and b = other - 128 in int8, n pixels: r = (n sum ab - sum a sum b) / sqrt(n sum a^2 - (sum a)^2) / likewise b.
    """

    def __init__(self, images: np.ndarray):
        import torch

        flat = (np.ascontiguousarray(images).reshape(len(images), -1) ^ np.uint8(128)).view(np.int8)
        total = flat.sum(1, dtype=np.int64)
        squares = np.einsum("ij,ij->i", flat, flat, dtype=np.int32)  # of at most 2^14 each: see MOST_PIXELS
        spread = np.sqrt((flat.shape[1] * squares.astype(np.int64) - total**2).astype(np.float64))
        alive = spread > FLAT * flat.shape[1]  # the norm of a centred image times the root of its pixels
        self.rows, self.totals = torch.from_numpy(flat), torch.from_numpy(total.astype(np.float64))
        self.scale = torch.from_numpy(np.where(alive, 1 / np.where(alive, spread, 1.0), 0.0))

    def nearest(self, others: _Bytes, excluded: Tensor | None) -> tuple[Tensor, Tensor]:
        """See _Floats.nearest."""
        import torch

        products, found = torch._int_mm(self.rows, others.rows.t()), []
        for at in range(0, len(products), ROWS_AT_ONCE):
            part = slice(at, at + ROWS_AT_ONCE)
            values = products[part].double().mul_(self.rows.shape[1]).addr_(self.totals[part], others.totals, alpha=-1).mul_(others.scale)
            if excluded is not None:
                values.masked_fill_(excluded[part], -math.inf)
            best = values.max(1)
            scale = torch.where(best.values == -math.inf, 1.0, self.scale[part])  # a flat row among excluded ones only
            found.append((best.values * scale, best.indices))
        return torch.cat([f[0] for f in found]).float(), torch.cat([f[1] for f in found])


def _blocks(images: np.ndarray, small: bool) -> _Floats | _Bytes:
    return _Bytes(images) if small else _Floats(images)


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
        memory_bytes: bound on the blocks held at once.
        progress: called with the number of queries done.

    Returns:
        correlation float32 [n] in [-1, 1], index int64 [n] (the lowest one of equals; -1 where every reference is
        excluded, correlation then NaN), flipped bool [n].
    """
    if queries.shape[1:] != references.shape[1:]:
        raise ValueError(
            f"queries are {queries.shape[1:]}, references {references.shape[1:]}: resize them to one size"
        )
    import torch

    n, m = len(queries), len(references)
    pixels, views = int(np.prod(queries.shape[1:])), 1 + flip
    small = 0 < pixels <= MOST_PIXELS and queries[:1].dtype == references[:1].dtype == np.uint8
    most = int(np.clip(memory_bytes // (8 * views * max(1, pixels)), 1, 4096))  # rows of queries, half the memory in float32
    step = max(1, most * views // 4)  # a block of references is prepared again for each block of queries
    best, index, flipped = torch.full((n,), -math.inf), torch.full((n,), -1), torch.zeros(n, dtype=torch.bool)
    for first in range(0, n, most):
        rows = slice(first, min(first + most, n))
        query = np.asarray(queries[rows])
        against = [_blocks(q, small) for q in ([query, query[..., ::-1]] if flip else [query])]
        for start in range(0, m, step):
            columns = slice(start, min(start + step, m))
            reference = _blocks(np.asarray(references[columns]), small)
            excluded = None if exclude is None else torch.from_numpy(np.ascontiguousarray(exclude[rows, columns]))
            for mirrored, view in enumerate(against):
                value, at = view.nearest(reference, excluded)
                better = value > best[rows]
                best[rows] = torch.where(better, value, best[rows])
                index[rows] = torch.where(better, at + start, index[rows])
                flipped[rows] = torch.where(better, bool(mirrored), flipped[rows])
        if progress:
            progress(len(query))
    best = torch.where(index < 0, math.nan, best.clamp(-1.0, 1.0))
    return Nearest(best.numpy(), index.numpy(), flipped.numpy())

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

MEMORY = 72 * 2**20  # bytes of blocks held at once, whatever the size of the sets
LARGEST = 4096  # images of a block
MOST_PIXELS = 2**31 // 2**14 - 1  # of 8-bit images: their products of at most 2^14 then sum up below 2^31
ROWS_AT_ONCE = 64  # that are standardised, or whose integer products are made correlations: they stay in the cache
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


class _Floats:
    """Blocks of images as rows of mean 0 and norm 1, whose products are correlations; each block takes the place of the one before.

    Args:
        most: images of a block. pixels: of an image.
    """

    def __init__(self, most: int, pixels: int):
        import torch

        self._room, self._products = torch.empty(most, pixels), torch.empty(0)

    def take(self, images: np.ndarray, known: Tensor | None = None) -> Tensor:
        """The next block; a flat image becomes all 0.

        Args:
            images: [n, ...] of any numeric type. known: what an earlier `take` of the same images returned.

        Returns:
            [n, 3]: mean, what rounding left of it, and one over the norm.
        """
        import torch

        self.rows, found = self._room[: len(images)], []
        for at in range(0, len(images), ROWS_AT_ONCE):
            part = slice(at, at + ROWS_AT_ONCE)
            rows = self.rows[part].copy_(torch.from_numpy(np.ascontiguousarray(images[part])).flatten(1))
            if known is None:
                mean = rows.mean(1, keepdim=True)
                left = rows.sub_(mean).mean(1, keepdim=True)
                norm = torch.linalg.vector_norm(rows.sub_(left), dim=1, keepdim=True)
                scale = torch.where(norm > FLAT * rows.shape[1] ** 0.5, 1 / norm, 0.0)
                found.append(torch.cat([mean, left, scale], 1))
            else:
                mean, left, scale = known[part].split(1, 1)
                rows.sub_(mean).sub_(left)
            rows.mul_(scale)
        return torch.cat(found) if known is None else known

    def nearest(self, others: _Floats, excluded: Tensor | None) -> tuple[Tensor, Tensor]:
        """Highest correlation of each row with any other, and whose, [n] each; -inf where all are excluded."""
        n, m = len(self.rows), len(others.rows)
        if self._products.numel() < n * m:
            self._products = self._room.new_empty(n * m)
        products = self._products[: n * m].view(n, m)
        np.matmul(self.rows.numpy(), others.rows.numpy().T, out=products.numpy())
        if excluded is not None:
            products.masked_fill_(excluded, -math.inf)
        return products.max(1)


class _Bytes:
    """8-bit images, compared by exact sums of products of integers: a multiple of the speed, and no rounding before the end.

    With a = query - 128 and b = other - 128 in int8, n pixels: r = (n sum ab - sum a sum b) / sqrt(n sum a^2 - (sum a)^2) / likewise b.

    Args:
        most: images of a block. pixels: of an image.
    """

    def __init__(self, most: int, pixels: int):
        self._room = np.empty((most, pixels), np.int8)

    def take(self, images: np.ndarray, known: Tensor | None = None) -> Tensor:
        """See _Floats.take; returns [n, 2]: sum a, and one over that root, 0 where the image is flat."""
        import torch

        flat = self._room[: len(images)]
        np.bitwise_xor(images.reshape(flat.shape), np.uint8(128), out=flat.view(np.uint8))
        self.rows = torch.from_numpy(flat)
        if known is None:
            total = flat.sum(1, dtype=np.int64)
            squares = np.einsum("ij,ij->i", flat, flat, dtype=np.int32)  # of at most 2^14 each: see MOST_PIXELS
            spread = np.sqrt((flat.shape[1] * squares.astype(np.int64) - total**2).astype(np.float64))
            alive = spread > FLAT * flat.shape[1]  # the norm of a centred image times the root of its pixels
            known = torch.from_numpy(np.stack([total.astype(np.float64), np.where(alive, 1 / np.where(alive, spread, 1.0), 0.0)], 1))
        self.totals, self.scale = known.unbind(1)
        return known

    def nearest(self, others: _Bytes, excluded: Tensor | None) -> tuple[Tensor, Tensor]:
        """See _Floats.nearest."""
        import torch

        products, found = torch._int_mm(self.rows, others.rows.t()), []
        room = torch.empty(min(ROWS_AT_ONCE, len(products)), products.shape[1], dtype=torch.float64)
        for at in range(0, len(products), ROWS_AT_ONCE):
            part = slice(at, at + ROWS_AT_ONCE)
            values = room[: len(products[part])].copy_(products[part]).mul_(self.rows.shape[1]).addr_(self.totals[part], others.totals, alpha=-1).mul_(others.scale)
            if excluded is not None:
                values.masked_fill_(excluded[part], -math.inf)
            best = values.max(1)
            mine = torch.where(best.values == -math.inf, 1.0, self.scale[part])  # a flat row among excluded ones only
            found.append((best.values * mine, best.indices))
        return torch.cat([f[0] for f in found]).float(), torch.cat([f[1] for f in found])


def _block_sizes(memory: int, pixels: int, views: int, small: bool) -> tuple[int, int]:
    """Queries and references of a block: so many that their rows, and the products of each view, take that much memory in 4 (or, small, 1 and 4) bytes a number."""
    width = (1 if small else 4) * max(1, pixels)
    most = int(np.clip(memory // (2 * views * width), 1, LARGEST))
    return most, int(np.clip((memory - most * views * width) // (width + 4 * views * most), 1, LARGEST))


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
    most, step = _block_sizes(memory_bytes, pixels, views, small)
    side = _Bytes if small else _Floats
    against, reference = [side(min(n, most), pixels) for _ in range(views)], side(min(m, step), pixels)
    known: dict[int, Tensor] = {}  # of each block of references
    best, index, flipped = torch.full((n,), -math.inf), torch.full((n,), -1), torch.zeros(n, dtype=torch.bool)
    for first in range(0, n, most):
        rows = slice(first, min(first + most, n))
        query = np.asarray(queries[rows])
        for view, images in zip(against, (query, query[..., ::-1]), strict=False):
            view.take(images)
        for start in range(0, m, step):
            columns = slice(start, min(start + step, m))
            known[start] = reference.take(np.asarray(references[columns]), known.get(start))
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

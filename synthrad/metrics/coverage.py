"""How much of the real images a synthetic set covers, and how many of its images are realistic, from rows of features.

A ball around each image reaches to its k-th nearest neighbour in its own set. All functions take [n, d] features and need no more
memory than a block of distances. All depend on the number of images: compare values of equal n only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthrad.errors import InputError

ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Manifold:
    """Of generated images against real ones.

    Args:
        precision: share of generated images in some real image's ball; recall: of real images in some generated image's ball
            (Kynkaanniemi et al. 2019, eq. 1 and 2).
        density: real balls that hold a generated image, in the mean, over k; coverage: share of real images whose ball holds a
            generated one (Naeem et al. 2020, eq. 2 and 3). Density may exceed 1.
        neighbours: k. images: real and generated.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    neighbours: int
    images: tuple[int, int]


def manifold(real: np.ndarray, generated: np.ndarray, neighbours: int = 5) -> Manifold:
    """Precision, recall, density and coverage.

    Args:
        real: [n, d]. generated: [m, d]. neighbours: k, below n and m.

    Raises:
        InputError: other columns, or too few rows.
    """
    real, generated = (np.asarray(x, dtype=np.float64) for x in (real, generated))
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise InputError("features", f"shapes {real.shape} and {generated.shape}", "[n, d] and [m, d]")
    if not 1 <= neighbours < min(len(real), len(generated)):
        raise InputError("neighbours", str(neighbours), f"1 to {min(len(real), len(generated)) - 1}, fewer than the images of either set")
    centre = real.mean(0)
    real, generated = real - centre, generated - centre  # near the origin fewer digits cancel
    balls, theirs = _radii(real, neighbours), _radii(generated, neighbours)
    held, recalled = np.zeros(len(generated), int), np.zeros(len(real), bool)
    covered = np.zeros(len(real), bool)
    for at in range(0, len(real), ROWS_AT_ONCE):
        rows = slice(at, at + ROWS_AT_ONCE)
        squares = _squares(real[rows], generated)
        inside = squares < balls[rows, None]
        held += inside.sum(0)
        covered[rows] = squares.min(1) < balls[rows]
        recalled[rows] = (squares < theirs[None]).any(1)
    return Manifold(float((held > 0).mean()), float(recalled.mean()), float(held.mean() / neighbours), float(covered.mean()), neighbours,
                    (len(real), len(generated)))


def _squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T, 0)


def _radii(x: np.ndarray, neighbours: int) -> np.ndarray:
    """[n] squared distances to the k-th nearest other row."""
    out = np.empty(len(x))
    for at in range(0, len(x), ROWS_AT_ONCE):
        squares = _squares(x[at : at + ROWS_AT_ONCE], x)
        squares[np.arange(len(squares)), at + np.arange(len(squares))] = np.inf  # itself
        out[at : at + ROWS_AT_ONCE] = np.partition(squares, neighbours - 1, 1)[:, neighbours - 1]
    return out


def vendi(features: np.ndarray) -> float:
    """Effective number of different images of a set, 1 to n (Friedman and Dieng 2023, eq. 2): the exponential of the entropy of the
    eigenvalues of K / n, K the cosine similarities of the rows.

    Args:
        features: [n, d], centred (as standardised features are): K is that of directions.
    """
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or not len(rows):
        raise InputError("features", f"shape {rows.shape}", "[n, d] of at least one image")
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    gram = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit  # the same eigenvalues, but for zeros
    shares = np.clip(np.linalg.eigvalsh(gram / len(unit)), 0, None)
    shares = shares[shares > 0] / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))

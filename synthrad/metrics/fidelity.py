"""How far two sets of images are apart, and whether one of them has collapsed, from rows of features.

All functions take [n, d] features (standardised first: metrics.features.Standardizer) and compute in float64. A distance
means nothing without its null: the same one between two sets of real images, with equal n where the distance depends on n.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import pdist

from synthrad.errors import InputError

ROWS_AT_ONCE = 1024  # rows of a kernel or distance matrix held at once
MANY = 5000  # images from which a distance may be extrapolated to infinitely many
PAIRED_ROWS = 2000  # of which all pairs are taken for a median distance: 16 MB
Z95 = 1.959963984540054  # 97.5 % point of the normal distribution


def _rows(features: np.ndarray, name: str, fewest: int = 2) -> np.ndarray:
    rows = np.asarray(features, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < fewest:
        raise InputError(f"features of {name}", f"shape {rows.shape}", f"[n, d] with n at least {fewest}")
    if not np.isfinite(rows).all():
        raise InputError(f"features of {name}", f"NaN or Inf in {int((~np.isfinite(rows)).any(1).sum())} rows", "finite numbers")
    return rows


def _pair(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = _rows(x, "x"), _rows(y, "y")
    if x.shape[1] != y.shape[1]:
        raise InputError("features", f"{x.shape[1]} and {y.shape[1]} columns", "the same columns in both sets")
    return x, y


# ---- Frechet distance


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Frechet distance of the normal distributions that fit two sets (Dowson and Landau, 1982; FID: Heusel et al., 2017).

    |m_x - m_y|^2 + tr S_x + tr S_y - 2 tr (S_x S_y)^(1/2), covariances with n - 1. With centred rows A'A = S_x and B'B = S_y
    the last trace is the sum of the singular values of A B', an n x m matrix; where n > d the triangle R of A = Q R stands
    for A, so that the matrix never exceeds d on a side. Covariances are never formed: an eigenvalue of S_x S_y that should
    be 0 comes out as 1e-16 of the largest one, and its root, 1e-8, would be added for every direction without variance.

    The value grows with d and falls with n: compare values of equal n only (`frechet_columns`).

    Args:
        x: [n, d]. y: [m, d].
    """
    x, y = _pair(x, y)
    (mean_x, a), (mean_y, b) = _centred(x), _centred(y)
    traces = np.square(a).sum() + np.square(b).sum()
    shared = np.linalg.svd(_triangle(a) @ _triangle(b).T, compute_uv=False).sum()
    return float(np.square(mean_x - mean_y).sum() + traces - 2 * shared)


def _centred(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and A with A'A the covariance."""
    mean = rows.mean(0)
    return mean, (rows - mean) / np.sqrt(len(rows) - 1)


def _triangle(a: np.ndarray) -> np.ndarray:
    return np.linalg.qr(a, mode="r") if len(a) > a.shape[1] else a


def frechet_columns(n: int, d: int) -> int:
    """How many columns n images a side can bear: all d from n = 2 d on, else a projection to n / 10 of them (0: none)."""
    return d if n >= 2 * d else n // 10


def frechet_at_infinity(x: np.ndarray, y: np.ndarray, seed: int = 0) -> float:
    """Frechet distance extrapolated to infinitely many images of x (Chong and Forsyth, 2020, section 4: linear in 1 / n).

    The distance is taken at 10 sizes, evenly spaced in 1 / n, of nested random parts of x; the line's value at 1 / n = 0 is given.
    What few images of y add stays in.

    Args:
        x: [n, d], n at least MANY. y: [m, d].

    Raises:
        InputError: fewer images, or so many columns that less than half of them cannot bear these.
    """
    x, y = _pair(x, y)
    least = max(len(x) // 4, 2 * x.shape[1])
    if len(x) < MANY or 2 * least > len(x):
        raise InputError("features", f"{len(x)} images of {x.shape[1]} columns", f"at least {max(MANY, 4 * x.shape[1])} images")
    order = np.random.default_rng(seed).permutation(len(x))
    sizes = np.round(1 / np.linspace(1 / len(x), 1 / least, 10)).astype(int)
    return float(np.polyfit(1 / sizes, [frechet_distance(x[order[:n]], y) for n in sizes], 1)[1])


@dataclass(frozen=True)
class Projection:
    """The leading principal axes of a set that is neither of those compared: fitted on one of them it would favour it.

    Args:
        mean: [d]. axes: [d, k], orthonormal.
    """

    mean: np.ndarray
    axes: np.ndarray

    @classmethod
    def fit(cls, rows: np.ndarray, columns: int) -> Projection:
        """At most `columns` axes, fewer where the rows span fewer."""
        rows = _rows(rows, "the projection's set")
        mean = rows.mean(0)
        _, size, axes = np.linalg.svd(rows - mean, full_matrices=False)
        spanned = int((size > size[:1] * 1e-10).sum())
        return cls(mean, axes[: min(columns, spanned)].T)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """[n, d] to [n, k]."""
        return (np.asarray(rows, dtype=np.float64) - self.mean) @ self.axes


# ---- kernel distance


@dataclass(frozen=True)
class KernelDistance:
    """A squared maximum mean discrepancy with its uncertainty.

    Args:
        value: unbiased, so it may be negative; 0 expected where both sets come from one distribution.
        error: standard error over subjects of both sets (delete-one-subject jackknife).
        low, high: value -+ 1.96 error, the 95 % interval.
        subjects: of x and of y.
        pulls_x, pulls_y: [subjects] what each subject adds, in the order of np.unique; see `resampled`.
    """

    value: float
    error: float
    low: float
    high: float
    subjects: tuple[int, int]
    pulls_x: np.ndarray
    pulls_y: np.ndarray

    def resampled(self, draws: int, seed: int) -> np.ndarray:
        """[draws] values over bootstrap samples of the subjects of both sets, to first order (the jackknife's pulls).

        The samples are a function of the seed and the numbers of subjects. Two distances to the same reference, computed
        with one seed, can so be compared draw by draw: what the shared reference adds to both cancels.
        """
        rng = np.random.default_rng(seed)
        total = np.full(draws, self.value)
        for pulls in (self.pulls_x, self.pulls_y):
            s = len(pulls)
            counts = rng.multinomial(s, np.full(s, 1 / s), size=draws)
            total += (counts - 1) @ pulls
        return total


def cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The kernel of KID: (x . y / d + 1)^3, [n, m]."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian(sigma: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The kernel of CMMD (Jayasumana et al., 2024, section 4): exp(-|x - y|^2 / (2 sigma^2)), [n, d], [m, d] -> [n, m].

    The paper takes sigma = 10 for CLIP embeddings of unit length. Elsewhere sigma is the median distance of real images (the
    median heuristic; Gretton et al., 2012, section 8). `kernel_distance` is the unbiased estimator; the authors' code has the biased one,
    which adds the diagonal, (1 - mean k(x, x')) / n of each set.
    """
    if not sigma > 0:
        raise InputError("sigma", f"{sigma:g}", "a number above 0")

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        squares = np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T
        return np.exp(np.maximum(squares, 0) / (-2 * sigma**2))

    return kernel


def kernel_distance(
    x: np.ndarray,
    y: np.ndarray,
    subjects_x: Sequence[object] | np.ndarray | None = None,
    subjects_y: Sequence[object] | np.ndarray | None = None,
    kernel: Callable[[np.ndarray, np.ndarray], np.ndarray] = cubic,
) -> KernelDistance:
    """Kernel distance of two sets: unbiased MMD^2 (Gretton et al., 2012, lemma 6) with KID's kernel (Binkowski et al., 2018).

    Two images of one patient are more alike than two patients: as independent images they would raise the mean within a set
    and with it the distance. So pairs of one subject are left out of it; with an image a subject this is the usual
    estimator. The uncertainty is that of other subjects: subjects are deleted one by one, with all their images, in each set
    in turn. Where both distributions are equal the jackknife exceeds the true error by up to sqrt(2), because the estimator
    has no linear part there (Efron and Stein, 1981); it is not corrected. Memory is that of a block of rows, whatever n.

    Args:
        x: [n, d]. y: [m, d]. subjects_x: [n], None = each image is its own subject; likewise subjects_y.
        kernel: [n, d], [m, d] -> [n, m].

    Raises:
        InputError: fewer than 3 subjects in a set.
    """
    x, y = _pair(x, y)
    who_x, s = _subjects(subjects_x, len(x), "x")
    who_y, t = _subjects(subjects_y, len(y), "y")
    within_x, pairs_x = _within(x, who_x, s, kernel)
    within_y, pairs_y = _within(y, who_y, t, kernel)
    across_x, across_y = _across(x, y, who_x, who_y, (s, t), kernel)
    size_x, size_y = np.bincount(who_x), np.bincount(who_y)
    inside_x, inside_y = within_x.sum() / pairs_x.sum(), within_y.sum() / pairs_y.sum()
    total = across_x.sum()
    value = float(inside_x + inside_y - 2 * total / (len(x) * len(y)))
    # each pair of subjects stands twice in the sums, so deleting one subject takes two times its own row
    less_x = (within_x.sum() - 2 * within_x) / (pairs_x.sum() - 2 * pairs_x) + inside_y \
        - 2 * (total - across_x) / ((len(x) - size_x) * len(y))
    less_y = (within_y.sum() - 2 * within_y) / (pairs_y.sum() - 2 * pairs_y) + inside_x \
        - 2 * (total - across_y) / ((len(y) - size_y) * len(x))
    pulls_x, pulls_y = ((k - 1) / k * (less.mean() - less) for k, less in ((s, less_x), (t, less_y)))
    variance = s / (s - 1) * np.square(pulls_x).sum() + t / (t - 1) * np.square(pulls_y).sum()
    error = float(np.sqrt(variance))
    return KernelDistance(value, error, value - Z95 * error, value + Z95 * error, (s, t), pulls_x, pulls_y)


def _subjects(given: Sequence[object] | np.ndarray | None, n: int, name: str) -> tuple[np.ndarray, int]:
    """Number of each image's subject, and how many there are."""
    names = np.arange(n) if given is None else np.asarray(given)
    if names.shape != (n,):
        raise InputError(f"subjects of {name}", f"shape {names.shape}", f"({n},), one an image")
    found, who = np.unique(names, return_inverse=True)
    if len(found) < 3:
        raise InputError(f"subjects of {name}", f"{len(found)}", "at least 3", "a distance between patients needs patients")
    return who, len(found)


def _within(
    x: np.ndarray, who: np.ndarray, subjects: int, kernel: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """[subjects] sums of the kernel between a subject's images and those of all others, and numbers of such pairs."""
    sums = np.zeros(len(x))
    for at in range(0, len(x), ROWS_AT_ONCE):
        rows = slice(at, at + ROWS_AT_ONCE)
        block = kernel(x[rows], x)
        sums[rows] = np.where(who[rows, None] == who[None], 0.0, block).sum(1)
    sizes = np.bincount(who, minlength=subjects)
    return np.bincount(who, sums, minlength=subjects), sizes * (len(x) - sizes).astype(float)


def _across(
    x: np.ndarray, y: np.ndarray, who_x: np.ndarray, who_y: np.ndarray, subjects: tuple[int, int],
    kernel: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the kernel between x and y by subject of x, and by subject of y."""
    by_x, by_y = np.zeros(len(x)), np.zeros(len(y))
    for at in range(0, len(x), ROWS_AT_ONCE):
        rows = slice(at, at + ROWS_AT_ONCE)
        block = kernel(x[rows], y)
        by_x[rows] = block.sum(1)
        by_y += block.sum(0)
    return np.bincount(who_x, by_x, minlength=subjects[0]), np.bincount(who_y, by_y, minlength=subjects[1])


# ---- collapse


def nearest_distances(x: np.ndarray, subjects: Sequence[object] | np.ndarray | None = None) -> np.ndarray:
    """Euclidean distance of each image to the nearest other one of its set (of another subject), [n]; NaN where there is none.

    Args:
        x: [n, d]. subjects: [n]; None = each image is its own subject.
    """
    x = _rows(x, "x", fewest=1)
    who = np.unique(np.arange(len(x)) if subjects is None else np.asarray(subjects), return_inverse=True)[1]
    x = x - x.mean(0)  # near the origin fewer digits cancel below
    norm = np.square(x).sum(1)
    nearest = np.empty(len(x))
    for at in range(0, len(x), ROWS_AT_ONCE):
        rows = slice(at, at + ROWS_AT_ONCE)
        squares = norm[rows, None] + norm[None] - 2 * x[rows] @ x.T
        squares[who[rows, None] == who[None]] = np.inf
        nearest[rows] = squares.min(1)
    return np.where(np.isinf(nearest), np.nan, np.sqrt(np.maximum(nearest, 0)))


@dataclass(frozen=True)
class Variety:
    """How varied generated images are beside as many real ones.

    Args:
        ratio: nearest / max(spread, 1); 1 expected of a perfect generator, near 0 after collapse. Judge by this one.
        nearest: median distance of an image to its nearest other one, generated over real.
        spread: median distance of all pairs, generated over real.
        images: of each set.
    """

    ratio: float
    nearest: float
    spread: float
    images: int


def variety(generated: np.ndarray, real: np.ndarray, real_subjects: Sequence[object] | np.ndarray | None = None) -> Variety:
    """Distances within the generated set over those within a real one: collapse to few modes lowers them.

    The distance of all pairs does not show it: two of four modes are as far apart as two of four thousand. That to the nearest
    other image does, for up to half as many modes as images. Alone it is high, too, while features still lie far outside of the
    real ones, where everything is further apart; so it is taken relative to the spread where that exceeds the real one.
    Distances to the nearest depend on n: the larger set is cut to the size of the smaller one (its first rows). Real images
    of one patient do not count as neighbours. NaN where real images are all alike.

    Args:
        generated: [n, d]. real: [m, d]. real_subjects: [m].
    """
    generated, real = _pair(generated, real)
    n = min(len(generated), len(real))
    generated, real = generated[:n], real[:n]
    theirs = np.nanmedian(nearest_distances(real, None if real_subjects is None else np.asarray(real_subjects)[:n]))
    apart = median_distance(real)
    if not (theirs > 0 and apart > 0):
        return Variety(float("nan"), float("nan"), float("nan"), n)
    nearest, spread = float(np.median(nearest_distances(generated)) / theirs), median_distance(generated) / apart
    return Variety(nearest / max(spread, 1.0), nearest, spread, n)


def median_distance(x: np.ndarray) -> float:
    """Median Euclidean distance of all pairs of the first 2000 rows of [n, d]."""
    return float(np.median(pdist(_rows(x, "x")[:PAIRED_ROWS])))


def by_turns(subjects: Sequence[object] | np.ndarray, seed: int) -> np.ndarray:
    """A random order of images, [n] positions, in which every subject's first image precedes anybody's second one.

    The first images of it cover as many subjects as they can.
    """
    who = np.unique(np.asarray(subjects), return_inverse=True)[1]
    order = np.random.default_rng(seed).permutation(len(who))
    turn, seen = np.empty(len(who), dtype=int), np.zeros(len(who), dtype=int)
    for place, image in enumerate(order):
        turn[place] = seen[who[image]]
        seen[who[image]] += 1
    return order[np.argsort(turn, kind="stable")]

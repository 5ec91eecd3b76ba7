"""Whether synthetic images lie nearer to the training images than new patients do: two tests of a whole set, from rows of features.

Neither looks for single copies (metrics.copies does): they ask whether the set as a whole has moved towards what it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.cluster.vq import kmeans2
from scipy.special import logsumexp

from synthrad.errors import InputError

ROWS_AT_ONCE = 1024
FEWEST_IN_CELL = 20  # generated images of a cell that counts (Meehan et al., section 4)
PEOPLE_A_CELL = 30  # test images to one cell: three cells for some 90, as the paper's for 50 of a class of ImageNet
MOST_CELLS = 50
MOST_CENTRES, MOST_FITTED = 2000, 5000
STEPS = 200  # of EM, at most
LEAST_VARIANCE = 1e-4  # of a centre, features standardised: a centre that is a training image would have none


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[n, m] squared Euclidean distances of the rows of [n, d] and [m, d]."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    centre = y.mean(0)
    x, y = x - centre, y - centre  # near the origin fewer digits cancel
    return np.maximum(np.square(x).sum(1)[:, None] + np.square(y).sum(1) - 2 * x @ y.T, 0)


def to_nearest(x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """[n] distance of each row of [n, d] to the nearest row of [m, d]; memory is that of a block."""
    parts = [squared_distances(x[at : at + ROWS_AT_ONCE], reference).min(1) for at in range(0, len(x), ROWS_AT_ONCE)]
    return np.sqrt(np.concatenate(parts))


# ---- C_T


@dataclass(frozen=True)
class CopyingTest:
    """C_T of a synthetic set.

    Args:
        value: about 0 where synthetic images are as near to training images as test images are; below it they are nearer (copying),
            above it further away (underfitting).
        low, high: 95 % interval, percentiles over resampled test and synthetic images.
        null_low, null_high: where 95 % of the values lie if synthetic and test images of a cell are exchangeable (permuted labels).
        cells: that count, of `of`. share: of the test images that lie in them. images: synthetic, test.
    """

    value: float
    low: float
    high: float
    null_low: float
    null_high: float
    cells: int
    of: int
    share: float
    images: tuple[int, int]


def copying_test(train: np.ndarray, test: np.ndarray, synthetic: np.ndarray, cells: int | None = None, draws: int = 1000, seed: int = 0
                 ) -> CopyingTest | str:
    """The three-sample test for data copying (Meehan, Chaudhuri and Dasgupta, 2020).

    In each cell of a k-means partition of the training images, d(x) = distance to the nearest training image is compared between
    synthetic and test images by the Mann-Whitney statistic Z = (U - m n / 2) / sqrt(m n (m + n + 1) / 12), U = pairs in which
    the synthetic image is further away (ties count half). C_T is the mean of Z over the cells with at least 20 synthetic images,
    weighted by their shares of the test images (section 3.3). Test images must be independent: give one a patient.

    Args:
        train: [t, d]. test: [n, d]. synthetic: [m, d]. cells: k; None = one for 30 test images. draws: of interval and null.

    Returns:
        the test, or why there is none.
    """
    k = cells or int(np.clip(len(test) // PEOPLE_A_CELL, 1, MOST_CELLS))
    rng = np.random.default_rng(seed)
    centres = kmeans2(train, k, minit="++", rng=rng)[0] if k > 1 else train.mean(0, keepdims=True)
    near = [to_nearest(x, train) for x in (synthetic, test)]
    cell = [squared_distances(x, centres).argmin(1) for x in (synthetic, test)]
    counted = [c for c in range(k) if (cell[0] == c).sum() >= FEWEST_IN_CELL and (cell[1] == c).any()]
    if not counted:
        return f"no cell with {FEWEST_IN_CELL} synthetic images and a test image; has {len(synthetic)} synthetic images in {k} cells"
    parts = [(near[0][cell[0] == c], near[1][cell[1] == c]) for c in counted]
    share = sum(len(p) for _, p in parts) / len(test)
    again = np.array([_mean_z([_drawn(q, rng), _drawn(p, rng)] for q, p in parts) for _ in range(draws)])
    null = np.array([_mean_z(_relabelled(q, p, rng) for q, p in parts) for _ in range(draws)])
    (low, high), (null_low, null_high) = (np.quantile(x, (0.025, 0.975)) for x in (again, null))
    return CopyingTest(_mean_z(parts), float(low), float(high), float(null_low), float(null_high), len(counted), k, share,
                       (len(synthetic), len(test)))


def _drawn(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(values, len(values))


def _relabelled(q: np.ndarray, p: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    mixed = rng.permutation(np.concatenate([q, p]))
    return mixed[: len(q)], mixed[len(q) :]


def _mean_z(parts) -> float:
    z, weight = zip(*((_z(q, p), len(p)) for q, p in parts), strict=True)
    return float(np.average(z, weights=weight))


def _z(q: np.ndarray, p: np.ndarray) -> float:
    """Mann-Whitney's Z of "q lies further away than p"."""
    p, m, n = np.sort(p), len(q), len(p)
    further = (np.searchsorted(p, q, "left") + np.searchsorted(p, q, "right")).sum() / 2
    return float((further - m * n / 2) / np.sqrt(m * n * (m + n + 1) / 12))


# ---- likelihood of training and test images under Gaussians centred at synthetic ones


@dataclass(frozen=True)
class LikelihoodGap:
    """How much better a set explains training images than test images.

    Args:
        value: negative log likelihood of training images less that of test images, in 100 / d nats. Below its null: overfitted.
        low, high: 95 % interval over training and test patients (Welch), the centres fixed.
        centres: number of Gaussians. images: training, test.
    """

    value: float
    low: float
    high: float
    centres: int
    images: tuple[int, int]


def likelihood_gap(train: np.ndarray, test: np.ndarray, centres: np.ndarray, train_subjects: np.ndarray, test_subjects: np.ndarray
                   ) -> LikelihoodGap:
    """The generalisation gap of the feature likelihood divergence (Jiralerspong et al., 2023), derived from the paper: "FLD-style".

    A Gaussian of its own variance stands at each synthetic image (section 3); the variances maximise the likelihood of the training
    images. One at a copy of a training image becomes so narrow that it explains nothing else. The paper descends by gradient and
    adds a wide component; here it is EM, whose likelihood never falls, and a least variance. The variances were fitted to the training
    images, so the gap is below 0 for any set: read it beside that of as many real images that are neither.

    Args:
        train: [t, d]; test: [n, d]; centres: [m, d]; at most 5,000 and 2,000 (centres) of them are used, the first ones.
        train_subjects: [t]; test_subjects: [n].
    """
    train, test, centres = (np.asarray(x, np.float64) for x in (train, test, centres))
    mean, sd = train.mean(0), train.std(0)
    sd = np.where(sd > 1e-6, sd, 1.0)
    train, test, centres = ((x[:most] - mean) / sd for x, most in ((train, MOST_FITTED), (test, MOST_FITTED), (centres, MOST_CENTRES)))
    train_subjects, test_subjects = train_subjects[: len(train)], test_subjects[: len(test)]
    d = train.shape[1]
    fitted = squared_distances(train, centres)
    variances = fit_variances(fitted, d)
    scale = -100 / d
    nll = [_by_subject(scale * log_likelihood(s, variances, d), who)
           for s, who in ((fitted, train_subjects), (squared_distances(test, centres), test_subjects))]
    if min(map(len, nll)) < 2:
        raise InputError("subjects", f"{min(map(len, nll))}", "at least 2 training and 2 test patients")
    found = stats.ttest_ind(*nll, equal_var=False).confidence_interval(0.95)
    return LikelihoodGap(float(nll[0].mean() - nll[1].mean()), float(found.low), float(found.high), len(centres), (len(train), len(test)))


def fit_variances(squares: np.ndarray, d: int, steps: int = STEPS) -> np.ndarray:
    """[m] variances of Gaussians with fixed centres and equal weights that maximise the likelihood: EM, from narrow and from wide ones.

    Args:
        squares: [n, m] squared distances of the images to the centres. d: columns of the features.
    """
    narrow = np.maximum(squares.min(0) / d, LEAST_VARIANCE)  # each at its best for its nearest image
    wide = np.full(squares.shape[1], max(np.median(squares) / d, LEAST_VARIANCE))
    found = [_climb(squares, start, d, steps) for start in (narrow, wide)]
    return max(found, key=lambda variances: log_likelihood(squares, variances, d).sum())


def _climb(squares: np.ndarray, variances: np.ndarray, d: int, steps: int) -> np.ndarray:
    """EM: the likelihood never falls."""
    before = -np.inf
    for _ in range(steps):
        each = _log_densities(squares, variances, d)
        total = logsumexp(each, axis=1, keepdims=True)
        if total.sum() - before < 1e-7 * len(squares):
            break
        before = total.sum()
        owned = np.exp(each - total)  # responsibilities [n, m]
        weight = owned.sum(0)
        found = np.maximum((owned * squares).sum(0) / (d * np.maximum(weight, 1e-300)), LEAST_VARIANCE)
        variances = np.where(weight > 1e-12, found, variances)  # a centre that explains no image stays as it is
    return variances


def _log_densities(squares: np.ndarray, variances: np.ndarray, d: int) -> np.ndarray:
    return -squares / (2 * variances) - d / 2 * np.log(2 * np.pi * variances)


def log_likelihood(squares: np.ndarray, variances: np.ndarray, d: int) -> np.ndarray:
    """[n] of each image under the mixture."""
    return logsumexp(_log_densities(squares, variances, d), axis=1) - np.log(len(variances))


def _by_subject(values: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    who = np.unique(subjects, return_inverse=True)[1]
    return np.bincount(who, values) / np.bincount(who)

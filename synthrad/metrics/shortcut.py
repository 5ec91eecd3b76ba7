"""Source shortcut: can real and synthetic images be told apart, and would telling them apart give a label away?

Where a class is more frequent among synthetic images than among real ones and the source of an image can be seen, a classifier that
trains on both can answer by the source instead of the finding: a shortcut (Geirhos et al., 2020, "Shortcut learning in deep neural
networks"). Pure functions of features and labels, for an audit and for the arms of a study alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import norm
from statsmodels.stats.multitest import multipletests

from synthrad.measurements import without_nan
from synthrad.metrics.adherence import Resampled, interval_of, subject_weights
from synthrad.metrics.classification import weighted_auroc
from synthrad.metrics.features import Standardizer

FOLDS = 5
FEWEST = 20  # images and subjects of each source, below which nothing is computed
HALVES = 10  # random halves of the real images that the null is drawn from
PENALTIES = np.logspace(-4, 2, 13)  # of the ridge, relative to the largest eigenvalue of the Gram matrix
ALPHA = 0.05
ALL = "all images"


def ridge_scores(train: np.ndarray, target: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Scores [m] of a ridge regression on +-1 targets, the penalty chosen by the exact leave-one-out error.

    Leave-one-out residuals from one decomposition: (y - Hy) / (1 - diag H) (Golub, Heath and Wahba, 1979, "Generalized
    cross-validation as a method for choosing a good ridge parameter"). Both classes weigh the same: rows of the smaller one count more.

    Args:
        train: [n, d], test: [m, d], any scale (standardised on train). target: bool [n], both values present.
    """
    standard = Standardizer.fit(train)
    x, z = standard(train) / np.sqrt(train.shape[1]), standard(test) / np.sqrt(train.shape[1])
    root = np.sqrt(np.where(target, 0.5 / target.mean(), 0.5 / (~target).mean()))[:, None]  # of the rows' weights
    x, z = np.column_stack([x, np.ones(len(x))]) * root, np.column_stack([z, np.ones(len(z))])
    y = np.where(target, 1.0, -1.0) * root[:, 0]
    u, size, v = np.linalg.svd(x, full_matrices=False)
    best, chosen = np.inf, None
    for penalty in PENALTIES * size[0] ** 2:
        shrunk = size**2 / (size**2 + penalty)
        hat = np.square(u) @ shrunk
        error = np.square((y - u @ (shrunk * (u.T @ y))) / np.maximum(1 - hat, 1e-9)).sum()
        if error < best:
            best, chosen = error, v.T @ (size / (size**2 + penalty) * (u.T @ y))
    return z @ chosen


def folds_of(subjects: np.ndarray, stratum: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int [n]: the fold of each image, subjects whole, those of each stratum (of a subject's first image) spread evenly."""
    names, first, who = np.unique(subjects, return_index=True, return_inverse=True)
    fold = np.empty(len(names), int)
    for value in np.unique(stratum):
        mine = rng.permutation(np.flatnonzero(stratum[first] == value))
        fold[mine] = (np.arange(len(mine)) + rng.integers(FOLDS)) % FOLDS
    return fold[who.reshape(-1)]


def told_apart(features: np.ndarray, target: np.ndarray, subjects: np.ndarray, seed: int = 0, draws: int = 500) -> Resampled:
    """Cross-validated AUC of a ridge classifier, mean over folds, with an interval over subjects.

    Within folds, because scores of different fits are on different scales; the interval is that of the held-out scores as they are.

    Args:
        features: [n, d]. target: bool [n]. subjects: [n]; one subject is never on both sides of a fold.
    """
    fold = folds_of(subjects, target, np.random.default_rng([seed, 31]))
    weights, found = subject_weights(subjects, draws, seed), []
    for k in range(FOLDS):
        out = fold == k
        if min(target[out].sum(), (~target[out]).sum(), target[~out].sum(), (~target[~out]).sum()) < 2:
            continue
        scores = ridge_scores(features[~out], target[~out], features[out])
        found.append(weighted_auroc(scores, target[out], weights[:, out]))
    if not found:
        return Resampled(float("nan"), float("nan"), float("nan"))
    return interval_of(np.mean(found, 0))


@dataclass(frozen=True)
class Shortcut:
    """One class (or ALL).

    Args:
        name: of the class; the AUC is over images that have it.
        auc, low, high: real against synthetic; 1 = told apart without fail. null, null_high: two random halves of the real
            subjects, mean and highest of HALVES.
        real, synthetic: images. share_real, share_synthetic: of images with the class; p: that they differ by chance, Holm over classes.
        reason: why there is no AUC, "" = there is one. warning: what a classifier could use, "" = nothing.
    """

    name: str
    auc: float
    low: float
    high: float
    null: float
    null_high: float
    real: int
    synthetic: int
    share_real: float = float("nan")
    share_synthetic: float = float("nan")
    p: float = float("nan")
    reason: str = ""
    warning: str = ""

    @property
    def seen(self) -> bool:
        """Whether the source can be recognised: the interval lies above 0.5 and above every null."""
        return not self.reason and self.low > max(0.5, self.null_high)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which knows no NaN; `from_dict` is its inverse."""
        return without_nan(asdict(self))

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Shortcut:
        """A row of a record."""
        return cls(**{k: float("nan") if v is None else v for k, v in row.items()})


def shortcuts(real: np.ndarray, synthetic: np.ndarray, real_labels: np.ndarray, synthetic_labels: np.ndarray, classes: Sequence[str],
              real_subjects: np.ndarray, seed: int = 0) -> list[Shortcut]:
    """All images, then each class: how well the source is seen, and whether it says something of the label.

    Args:
        real: features [n, d], synthetic: [m, d]; weight-free ones (metrics.features) or any others.
        real_labels: [n, K], synthetic_labels: [m, K]; 1, 0 or NaN (unknown: not counted). real_subjects: [n]; each synthetic image is its own.
    """
    features = np.concatenate([real, synthetic])
    source = np.arange(len(features)) >= len(real)
    subjects = np.concatenate([[f"r {s}" for s in real_subjects], [f"s {k}" for k in range(len(synthetic))]])
    labels = np.concatenate([real_labels, synthetic_labels])
    rows = [_one(ALL, features, source, subjects, np.ones(len(features), bool), seed)]
    differ = [prevalence_test(labels[:, k], source, subjects) for k in range(len(classes))]
    adjusted = multipletests([d[2] for d in differ], method="holm")[1] if differ else []
    for k, name in enumerate(classes):
        mine = _one(name, features, source, subjects, labels[:, k] == 1, seed)
        share_real, share_synthetic, _ = differ[k]
        warning = ""
        if adjusted[k] <= ALPHA and (rows[0].seen or mine.seen):
            warning = (f"{name}: {share_synthetic:.0%} of the synthetic images and {share_real:.0%} of the real ones have it, and the source can be "
                       "seen: a classifier can answer by the source")
        rows.append(Shortcut(**{**asdict(mine), "share_real": share_real, "share_synthetic": share_synthetic, "p": float(adjusted[k]), "warning": warning}))
    return rows


def _one(name: str, features: np.ndarray, source: np.ndarray, subjects: np.ndarray, use: np.ndarray, seed: int) -> Shortcut:
    features, source, subjects = features[use], source[use], subjects[use]
    n, m = int((~source).sum()), int(source.sum())
    people, nan = len(set(subjects[~source])), float("nan")
    if min(people, m) < FEWEST:
        return Shortcut(name, nan, nan, nan, nan, nan, n, m, reason=f"needs {FEWEST} real patients and {FEWEST} synthetic images, has {people} and {m}")
    found = told_apart(features, source, subjects, seed)
    real, who, null = features[~source], subjects[~source], []
    names = np.unique(who)
    for k in range(HALVES):
        half = np.random.default_rng([seed, 37, k]).permutation(names)[: len(names) // 2]
        null.append(told_apart(real, np.isin(who, half), who, seed + k, draws=1).value)
    return Shortcut(name, found.value, found.low, found.high, float(np.nanmean(null)), float(np.nanmax(null)), n, m)


def prevalence_test(label: np.ndarray, source: np.ndarray, subjects: np.ndarray) -> tuple[float, float, float]:
    """Shares of label = 1 in both sources, and the two-sided p of their being equal: a score test with subjects as clusters.

    The variance of a share is sum over subjects of (sum of their images' deviations from the common share)^2 / n^2.

    Args:
        label: [n] 1, 0 or NaN (unknown). source: bool [n], synthetic. subjects: [n].
    """
    known = ~np.isnan(label)
    label, source, subjects = label[known], source[known], subjects[known]
    if not source.any() or source.all():
        return float("nan"), float("nan"), 1.0
    shares, variance = [], 0.0
    for side in (False, True):
        mine = source == side
        off = np.bincount(np.unique(subjects[mine], return_inverse=True)[1].reshape(-1), label[mine] - label.mean())
        shares.append(float(label[mine].mean()))
        variance += np.square(off).sum() / mine.sum() ** 2
    p = 1.0 if variance <= 0 else 2 * norm.sf(abs(shares[1] - shares[0]) / np.sqrt(variance))
    return shares[0], shares[1], float(p)


def told(rows: Sequence[Shortcut]) -> str:
    """A table for a reader, warnings last."""
    wide = max(len(r.name) for r in rows)
    lines = [f"{'source, seen by features':<{wide + 2}}{'AUC real / synthetic':>24}{'halves of real (highest)':>28}{'real with it':>14}{'synthetic':>11}"]
    for r in rows:
        shares = "".join(f"{'' if np.isnan(v) else format(v, '.0%'):>{w}}" for v, w in ((r.share_real, 14), (r.share_synthetic, 11)))
        told_ = f"not tested: {r.reason}" if r.reason else f"{f'{r.auc:.2f} [{r.low:.2f}, {r.high:.2f}]':>24}{f'{r.null:.2f} ({r.null_high:.2f})':>28}"
        lines.append(f"{r.name:<{wide + 2}}{told_:<52}{shares}")
    return "\n".join([*lines, *(f"WARNING {r.warning}" for r in rows if r.warning)])

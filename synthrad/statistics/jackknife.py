"""An interval for any statistic of two samples of subjects, without assuming anything of the statistic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

GROUPS = 10


def grouped(subjects: np.ndarray, groups: int, seed: int) -> np.ndarray:
    """[n] group of each image: subjects dealt to groups of equal size at random, at most as many as there are subjects."""
    names, who = np.unique(np.asarray(subjects), return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(np.arange(len(names)) % min(groups, len(names)))
    return dealt[who]


def jackknife(statistic: Callable[[np.ndarray, np.ndarray], np.ndarray], x_subjects: np.ndarray, y_subjects: np.ndarray, groups: int = GROUPS,
              seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of a statistic with 95 % intervals over subjects of both samples: delete-a-group jackknife (Kott, 2001).

    A tenth of the subjects of one sample is left out at a time, with all their images, then a tenth of the other's. Sampling of both
    adds up; t with the degrees of freedom of Satterthwaite. Unlike a bootstrap it repeats no image: a statistic of nearest
    neighbours takes a repeated image for a copy.

    Args:
        statistic: rows of x, rows of y -> [k] values. x_subjects: [n]; y_subjects: [m].

    Returns:
        values, low, high, each [k].
    """
    rows = np.arange(len(x_subjects)), np.arange(len(y_subjects))
    value = np.atleast_1d(np.asarray(statistic(*rows), float))
    variances, freedom = [], []
    for side, subjects in enumerate((x_subjects, y_subjects)):
        group = grouped(subjects, groups, seed + side)
        g = int(group.max()) + 1
        if g < 2:
            raise ValueError(f"{g} subjects: a jackknife needs 2")
        less = np.array([np.atleast_1d(statistic(*[r[group != k] if s == side else r for s, r in enumerate(rows)])) for k in range(g)])
        variances.append((g - 1) / g * np.square(less - less.mean(0)).sum(0))
        freedom.append(g - 1)
    total = sum(variances)
    parts = sum(v**2 / f for v, f in zip(variances, freedom, strict=True))
    df = np.where(parts > 0, total**2 / np.where(parts > 0, parts, 1.0), sum(freedom))
    half = stats.t.ppf(0.975, df) * np.sqrt(total)
    return value, value - half, value + half

"""Corrections: for several arms, several controls, equivalence, overlapping splits; and the paper's t over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import stdtr

from synthrad.errors import InputError
from synthrad.statistics.layouts import FEWEST_SEEDS, Layout


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjusted p-values (Holm, 1979), in the given order; an empty mapping gives an empty one.

    Equal to statsmodels' multipletests, which collects garbage at every call (46 ms, far too long for simulations).
    """
    values = np.array(list(p_values.values()), dtype=float)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return dict(zip(p_values, np.minimum(adjusted, 1.0).tolist(), strict=True))


def intersection_union(p_values: Sequence[float]) -> float:
    """The p-value of "better than each": the largest one (Berger, Technometrics 24, 1982). Nothing is selected."""
    if not p_values:
        raise InputError("intersection-union test", "no comparison", "at least one reference")
    return float(max(p_values))


def tost(layout: Layout, margin: float) -> float:
    """Two one-sided tests of |difference| < margin (Schuirmann, 1987): the larger p-value."""
    if margin <= 0:
        raise InputError(
            "margin", f"{margin}", "a positive equivalence margin", "set endpoint.margin in the study file"
        )
    return max(layout.p_greater(-margin), layout.p_less(margin))


def nadeau_bengio(differences: np.ndarray, test_to_train: float, subjects: int) -> Layout:
    """Layout of replicates whose splits overlap: variance (1/S + n_test/n_train) s^2, S - 1 degrees of freedom.

    Args:
        differences: [S], one mean difference a replicate (own split, generator and draw).
        test_to_train: test subjects over training subjects. subjects: test subjects of the smallest replicate.

    Source: Nadeau and Bengio, Machine Learning 52, 2003, equation 9.
    """
    differences = np.asarray(differences, dtype=float)
    if test_to_train <= 0:
        raise InputError("test_to_train", f"{test_to_train}", "test subjects / training subjects, above 0")
    seeds, nan = len(differences), float("nan")
    if seeds < 2:
        return Layout(float(differences.mean()), nan, nan, nan, nan, nan, seeds, subjects)
    spread = float(differences.var(ddof=1))
    variance = (1 / seeds + test_to_train) * spread
    return Layout(float(differences.mean()), variance, seeds - 1.0, spread, nan, nan, seeds, subjects)


def seeds_t(means: np.ndarray, comparisons: int) -> float | None:
    """One-tailed paired t over seeds with Bonferroni (arXiv 2411.18602; pairing over seeds is our reading).

    It ignores that all seeds share the test subjects, so it is printed beside the verdict and drives none.

    Args:
        means: [S], difference of the test metric per seed.
        comparisons: number of tests of the table.

    Returns:
        min(1, comparisons * p), or None for fewer than 5 seeds.
    """
    means = np.asarray(means, dtype=float)
    if len(means) < FEWEST_SEEDS or np.isnan(means).any():
        return None
    spread = means.std(ddof=1)
    if spread == 0:
        return 0.0 if means.mean() > 0 else 1.0
    t = means.mean() / spread * len(means) ** 0.5
    return float(min(1.0, comparisons * stdtr(len(means) - 1, -t)))

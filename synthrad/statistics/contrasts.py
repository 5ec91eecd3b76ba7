"""Contrasts of estimates from overlapping or disjoint groups of subjects, each under the same seeds.

A gap between two subgroups is a difference of two means over different subjects, a change of that gap by fusion a difference of
four. Each estimate comes as its value under every seed and as the influence of every subject on it (of a mean: (x_i - mean) /
sqrt(n (n - 1)), so that the squares sum to the variance of the mean; of another metric: jackknife pseudo-values in place of x, Efron and
Stein, Annals of Statistics 9, 1981). Signed sums of influences, subject by subject, are the influence of the contrast, whoever is in
both groups; with them the two-way layout of layouts.py applies:

    A = var_s(T_s) / S,   B = sum_i (mean_s u_si)^2,   E = sum_si (u_si - mean_s u_si)^2 / (S (S - 1)),
    V = max(A - E, 0) + max(B - E, 0) + E.

For one mean over complete data A, B, E are MS_s, MS_i, MS_e over S n and V is that of `two_way`. The subjects' degrees of freedom are
Welch's: B^2 / sum_h [B_h^2 / (n_h - 1)] over strata h of subjects that are in the same estimates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthrad.errors import InputError
from synthrad.statistics.layouts import Layout, layout_of


def influence_of(pseudo: np.ndarray) -> np.ndarray:
    """Influence [S, n] of subjects with (pseudo-)values [S, n], n >= 2: their squares sum to the variance of the mean."""
    n = pseudo.shape[-1]
    return (pseudo - pseudo.mean(-1, keepdims=True)) / (n * (n - 1)) ** 0.5


def contrast(values: np.ndarray, influences: Sequence[np.ndarray], members: Sequence[np.ndarray], weights: Sequence[float],
             kinds: Sequence[np.ndarray] | None = None) -> Layout:
    """The layout of sum_k weight_k estimate_k.

    Args:
        values: [K, S], estimate k under each seed.
        influences: K arrays [S, n_k]. members: K arrays int [n_k], the subjects of the columns (equal numbers are the same person).
        weights: [K], such as 1, -1.
        kinds: K arrays bool [n_k] that split each estimate's subjects once more for the degrees of freedom: those with and
            without the finding, of an AUROC (its variance is a sum over both, DeLong et al., Biometrics 44, 1988).

    Returns:
        Layout whose `subjects` is the smallest n_k: its rule for an interval (10 subjects) holds for every group.
        Mean squares are NaN: there is no single n that they could be planned for.
    """
    values, weights = np.asarray(values, float), np.asarray(weights, float)
    if not len(values) == len(influences) == len(members) == len(weights) > 0:
        raise InputError("contrast", f"{len(values)} estimates, {len(weights)} weights", "as many of each, at least one")
    seeds, nan = values.shape[1], float("nan")
    smallest = min(len(m) for m in members)
    by_seed = weights @ values
    if seeds < 2 or smallest < 2:
        return Layout(float(by_seed.mean()), nan, nan, nan, nan, nan, seeds, smallest)
    people, at = np.unique(np.concatenate(list(members)), return_inverse=True)
    total, inside = np.zeros((seeds, len(people))), np.zeros((len(people), len(weights)), np.int8)
    start = 0
    for k, influence in enumerate(influences):
        place = at[start : start + influence.shape[1]]
        total[:, place] += weights[k] * influence  # a subject is once in an estimate
        inside[place, k] = 1 if kinds is None else 1 + np.asarray(kinds[k], np.int8)
        start += influence.shape[1]
    means = total.mean(0)
    strata = np.unique(inside, axis=0, return_inverse=True)[1].reshape(-1)
    parts, sizes = np.bincount(strata, means**2), np.bincount(strata)
    a, b = by_seed.var(ddof=1) / seeds, parts.sum()
    e = ((total - means) ** 2).sum() / (seeds * (seeds - 1))
    df = b**2 / (parts**2 / np.maximum(sizes - 1, 1)).sum() if b > 0 else len(people) - 1.0
    scale = seeds * (df + 1)
    found = layout_of(float(by_seed.mean()), (a * scale, b * scale, e * scale), seeds, df + 1)
    return Layout(found.value, found.variance, found.df, nan, nan, nan, seeds, smallest)


def range_by_chance(deviations: np.ndarray, quantile: float = 0.95, draws: int = 4000, rng_seed: int = 0) -> tuple[float, float]:
    """Largest minus smallest of independent normal estimates of one and the same number: its mean and a quantile.

    The gap that groups of these sizes show where there is none.

    Args:
        deviations: [G], standard error of each group's estimate.
    """
    deviations = np.asarray(deviations, float)
    drawn = np.random.default_rng(rng_seed).normal(size=(draws, len(deviations))) * deviations
    ranges = np.ptp(drawn, axis=1)
    return float(ranges.mean()), float(np.quantile(ranges, quantile))

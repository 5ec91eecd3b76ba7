"""Power: which difference the rule would find, from estimated mean squares.

The rule claims a gain where the largest of k one-sided p-values (one a reference) passes Holm over m arms. Its power is bounded
from below by 1 - k (1 - power of one comparison at alpha / m): Holm's first step is Bonferroni's, and k comparisons fail at most
k times as often as one. With the mean squares known the differences given here are found at least as often as stated; with few
seeds they are estimates, and the simulated rule found 88-91 % where 90 % is said (benchmarks/results/inference.jsonl).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import stdtrit
from scipy.stats import nct

from synthrad.errors import InputError
from synthrad.statistics.layouts import Layout, variance_of_mean


def power_of(
    difference: float, variance: float, df: float, alpha: float = 0.05, arms: int = 1, references: int = 1
) -> float:
    """Probability (a lower bound for references > 1) that the rule finds a true difference; noncentral t."""
    critical = stdtrit(df, 1 - alpha / arms)
    single = float(nct.sf(critical, df, difference / variance**0.5))
    return max(0.0, 1 - references * (1 - single))


def smallest_detectable(
    variance: float, df: float, power: float = 0.8, alpha: float = 0.05, arms: int = 1, references: int = 1
) -> float:
    """The true difference that the rule finds with at least the given power, in the metric's own unit.

    Args:
        variance, df: of one comparison (`Layout.variance`, `Layout.df`).
        power: wanted, in (0, 1). alpha: one-sided level of the family of `arms`; references: comparisons an arm must win.
    """
    if not 0 < power < 1:
        raise InputError("power", f"{power}", "a number between 0 and 1")
    if variance <= 0:
        return 0.0
    high = 4.0
    while power_of(high, 1.0, df, alpha, arms, references) < power:  # few degrees of freedom have long tails
        high *= 2
    scaled = brentq(lambda d: power_of(d, 1.0, df, alpha, arms, references) - power, 0, high, xtol=1e-6)
    return float(scaled * variance**0.5)


def power_table(
    layout: Layout,
    seeds: Sequence[int],
    subjects: Sequence[int],
    alpha: float = 0.05,
    arms: int = 1,
    references: int = 1,
) -> pd.DataFrame:
    """Smallest detectable differences for other numbers of seeds and test subjects.

    The layout's mean squares give the variance components: seed (MS_s - MS_e) / n, subject (MS_i - MS_e) / S, residual MS_e, each
    at least 0.

    Returns:
        Table with columns seeds, subjects, half_width (of the two-sided 95 % interval), detectable_80, detectable_90.
    """
    if not np.isfinite([layout.ms_seed, layout.ms_subject, layout.ms_residual]).all():
        raise InputError("power_table", "a layout without mean squares", "at least 2 seeds and 2 subjects")
    rows = []
    for s in seeds:
        for n in subjects:
            variance, df = planned(layout, s, n)
            found = [smallest_detectable(variance, df, p, alpha, arms, references) for p in (0.8, 0.9)]
            rows.append((s, n, float(stdtrit(df, 0.975)) * variance**0.5, *found))
    return pd.DataFrame(rows, columns=["seeds", "subjects", "half_width", "detectable_80", "detectable_90"])


def planned(layout: Layout, seeds: int, subjects: int) -> tuple[float, float]:
    """V and df expected with S seeds and n subjects, given the components of a finished layout."""
    residual = layout.ms_residual
    seed = max(layout.ms_seed - residual, 0) / layout.subjects
    subject = max(layout.ms_subject - residual, 0) / layout.seeds
    squares = (residual + subjects * seed, residual + seeds * subject, residual)
    variance, df = variance_of_mean(*(np.asarray(m, dtype=float) for m in squares), seeds, subjects)
    return float(variance), float(df)


def subjects_needed(layout: Layout, difference: float, seeds: int, power: float = 0.8, alpha: float = 0.05, arms: int = 1,
                    references: int = 1, most: int = 100_000) -> int | None:
    """The fewest test subjects with which the rule finds a difference with that power, given the seeds.

    Returns:
        A number from 2 on, or None where `most` do not suffice: what the seeds differ by no number of subjects takes away.
    """
    _check_needed(layout, difference)
    return _fewest(lambda n: _finds(layout, difference, seeds, n, power, alpha, arms, references), most)


def seeds_needed(layout: Layout, difference: float, subjects: int, power: float = 0.8, alpha: float = 0.05, arms: int = 1,
                 references: int = 1, most: int = 1000) -> int | None:
    """The fewest seeds, given the test subjects; None where `most` do not suffice: what patients differ by no number of seeds takes away."""
    _check_needed(layout, difference)
    return _fewest(lambda s: _finds(layout, difference, s, subjects, power, alpha, arms, references), most)


def _check_needed(layout: Layout, difference: float) -> None:
    squares = [layout.ms_seed, layout.ms_subject, layout.ms_residual]
    if difference <= 0 or not np.isfinite(squares).all():
        raise InputError("what is needed", f"difference {difference}, mean squares {squares}",
                         "a positive difference and a layout of at least 2 seeds and 2 subjects")


def _finds(layout: Layout, difference: float, seeds: int, subjects: int, power: float, alpha: float, arms: int, references: int) -> bool:
    variance, df = planned(layout, seeds, subjects)
    return variance <= 0 or power_of(difference, variance, df, alpha, arms, references) >= power


def _fewest(enough: Callable[[int], bool], most: int) -> int | None:
    """The smallest number from 2 to `most` that is enough; more never are less."""
    if not enough(most):
        return None
    low, high = 1, 2
    while not enough(high):
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high

"""The two-way crossed layout: the same test subjects appear under every downstream seed.

D_si = metric(arm) - metric(reference) for seed s and subject i is modelled as mean + seed + subject + residual with
independent zero-mean effects (Searle, Casella, McCulloch, Variance Components, 1992, chapter 4). The residual holds the
seed x subject interaction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from synthrad.errors import InputError

FEWEST_SUBJECTS = 10  # fewer: no interval (design, section 6)
FEWEST_SEEDS = 5  # fewer: no p-value (design, section 6)
LEAST_SPREAD = 1e-12  # standard error below which all differences are equal up to rounding


@dataclass(frozen=True)
class Layout:
    """A mean difference with its variance; everything an interval or a p-value needs.

    Args:
        value: the mean difference.
        variance: V, the estimated variance of `value`; df: Satterthwaite's degrees of freedom of V.
        ms_seed, ms_subject, ms_residual: mean squares (NaN where they cannot be estimated).
        seeds, subjects: S and n.
        undefined: share of resamples in which the metric could not be computed (0 for a metric of subjects).
    """

    value: float
    variance: float
    df: float
    ms_seed: float
    ms_subject: float
    ms_residual: float
    seeds: int
    subjects: int
    undefined: float = 0.0

    @property
    def has_spread(self) -> bool:
        """Differences that differ. Without any (nets that learned nothing answer alike) nothing can be inferred."""
        return bool(self.variance > LEAST_SPREAD**2)

    @property
    def has_interval(self) -> bool:
        """Enough subjects, seeds and defined resamples for an interval, and a spread to take it from."""
        return (
            self.subjects >= FEWEST_SUBJECTS
            and self.seeds >= 2
            and np.isfinite(self.variance)
            and self.has_spread
            and self.df > 0
        )

    @property
    def has_p(self) -> bool:
        """Enough for a p-value too."""
        return self.has_interval and self.seeds >= FEWEST_SEEDS

    def interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """Two-sided interval value -+ t_df sqrt(V), or None where `has_interval` is false."""
        if not self.has_interval:
            return None
        half = float(stdtrit(self.df, 0.5 + confidence / 2)) * self.variance**0.5
        return self.value - half, self.value + half

    def p_greater(self, null: float = 0.0) -> float:
        """One-sided p-value against the null that the difference is at most `null`."""
        if self.variance <= 0:  # no spread to measure a difference by: no evidence
            return 1.0
        return float(stdtr(self.df, (null - self.value) / self.variance**0.5))

    def p_less(self, null: float = 0.0) -> float:
        """One-sided p-value against the null that the difference is at least `null`."""
        if self.variance <= 0:
            return 1.0
        return float(stdtr(self.df, (self.value - null) / self.variance**0.5))

    def p_two_sided(self, null: float = 0.0) -> float:
        """Two-sided p-value: `null` lies outside the interval of confidence 1 - p."""
        return min(1.0, 2 * min(self.p_greater(null), self.p_less(null)))


def mean_squares(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean and mean squares of complete matrices.

    Args:
        differences: [..., S, n] with S, n >= 2.

    Returns:
        mean, MS_seed = n var(row means), MS_subject = S var(column means), MS_residual, each [...].
    """
    seeds, subjects = differences.shape[-2:]
    mean = differences.mean((-2, -1))
    rows, columns = differences.mean(-1), differences.mean(-2)
    rest = differences - rows[..., :, None] - columns[..., None, :] + mean[..., None, None]
    ms_residual = (rest**2).sum((-2, -1)) / ((seeds - 1) * (subjects - 1))
    return mean, subjects * rows.var(-1, ddof=1), seeds * columns.var(-1, ddof=1), ms_residual


def variance_of_mean(
    ms_seed: np.ndarray, ms_subject: np.ndarray, ms_residual: np.ndarray, seeds: int, subjects: int
) -> tuple[np.ndarray, np.ndarray]:
    """V and its degrees of freedom.

    V = [max(MS_s - MS_e, 0) + max(MS_i - MS_e, 0) + MS_e] / (S n). Degrees of freedom after Satterthwaite (1946), summing
    c_k^2 MS_k^2 / df_k over the mean squares with the coefficients c_k with which they **enter V**: where a component is
    clipped at zero its mean square has left V and MS_e has coefficient 0 (one clipped) or 1 (both) instead of -1. Design
    section 6 kept all three terms always; that made the degrees of freedom too few where components vanish (coverage
    99.0 % instead of 98.1 % at 5 seeds x 10 subjects) and changes nothing elsewhere. What is left of the excess coverage
    without any seed and subject effect (up to 98 %) is the upward bias of clipping; it errs to the safe side.
    """
    has_seed, has_subject = ms_seed > ms_residual, ms_subject > ms_residual
    total = np.where(has_seed, ms_seed, 0) + np.where(has_subject, ms_subject, 0)
    own = 1 - has_seed.astype(float) - has_subject
    total = total + own * ms_residual
    parts = (
        np.where(has_seed, ms_seed**2, 0) / (seeds - 1)
        + np.where(has_subject, ms_subject**2, 0) / (subjects - 1)
        + own**2 * ms_residual**2 / ((seeds - 1) * (subjects - 1))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        df = np.where(parts > 0, total**2 / parts, (seeds - 1) * (subjects - 1))
    return total / (seeds * subjects), df


def layout_of(
    value: float, squares: tuple[float, float, float], seeds: int, subjects: int, undefined: float = 0.0
) -> Layout:
    """A Layout from a value and mean squares (seed, subject, residual), by the two-way formula."""
    variance, df = variance_of_mean(*(np.asarray(m, dtype=float) for m in squares), seeds, subjects)
    return Layout(
        float(value), float(variance), float(df), *(float(m) for m in squares), seeds, subjects, undefined
    )


def two_way(differences: np.ndarray) -> Layout:
    """The layout of one matrix of differences.

    Args:
        differences: [S, n]; a subject that is undefined (NaN) under every seed is dropped.

    Raises:
        InputError: a subject is undefined under some seeds only, or no subject is left.
    """
    differences = np.asarray(differences, dtype=float)
    unknown = np.isnan(differences)
    if (partly := unknown.any(0) & ~unknown.all(0)).any():
        raise InputError(
            "matrix of differences",
            f"{int(partly.sum())} subject(s) with a value under some seeds only",
            "the same test subjects under every seed",
            "run the missing seeds, or drop the incomplete ones",
        )
    differences = differences[:, ~unknown.all(0)]
    seeds, subjects = differences.shape
    if subjects == 0:
        raise InputError(
            "matrix of differences",
            "no subject with a defined metric",
            "at least one",
            "name classes that the test split holds",
        )
    if seeds < 2 or subjects < 2:
        nan = float("nan")
        return Layout(float(differences.mean()), nan, nan, nan, nan, nan, seeds, subjects)
    mean, *squares = mean_squares(differences)
    return layout_of(float(mean), tuple(float(m) for m in squares), seeds, subjects)

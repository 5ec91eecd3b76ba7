"""Crossed bootstrap for a metric of a set (AUROC, average precision, F1).

Subjects (with all their images) and seeds are drawn independently; the metric is recomputed in each resample, once for all
arms, so that differences stay paired. The metric of a resample is the mean over its seeds, so the seeds can be drawn after
the metric was computed once per seed.

The draws give two intervals. The percentile interval of the crossed draws is the textbook one (McCullagh, Bernoulli 6, 2000; Owen,
Annals of Applied Statistics 1, 2007, "pigeonhole bootstrap"), but it counts the residual about three times and the seed effect
only (S - 1) / S times with a normal in place of a t quantile: with 5 seeds it is too wide or too narrow, depending on which
effect leads (measured in benchmarks/results/inference.jsonl). So verdicts use `Draws.layout()`: the subject resamples supply the
mean squares of the two-way layout, the seeds enter exactly, and V, df and t are those of layouts.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from synthrad.statistics.layouts import Layout, layout_of

SetMetric = Callable[
    [np.ndarray], np.ndarray
]  # counts of subjects [B, n] -> metric per resample and seed [B, S]
MOST_UNDEFINED = (
    0.01  # share of undefined resamples above which there is no interval: some 5 positive subjects
)


@dataclass(frozen=True)
class Draws:
    """A metric (or a difference of two) under resampled subjects.

    Args:
        point: [S], of the sample itself.
        resampled: [B, S], subjects drawn; NaN rows where undefined.
        chosen: [B, S] int, the seeds drawn for each resample.
        subjects: n.
    """

    point: np.ndarray
    resampled: np.ndarray
    chosen: np.ndarray
    subjects: int

    def __sub__(self, other: Draws) -> Draws:
        """Paired difference: both must come from the same call of `draw`'s plan."""
        return Draws(self.point - other.point, self.resampled - other.resampled, self.chosen, self.subjects)

    @property
    def undefined(self) -> float:
        """Share of resamples without a value."""
        return float(np.isnan(self.resampled).any(1).mean())

    @property
    def crossed(self) -> np.ndarray:
        """[B'] means over drawn seeds and drawn subjects, undefined ones left out."""
        means = np.take_along_axis(self.resampled, self.chosen, 1).mean(1)
        return means[~np.isnan(means)]

    def percentile(self, confidence: float = 0.95) -> tuple[float, float]:
        """Percentile interval of the crossed draws (see the module's docstring for why it drives no verdict)."""
        low, high = np.quantile(self.crossed, [0.5 - confidence / 2, 0.5 + confidence / 2])
        return float(low), float(high)

    def p_greater(self, null: float = 0.0) -> float:
        """One-sided p by inversion of the percentile interval, never below 1 / (B + 1)."""
        crossed = self.crossed
        return float((1 + (crossed <= null).sum()) / (1 + len(crossed)))

    def p_two_sided(self, null: float = 0.0) -> float:
        """Two-sided p by inversion of the percentile interval."""
        crossed = self.crossed
        tail = min((crossed <= null).sum(), (crossed >= null).sum())
        return float(min(1.0, 2 * (1 + tail) / (1 + len(crossed))))

    def layout(self) -> Layout:
        """The two-way layout whose subject parts come from the resamples.

        Let C be the covariance over resamples of the per-seed metrics [S, S]. Given the seeds, the mean over seeds has variance
        1'C1/S^2 = MS_i / (S n) (n - 1) / n, and tr(C)/S = [MS_i + (S - 1) MS_e] / (S n) (n - 1) / n. MS_s = n var(point).
        """
        seeds = len(self.point)
        nan = float("nan")
        if seeds < 2 or self.subjects < 2 or np.isnan(self.point).any() or self.undefined > MOST_UNDEFINED:
            return Layout(
                float(self.point.mean()), nan, nan, nan, nan, nan, seeds, self.subjects, self.undefined
            )
        known = self.resampled[~np.isnan(self.resampled).any(1)]
        covariance = np.cov(known, rowvar=False) * self.subjects / (self.subjects - 1)
        ms_subject = self.subjects * covariance.sum() / seeds
        ms_residual = (self.subjects * np.trace(covariance) - ms_subject) / (seeds - 1)
        ms_seed = self.subjects * self.point.var(ddof=1)
        squares = (ms_seed, ms_subject, max(ms_residual, 0.0))
        return layout_of(self.point.mean(), squares, seeds, self.subjects, self.undefined)


@dataclass(frozen=True)
class Plan:
    """One plan of resamples, shared by all arms: counts [B, n] and chosen seeds [B, S]."""

    counts: np.ndarray
    chosen: np.ndarray

    def draw(self, metric: SetMetric) -> Draws:
        """Compute a metric under every resample of the plan."""
        subjects = self.counts.shape[1]
        point = metric(np.ones((1, subjects)))[0]
        return Draws(point, metric(self.counts), self.chosen, subjects)


def plan_resamples(subjects: int, seeds: int, resamples: int = 1000, rng_seed: int = 0) -> Plan:
    """Draw subjects and seeds with replacement, independently of each other.

    Returns:
        Plan with counts float [resamples, subjects], rows summing to `subjects`, and chosen int [resamples, seeds].
    """
    rng = np.random.default_rng(rng_seed)
    counts = rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=resamples).astype(float)
    return Plan(counts, rng.integers(0, seeds, size=(resamples, seeds)))

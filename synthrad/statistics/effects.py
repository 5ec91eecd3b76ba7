"""Effect sizes: how large a difference is against what patients differ by."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaln
from scipy.stats import nct
from statsmodels.stats.proportion import proportion_confint

from synthrad.statistics.layouts import FEWEST_SUBJECTS


@dataclass(frozen=True)
class EffectSize:
    """Of paired differences over subjects, each the mean over seeds: it speaks of these trained nets and other patients.

    Args:
        d_z: mean over standard deviation of the differences (Cohen, 1988), with its exact interval if they are normal.
        g: d_z without its bias of small samples (Hedges, 1981), and its interval.
        better: share of subjects for whom the arm is better (ties half), with Wilson's interval.
    """

    d_z: float
    d_low: float | None
    d_high: float | None
    g: float
    g_low: float | None
    g_high: float | None
    better: float
    better_low: float
    better_high: float
    subjects: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def paired_effect(differences: np.ndarray, confidence: float = 0.95) -> EffectSize | None:
    """Standardised paired difference of subjects [n]; None where they are fewer than 10 or do not differ.

    The interval inverts the noncentral t: d sqrt(n) has n - 1 degrees of freedom and noncentrality delta sqrt(n) (Cumming and
    Finch, Educational and Psychological Measurement 61, 2001).
    """
    x = np.asarray(differences, float)
    n = len(x)
    if n < FEWEST_SUBJECTS or not x.std(ddof=1) > 1e-12:
        return None
    d = float(x.mean() / x.std(ddof=1))
    low, high = (_noncentrality(d * n**0.5, n - 1, p) / n**0.5 for p in (0.5 + confidence / 2, 0.5 - confidence / 2))
    j = float(np.exp(gammaln((n - 1) / 2) - gammaln((n - 2) / 2)) / ((n - 1) / 2) ** 0.5)  # Hedges' exact factor
    wins = float((x > 0).sum() + 0.5 * (x == 0).sum())
    share = proportion_confint(wins, n, 1 - confidence, method="wilson")
    return EffectSize(d, low, high, j * d, j * low, j * high, wins / n, float(share[0]), float(share[1]), n)


def _noncentrality(t: float, df: float, probability: float) -> float:
    """The noncentrality at which a t as small as this one has the given probability."""
    reach = 5 * (1 + t**2 / (2 * df)) ** 0.5  # five standard errors; far beyond, SciPy's noncentral t is NaN
    return float(brentq(lambda nc: nct.cdf(t, df, nc) - probability, t - reach, t + reach, xtol=1e-8))

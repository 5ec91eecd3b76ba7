"""How well scores tell members from non-members: the AUC with an interval that holds near 1, and members found at few false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.optimize import brentq

ENOUGH_FOR_ONE_PERCENT = 300  # non-members, from which a false-positive rate of 1 % is three of them
FEW_FALSE = 10  # of fewer non-members, so many may be called members


@dataclass(frozen=True)
class Found:
    """Members above a threshold that few non-members reach.

    Args:
        false_positive_rate: of non-members. rate: of members; low, high: its exact interval (Clopper and Pearson, 1934).
        false_low, false_high: exact interval of the false-positive rate itself.
    """

    false_positive_rate: float
    rate: float
    low: float
    high: float
    false_low: float
    false_high: float


def auc_interval(auc: float, sizes: Sequence[tuple[int, int]], confidence: float = 0.95) -> tuple[float, float]:
    """Interval of an AUC over the pairs of one stratum: the values a for which |auc - a| <= z sqrt(V(a)).

    V(a) is Hanley and McNeil's variance with Newcombe's common sample size (Newcombe 2006, Statistics in Medicine 25: 559-573,
    method 5), at the value that is asked for, not at the one that was found: at an AUC of 1 it still has a width. Over strata,
    weights are shares of pairs.

    Args:
        auc: found, in [0, 1]. sizes: members and non-members of each stratum, both at least 1.
    """
    pairs = np.array([m * n for m, n in sizes], float)
    weights = pairs / pairs.sum()
    half = np.array([(m + n) / 2 - 1 for m, n in sizes])
    z = stats.norm.ppf(0.5 + confidence / 2)

    def beyond(a: float) -> float:
        variance = a * (1 - a) * (1 + half * ((1 - a) / (2 - a) + a / (1 + a))) / pairs
        return abs(auc - a) - z * float(np.sqrt((np.square(weights) * variance).sum()))

    step = 1e-9  # off 0 and 1, where V is 0 whatever was found
    low = 0.0 if auc <= step else brentq(beyond, 0.0, auc - step)
    high = 1.0 if auc >= 1 - step else brentq(beyond, auc + step, 1.0)
    return float(low), float(high)


def found_at_few_false(members: np.ndarray, others: np.ndarray, confidence: float = 0.95) -> Found:
    """Members found at a false-positive rate of 1 % with 300 or more non-members, else where ten of these are above.

    Args:
        members, others: scores, higher = more like a member; of equal scores none is above.
    """
    n = len(others)
    allowed = min(n, n // 100 if n >= ENOUGH_FOR_ONE_PERCENT else FEW_FALSE)
    threshold = np.sort(others)[::-1][allowed] if allowed < n else -np.inf
    false, true = int((others > threshold).sum()), int((members > threshold).sum())
    (low, high), (false_low, false_high) = _exact(true, len(members), confidence), _exact(false, n, confidence)
    return Found(false / n, true / len(members), low, high, false_low, false_high)


def _exact(hits: int, number: int, confidence: float) -> tuple[float, float]:
    interval = stats.binomtest(hits, number).proportion_ci(confidence, "exact")
    return float(interval.low), float(interval.high)

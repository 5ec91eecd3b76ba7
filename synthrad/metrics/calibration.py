"""Calibration of classifiers: reliability curves and the expected calibration error (ECE), beside what chance alone gives.

Bins of equal mass (Nixon et al., 2019). A binned ECE is above 0 even for probabilities that are right, the more the fewer images: so
`ece_by_chance` draws the targets from the probabilities themselves (consistency resampling, Bröcker and Smith, 2007).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from synthrad.metrics.classification import ECE_BINS, ClassScores


@dataclass(frozen=True)
class ReliabilityBin:
    """One point of a reliability curve: mean probability, share of positive images with Wilson's interval, number of images."""

    probability: float
    share: float
    low: float
    high: float
    images: int


def bins_of(probability: np.ndarray, bins: int = ECE_BINS) -> list[np.ndarray]:
    """Images of each bin, of equal mass, from the lowest probability up; fewer images than bins: one an image."""
    order = np.argsort(probability, kind="stable")
    return [p for p in np.array_split(order, min(bins, len(order))) if len(p)]


def reliability(probability: np.ndarray, target: np.ndarray, bins: int = ECE_BINS) -> list[ReliabilityBin]:
    """The reliability curve of probabilities [N] and bool targets [N]."""
    found = []
    for part in bins_of(probability, bins):
        positive, n = int(target[part].sum()), len(part)
        low, high = proportion_confint(positive, n, 0.05, "wilson")
        found.append(ReliabilityBin(float(probability[part].mean()), positive / n, float(low), float(high), n))
    return found


def calibration_metric(scores: ClassScores, bins: int = ECE_BINS) -> Callable[[np.ndarray], np.ndarray]:
    """ECE as a function of subject counts [B, n] -> [B, S], for resampling; the bins are those of the whole set."""
    parts = [bins_of(p, bins) for p in scores.probability]
    gap = scores.probability - scores.target

    def compute(counts: np.ndarray) -> np.ndarray:
        weights = counts[:, scores.subject]
        total = weights.sum(1)
        found = [sum(np.abs(weights[:, b] @ gap[s, b]) for b in mine) / np.where(total > 0, total, np.nan) for s, mine in enumerate(parts)]
        return np.stack(found, axis=1)

    return compute


def ece_by_chance(scores: ClassScores, bins: int = ECE_BINS, draws: int = 500, rng_seed: int = 0) -> tuple[float, float]:
    """Mean and 95 % quantile of the ECE (mean over seeds) if the probabilities of every net were right.

    The targets of the images are drawn independently of each other, for all seeds from one uniform number an image: several images of a
    patient, who share a finding, vary more than that.
    """
    rng = np.random.default_rng(rng_seed)
    uniform = rng.random((draws, scores.probability.shape[1]))
    total = np.zeros(draws)
    for p in scores.probability:
        gap = p - (uniform < p)
        total += sum(np.abs(gap[:, b].sum(1)) for b in bins_of(p, bins)) / len(p)
    found = total / len(scores.probability)
    return float(found.mean()), float(np.quantile(found, 0.95))

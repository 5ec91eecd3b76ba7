"""Adherence: does a generator draw what it was asked for? Judged by nets that learned from real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthrad.errors import InputError
from synthrad.metrics.classification import weighted_auroc
from synthrad.metrics.regions import agreement

Z95 = 1.959963984540054
FEWEST_CASES = 5  # with and without a finding, below which an AUROC says nothing


@dataclass(frozen=True)
class Auroc:
    """Area under the ROC curve.

    Args:
        value: 0.5 = chance, 1 = every case with the finding ranks above every case without; NaN with fewer than FEWEST_CASES.
        error: standard error over independent cases (DeLong et al. 1988, equation 5).
        positive, negative: cases with and without.
    """

    value: float
    error: float
    positive: int
    negative: int

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, cut to [0, 1]; NaN where the value is."""
        if np.isnan(self.value):
            return float("nan"), float("nan")
        return max(0.0, self.value - Z95 * self.error), min(1.0, self.value + Z95 * self.error)


def auroc(score: np.ndarray, asked: np.ndarray) -> Auroc:
    """AUROC of scores [n] for what was asked [n]: 1, 0 or NaN (left open, not counted). Ties count half."""
    score, asked = np.asarray(score, dtype=float), np.asarray(asked, dtype=float)
    if score.shape != asked.shape or score.ndim != 1:
        raise InputError("auroc", f"shapes {score.shape} and {asked.shape}", "two vectors of equal length")
    with_, without = score[asked == 1], score[asked == 0]
    m, n = len(with_), len(without)
    if min(m, n) < FEWEST_CASES:
        return Auroc(float("nan"), float("nan"), m, n)
    ordered = np.sort(without)
    placed = (np.searchsorted(ordered, with_, "left") + np.searchsorted(ordered, with_, "right")) / (2 * n)
    ordered = np.sort(with_)
    theirs = 1 - (np.searchsorted(ordered, without, "left") + np.searchsorted(ordered, without, "right")) / (2 * m)
    return Auroc(float(placed.mean()), float(np.sqrt(placed.var(ddof=1) / m + theirs.var(ddof=1) / n)), m, n)


@dataclass(frozen=True)
class Resampled:
    """A number with its 95 % percentile interval over resampled subjects; NaN where there is none."""

    value: float
    low: float
    high: float


def subject_weights(subjects: Sequence[object] | np.ndarray, draws: int, seed: int) -> np.ndarray:
    """[1 + draws, n]: how often each image counts: once in the first row, then in bootstrap samples of the subjects."""
    names, who = np.unique(np.asarray(subjects), return_inverse=True)
    counts = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return np.concatenate([np.ones((1, len(names))), counts])[:, who.reshape(-1)]


def interval_of(values: np.ndarray) -> Resampled:
    """Of values whose first is that of the sample and whose others are those of resamples (undefined ones are left out)."""
    drawn = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or not len(drawn):
        return Resampled(float(values[0]), float("nan"), float("nan"))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Resampled(float(values[0]), float(low), float(high))


def auroc_of_subjects(score: np.ndarray, asked: np.ndarray, subjects: Sequence[object] | np.ndarray, draws: int = 1000,
                      seed: int = 0) -> Resampled:
    """AUROC with an interval over subjects, each drawn with all its images.

    Args:
        score: [n]. asked: [n], 1, 0 or NaN (left open, not counted). subjects: [n].

    Returns:
        NaN where fewer than FEWEST_CASES images have the finding, or lack it.
    """
    known = ~np.isnan(np.asarray(asked, float))
    score, asked, subjects = np.asarray(score, float)[known], np.asarray(asked, float)[known] == 1, np.asarray(subjects)[known]
    if min(asked.sum(), (~asked).sum()) < FEWEST_CASES:
        return Resampled(float("nan"), float("nan"), float("nan"))
    return interval_of(weighted_auroc(score, asked, subject_weights(subjects, draws, seed)))


@dataclass(frozen=True)
class MaskAgreement:
    """How well masks fit their images, as a net sees the images.

    Args:
        dice: mean over images of the Dice between an image's own mask and the net's; NaN where no image has a structure.
        error: its standard error over images.
        other: the same with the mask of another image: what an image that ignores its mask would get.
        images: that count.
    """

    dice: float
    error: float
    other: float
    images: int


def mask_agreement(masks: np.ndarray, prediction: np.ndarray, structures: Sequence[int]) -> MaskAgreement:
    """Compare masks with what a net sees in their images.

    Args:
        masks: uint8 [n, L, h, w]; 255 = layer unknown. prediction: uint8 [n, L, h, w]. structures: of each layer.
    """
    asked = np.zeros(sum(structures), dtype=bool)
    own = np.array([agreement(m, p, list(structures), asked)[0] for m, p in zip(masks, prediction, strict=True)])
    shifted = np.roll(masks, 1, axis=0)
    other = np.array([agreement(m, p, list(structures), asked)[0] for m, p in zip(shifted, prediction, strict=True)])
    known = own[~np.isnan(own)]
    if not len(known):
        return MaskAgreement(float("nan"), float("nan"), float("nan"), 0)
    error = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else float("nan")
    others = other[~np.isnan(other)]
    return MaskAgreement(float(known.mean()), error, float(others.mean()) if len(others) else float("nan"), len(known))

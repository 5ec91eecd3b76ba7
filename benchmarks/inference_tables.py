"""Simulated tables with known effects: seed x arm, subject, subject x arm, seed x subject x arm, several images a subject.

Used by bench_inference.py and by tests/statistics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from synthrad.metrics.classification import ClassScores


@dataclass(frozen=True)
class Effects:
    """Standard deviations of an arm's own effects, in the metric's unit (matrices) or of the latent score (answers)."""

    seed: float = 0.01
    subject: float = 0.03
    residual: float = 0.03
    image: float = 0.05
    shared_subject: float = 0.10  # cancels in differences of matrices


def matrices(
    rng, tables: int, arms: int, seeds: int, subjects: int, images: int, effects: Effects
) -> np.ndarray:
    """[tables, arms, seeds, subjects] metric per subject, mean 0.8, the mean over `images` images each."""
    e = effects
    shape = (tables, arms, seeds, subjects)
    found = 0.8 + e.shared_subject * rng.standard_normal((tables, 1, 1, subjects))
    found = found + e.seed * rng.standard_normal((tables, arms, seeds, 1))
    found = found + e.subject * rng.standard_normal((tables, arms, 1, subjects))
    return found + (e.residual**2 + e.image**2 / images) ** 0.5 * rng.standard_normal(shape)


def answers(
    rng, separations, seeds: int, subjects: int, images: int, effects: Effects, prevalence: float = 0.3
) -> list[ClassScores]:
    """One table of a classifier's answers per arm; a subject is ill or not, all its images alike.

    score = (separation + seed effect) * target + shared subject + subject x arm + seed x subject x arm + image.
    """
    e = effects
    ill = np.repeat(rng.random(subjects) < prevalence, images)
    who = np.repeat(np.arange(subjects), images)
    shared = e.shared_subject * rng.standard_normal(subjects)[who]
    found = []
    for separation in separations:
        own = e.subject * rng.standard_normal(subjects)[who]
        rest = e.residual * rng.standard_normal((seeds, subjects))[:, who] + e.image * rng.standard_normal(
            (seeds, len(who))
        )
        seed = e.seed * rng.standard_normal((seeds, 1))
        score = (separation + seed) * ill + shared + own + rest
        found.append(ClassScores(score, ill, who, np.full(score.shape, separation / 2)))
    return found


def true_auroc(separation: float, effects: Effects) -> float:
    """Expected AUROC of `answers` over seeds, subjects and images."""
    e = effects
    spread = 2 * (e.shared_subject**2 + e.subject**2 + e.residual**2 + e.image**2) + e.seed**2
    return float(ndtr(separation / spread**0.5))

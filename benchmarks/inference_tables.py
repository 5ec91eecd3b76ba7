"""Simulated tables with known effects: seed x arm, subject, subject x arm, seed x subject x arm, several images a subject.

Used by bench_inference.py, bench_subgroups.py and by tests/statistics and tests/study.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from synthrad.metrics.bias import GroupScore
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


def groups(
    rng, sizes, seeds: int = 5, gap: float = 0.0, widening: float = 0.0, subject: float = 0.03
) -> dict[str, dict[str, list[GroupScore]]]:
    """Subgroup -> arm -> its score: Dice of patients in subgroups of these sizes, of a reference and a fused arm.

    Subgroup 0 is worse by `gap` in both arms, and by `widening` more in the fused one. Standard deviations: 0.1 between patients, `subject`
    of what an arm does to a patient, 0.01 of an arm's seeds, 0.04 of the rest.
    """
    shift = {arm: rng.normal(0, 0.01, (seeds, 1)) for arm in ("real_only", "fused")}
    found: dict[str, dict[str, list[GroupScore]]] = {}
    for g, n in enumerate(sizes):
        names, shared = tuple(f"g{g}p{i:03d}" for i in range(n)), rng.normal(0.8, 0.1, (1, n))
        found[f"g{g}"] = {}
        for arm in shift:
            own = shift[arm] + rng.normal(0, subject, (1, n)) + rng.normal(0, 0.04, (seeds, n))
            matrix = shared + own - (g == 0) * (gap + widening * (arm == "fused"))
            found[f"g{g}"][arm] = [GroupScore(matrix.mean(1), matrix, names, np.zeros(n, bool))]
    return found

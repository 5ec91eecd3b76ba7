"""The likelihood ratio of a score under generators that were trained with a subject and without (shadow models).

Carlini et al. 2022, "Membership inference attacks from first principles" (LiRA): what a model says of a subject depends first of all on how easy
that subject is. Models trained on known random halves (shadows) tell what to expect of each subject in and out of training, eq. 3 and 4.
"""

from __future__ import annotations

import numpy as np

from synthrad.errors import InputError

FEWEST_EACH = 4  # shadows with a subject, and without, below which neither mean is worth anything
OWN_SPREAD = 32  # shadows on each side, from which each subject has deviations of its own: of fewer they are mostly chance


def likelihood_ratio(score: np.ndarray, shadows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """log p(score | in) - log p(score | out) of each subject, both normal: its own means; its own deviations with many shadows, else one for all.

    The common deviation is pooled over subjects, as the paper does with few shadows (section VI.C), and over both sides: a model that was trained
    longer than its shadows lies far from both means, where the smallest difference of two deviations would outweigh that of the means.

    Args:
        score: [n], of the model that is attacked. shadows: [k, n], of the shadows. inside: bool [k, n], who was trained on by each.

    Returns:
        [n], higher = more like a member.

    Raises:
        InputError: a subject that fewer than 4 shadows were trained on, or were not.
    """
    score, shadows, inside = np.asarray(score, float), np.asarray(shadows, float), np.asarray(inside, bool)
    fewest = int(min(inside.sum(0).min(), (~inside).sum(0).min()))
    if fewest < FEWEST_EACH:
        raise InputError("shadows", f"a subject that {fewest} of {len(shadows)} shadows were trained on, or were not", f"at least {FEWEST_EACH} of each",
                         f"train {2 * FEWEST_EACH} shadows or more, on halves")
    sides = [_moments(shadows, chosen) for chosen in (inside, ~inside)]
    if fewest < OWN_SPREAD:
        common = sum(squares.sum() for _, squares, _ in sides) / sum(degrees.sum() for *_, degrees in sides)
        sides = [(mean, common, 1) for mean, *_ in sides]
    (a, spread_a), (b, spread_b) = ((mean, np.maximum(squares / degrees, np.finfo(float).tiny)) for mean, squares, degrees in sides)
    return 0.5 * (np.log(spread_b / spread_a) + np.square(score - b) / spread_b - np.square(score - a) / spread_a)


def _moments(shadows: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the chosen shadows' scores of each subject [n]: mean, sum of squares about it, and its degrees of freedom."""
    number = chosen.sum(0)
    mean = np.where(chosen, shadows, 0).sum(0) / number
    return mean, np.where(chosen, np.square(shadows - mean), 0).sum(0), number - 1

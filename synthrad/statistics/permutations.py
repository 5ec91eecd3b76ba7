"""Permutation tests beside the two-way layout: exchange an arm and its reference within subjects, or within seeds.

Under the null that arm and reference are exchangeable the sign of a difference is a coin (Fisher, 1935; Good, Permutation Tests,
2000, chapter 3). Which coin may be tossed is the assumption, and there are two:

- subjects: all differences D_1i .. D_Si of a subject change sign together, whatever the seeds share: exact for *these trained nets* and
  other patients, if a patient's differences are symmetric about 0 when nothing is gained;
- seeds: all differences of a seed change sign together: exact for *these patients* and other training runs. 2^S assignments only, so its
  smallest p is 1 / 2^S: 0.031 with five seeds.

No group of exchanges respects both effects at once: flipping the signs of both would flip each seed effect by the subjects' coins. So
a statement about other patients **and** other seeds takes the larger of the two p-values, which is printed as `both`; it drives no verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from synthrad.errors import InputError

MOST_EXACT = 2**14  # assignments up to which all are looked at
ASSUMES = {
    "subjects": "a patient's differences, over all seeds together, are symmetric about 0 if nothing is gained; speaks of these trained nets and other patients",
    "seeds": "a seed's differences, over all patients together, are symmetric about 0 if nothing is gained; speaks of these patients and other training runs",
}


@dataclass(frozen=True)
class SignFlip:
    """One permutation test of a mean difference above 0.

    Args:
        unit: subjects or seeds: what changes sign together; `assumes` in words.
        p: one-sided; smallest: the smallest p that this number of units can give.
        assignments: how many were looked at, the true one among them; exact: whether these are all.
    """

    unit: str
    p: float
    smallest: float
    assignments: int
    exact: bool

    @property
    def assumes(self) -> str:
        """The exchangeability in words."""
        return ASSUMES[self.unit]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "assumes": self.assumes}


def sign_flip(means: np.ndarray, unit: str, permutations: int = 9999, seed: int = 0) -> SignFlip:
    """Test that the mean of independent differences is above 0.

    Args:
        means: [n], difference of each unit, the mean over all it holds (complete data: all units weigh alike).
        unit: subjects or seeds.
        permutations: drawn where the 2^n assignments are more than 16,384.

    Source: p = (1 + as large) / (1 + drawn), Phipson and Smyth, 2010; of all assignments their share.
    """
    means = np.asarray(means, float)
    if unit not in ASSUMES or len(means) < 1 or not np.isfinite(means).all():
        raise InputError("sign_flip", f"{len(means)} {unit}, all finite: {bool(np.isfinite(means).all())}", f"finite differences of {list(ASSUMES)}")
    signs, exact = signs_of(len(means), permutations, seed)
    return _of(signs @ means, unit, exact, 0.5 ** len(means))


def signs_of(units: int, permutations: int = 9999, seed: int = 0) -> tuple[np.ndarray, bool]:
    """Signs [assignments, units], the true one (all 1) first, and whether these are all there are."""
    if 2**units <= MOST_EXACT:
        codes = np.arange(2**units)[:, None] >> np.arange(units)
        return 1.0 - 2.0 * (codes & 1), True
    drawn = np.random.default_rng(seed).integers(0, 2, (permutations, units))
    return np.vstack([np.ones(units), 1.0 - 2.0 * drawn]), False


def swap_test(arm: np.ndarray, reference: np.ndarray, subject: np.ndarray, metric: Callable[[np.ndarray], float], unit: str,
              permutations: int = 999, seed: int = 0) -> SignFlip:
    """The same for a metric of a set: answers of arm and reference change places within subjects or seeds, the metric is recomputed.

    Args:
        arm, reference: [S, N] answers on N images. They must mean the same in both: of two nets give ranks (Venkatraman and
            Begg, Biometrika 83, 1996), not probabilities.
        subject: int [N], 0 .. n - 1. metric: answers [N] of one seed -> number, larger is better.
    """
    seeds = len(arm)
    signs, exact = signs_of(int(subject.max()) + 1 if unit == "subjects" else seeds, permutations, seed)
    found = np.empty(len(signs))
    if unit == "seeds":  # nothing is recomputed: a seed's difference changes sign
        by_seed = np.array([metric(a) - metric(r) for a, r in zip(arm, reference, strict=True)])
        return _of(signs @ by_seed, unit, exact, 0.5**seeds)
    for k, row in enumerate(signs):
        swapped = row[subject] < 0
        found[k] = sum(metric(np.where(swapped, r, a)) - metric(np.where(swapped, a, r)) for a, r in zip(arm, reference, strict=True))
    return _of(found, unit, exact, 0.5 ** signs.shape[1])


def _of(found: np.ndarray, unit: str, exact: bool, smallest: float) -> SignFlip:
    """p of the first among all; differences up to rounding count as equal."""
    p = float((found >= found[0] - 1e-12 * max(1.0, np.abs(found).max())).mean())
    return SignFlip(unit, p, max(smallest, 1 / len(found)), len(found), exact)

"""Membership inference, rung by rung: what an attacker's score of each patient says about who was trained on.

Members are training patients, non-members test patients; patients with as many images form a stratum, within which they are
exchangeable if the score knows nothing (statistics.exchangeability). A rung gives p, the AUC over patients with its interval, and how
many members stand out where few non-members do: an attack that finds one member in ten for sure and the rest by chance has an AUC near
0.5 and is none the better (Carlini et al. 2022, "Membership inference attacks from first principles", section 3).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from synthrad.errors import InputError
from synthrad.statistics.exchangeability import TESTS, Exchange, MemberTest
from synthrad.statistics.separation import Found, auc_interval, found_at_few_false

QUICK = 1999  # permutations of a self-test: as many as of the test itself


@dataclass(frozen=True)
class Attack:
    """An attack's scores of patients, judged.

    Args:
        result: the tests. auc: with its 95 % interval. found: members at few false alarms, of scores less the mean of the
            stratum's non-members. members, others: patients that were compared.
    """

    result: MemberTest
    auc: tuple[float, float, float]
    found: Found
    members: int
    others: int

    @property
    def said(self) -> str:
        """For a reader."""
        f = self.found
        return (f"AUC {_range(*self.auc)} over {self.members} training and {self.others} test patients; where {f.false_positive_rate:.0%} "
                f"of test patients stand out, {_range(f.rate, f.low, f.high, '.0%')} of training patients do; strongest test: "
                f"{min(TESTS, key=self.result.p.__getitem__)}")

    @property
    def facts(self) -> dict[str, Any]:
        """For the record."""
        return {"members": self.members, "non_members": self.others, "p": self.result.p,
                "auc": [round(x, 4) for x in self.auc], "found_at_few_false": asdict(self.found)}


def attack(scores: np.ndarray, exchange: Exchange) -> Attack:
    """Judge scores of patients [n], higher = more like a member."""
    member, result, centred = exchange.member, exchange.test(scores), np.asarray(scores, float).copy()
    for g in exchange.groups:
        centred[g] -= centred[g][~member[g]].mean()
    inside, outside = centred[exchange.used][member[exchange.used]], centred[exchange.used][~member[exchange.used]]
    sizes = [(int(member[g].sum()), int((~member[g]).sum())) for g in exchange.groups]
    return Attack(result, (result.auc, *auc_interval(result.auc, sizes)), found_at_few_false(inside, outside), len(inside), len(outside))


class Patients:
    """Images gathered to patients, each the mean of its images' scores.

    Args:
        subject: [R] of each image. member: bool [R].

    Raises:
        InputError: fewer than 20 members or non-members that can be compared.
    """

    def __init__(self, subject: np.ndarray, member: np.ndarray, seed: int = 0):
        self.names, first, self.of_image, self.images = np.unique(subject, return_index=True, return_inverse=True, return_counts=True)
        self.member = member[first]
        self.exchange = Exchange(self.member, self.images, seed=seed)

    def gather(self, scores: np.ndarray) -> np.ndarray:
        """[R] to [n]."""
        return np.bincount(self.of_image, scores) / self.images

    @property
    def left_out(self) -> int:
        """Members with as many images as no non-member."""
        return int(self.member.sum()) - self.exchange.subjects[0]

    def planted(self, scores: np.ndarray, planted: np.ndarray, images: np.ndarray, level: float, seed: int) -> bool:
        """Whether the tests see planted patients as the only members beside these non-members.

        Args:
            scores: [n] of the patients. planted: [k], scores of the planted ones; images: [k], how many each has.
        """
        label = np.repeat([True, False], [len(planted), int((~self.member).sum())])
        both = np.concatenate([planted, scores[~self.member]])
        try:
            exchange = Exchange(label, np.concatenate([images, self.images[~self.member]]), QUICK, seed)
        except InputError:  # too few non-members have as many images as these
            return False
        return exchange.test(both).combined <= level


def told_power(rates: dict[int, float]) -> str:
    """`20, 30: seen 80 %, 100 % of the times`."""
    return f"{', '.join(map(str, rates))}: seen {', '.join(f'{r:.0%}' for r in rates.values())} of the times"


def _range(value: float, low: float, high: float, form: str = ".2f") -> str:
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"

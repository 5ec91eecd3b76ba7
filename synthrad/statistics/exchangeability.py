"""Do members of a training set score higher than non-members? Three exact tests and one by a law of extremes.

If a synthetic set says nothing about who was trained on, members and non-members of one stratum are exchangeable: every
assignment of the labels is as likely as the true one. Three statistics, each against the assignments that permute labels within
strata (Phipson and Smyth, 2010: (1 + as extreme) / (1 + drawn) is a valid p):

- `run`: how many members lead the ranking before the first non-member. Few strong copies.
- `top`: members among the highest twentieth. More copies, not all of them clear.
- `ranks`: sum of the members' ranks (van Elteren's sum where there are strata). A slight pull on everybody.

Ranks cannot see one copy alone, however exact: that some member is first is as likely as members are many. A fourth test can,
at the price of an assumption. `tail` takes the scores of non-members, which are maxima, for draws of an extreme value law and asks how
far above it the best member lies, or the two best: two at nine deviations are as rare as one at fifteen (198 members, 90 non-members). Its shape
is taken as 0.1, a heavier tail than that of Gumbel's or an exponential law, so that it errs on the side of silence; for a much heavier one (Student's t with
3 degrees of freedom), or where one patient in a hundred is of a kind that lies ten deviations above the rest, it does not (benchmarks/bench_alarms.py). The
distribution of (best members - location) / scale does not depend on the strata's true locations and common scale, so its p is simulated,
with the error of the fit in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from synthrad.errors import InputError

TESTS = ("run", "top", "ranks", "tail")
TOP = 0.05  # share of all subjects that `top` looks at
FEWEST = 20  # of members and of non-members, below which nothing is tested
SHAPE = 0.1  # of the extreme value law of `tail`; 0 = Gumbel
BEST = 2  # members that `tail` looks at: the best alone, and the least of so many


@dataclass(frozen=True)
class MemberTest:
    """Members against non-members.

    Args:
        p: of each of TESTS, one-sided. combined: their smallest, times their number (Bonferroni), at most 1.
        run: members above every non-member. top: members among the `top_of` highest; `top_expected`: by chance.
        auc: probability that a member scores higher than a non-member of its stratum, ties half.
        smallest_rate: the smallest false-alarm rate that this many non-members can show for a single subject, 1 / (n + 1).
    """

    p: dict[str, float]
    combined: float
    run: int
    top: int
    top_of: int
    top_expected: float
    auc: float
    smallest_rate: float


class Exchange:
    """The permutations of one set of subjects: made once, asked for many scores (the self-tests of an audit).

    Args:
        member: bool [n]. strata: [n], any labels (how many images a subject has: a score is a maximum over
            them); members and non-members are compared within each.
        permutations: assignments that are drawn. seed: of these.
        tests: those of TESTS that are combined.

    Raises:
        InputError: fewer than 20 members or non-members in strata that hold both.
    """

    def __init__(self, member: np.ndarray, strata: Sequence[object] | np.ndarray,
                 permutations: int = 1999, seed: int = 0, tests: Sequence[str] = TESTS):
        self.tests = tuple(tests)
        self.member = np.asarray(member, dtype=bool)
        self.stratum = np.unique(np.asarray(strata), return_inverse=True)[1].reshape(-1)
        groups = [np.flatnonzero(self.stratum == s) for s in range(self.stratum.max(initial=-1) + 1)]
        self.groups = [g for g in groups if 0 < self.member[g].sum() < len(g)]
        self.used = np.sort(np.concatenate([*self.groups, np.zeros(0, int)])).astype(int)
        members = int(self.member[self.used].sum())
        if min(members, len(self.used) - members) < FEWEST:
            raise InputError("members and non-members", f"{members} and {len(self.used) - members} subjects that can be compared",
                             f"at least {FEWEST} of each")
        rng = np.random.default_rng(seed)
        drawn = np.tile(self.member, (permutations, 1))
        for g in self.groups:
            drawn[:, g] = rng.permuted(drawn[:, g], axis=1)
        self._labels = np.concatenate([self.member[None], drawn])  # the true assignment first
        self._null = _tail_null(tuple((int(self.member[g].sum()), int((~self.member[g]).sum())) for g in self.groups))

    @property
    def subjects(self) -> tuple[int, int]:
        """Members and non-members in strata that hold both."""
        members = int(self.member[self.used].sum())
        return members, len(self.used) - members

    def relabelled(self, members: Sequence[int], rng: np.random.Generator) -> np.ndarray:
        """bool [n]: as many members in each stratum as there are, drawn at random, these subjects among them."""
        label, chosen = np.zeros(len(self.member), bool), np.asarray(members)
        for g in self.groups:
            mine = chosen[np.isin(chosen, g)]
            label[mine] = True
            rest = np.setdiff1d(g, mine)
            label[rng.choice(rest, int(self.member[g].sum()) - len(mine), replace=False)] = True
        return label

    def test(self, scores: np.ndarray, member: np.ndarray | None = None) -> MemberTest:
        """All tests of scores [n], higher = more alike; ties are broken against finding anything.

        Args:
            member: other labels [n] than the true ones, of as many members in each stratum (`relabelled`).
        """
        scores, member = np.asarray(scores, float), self.member if member is None else np.asarray(member, bool)
        every = self._labels if member is self.member else np.concatenate([member[None], self._labels[1:]])
        if not np.isfinite(scores[self.used]).all():
            raise InputError("scores of subjects", "NaN or Inf", "finite numbers")
        order = self.used[np.lexsort((member[self.used], -scores[self.used]))]  # of equals a non-member first
        labels = every[:, order]
        run = np.where(labels.all(1), labels.shape[1], labels.argmin(1))
        top_of = max(1, round(TOP * len(order)))
        top = labels[:, :top_of].sum(1)
        ranks = labels @ self._weights(scores)[order]
        p = {name: _p(values) for name, values in (("run", run), ("top", top), ("ranks", ranks))}
        p["tail"] = self._tail(scores, member)
        members, others = self.subjects
        return MemberTest(p, min(1.0, len(self.tests) * min(p[t] for t in self.tests)), int(run[0]), int(top[0]), top_of,
                          float(top.mean()), self._auc(scores, member), 1 / (others + 1))

    def _weights(self, scores: np.ndarray) -> np.ndarray:
        """Ranks within strata over the stratum's size plus one (van Elteren, 1960), mean ranks for ties, [n]."""
        weight = np.zeros(len(scores))
        for g in self.groups:
            weight[g] = _mean_ranks(scores[g]) / (len(g) + 1)
        return weight

    def _auc(self, scores: np.ndarray, member: np.ndarray) -> float:
        """Pairs of one stratum."""
        won = pairs = 0.0
        for g in self.groups:
            inside, outside = scores[g][member[g]], scores[g][~member[g]]
            won += (inside[:, None] > outside).sum() + 0.5 * (inside[:, None] == outside).sum()
            pairs += len(inside) * len(outside)
        return float(won / pairs)

    def _tail(self, scores: np.ndarray, member: np.ndarray) -> float:
        """p of the best members under the law of the non-members."""
        parts = [(scores[g][member[g]][None], scores[g][~member[g]][None]) for g in self.groups]
        at = _pivot(parts)[0]
        if np.isnan(at).any():
            return 1.0
        null, smallest = self._null
        p = (1 + (null >= at[:, None]).sum(1)).min() / (1 + null.shape[1])
        return float((1 + (smallest <= p).sum()) / (1 + len(smallest)))


def _p(values: np.ndarray) -> float:
    """Of the first value among all, itself included."""
    return float((values >= values[0] - 1e-9).mean())


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    found, at, number = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(number) - (number - 1) / 2)[at]


def _pivot(strata: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """(member - location) / scale of the BEST highest members, [rows, BEST], of scores [rows, members] and [rows, non-members] of each stratum.

    Location: mean of the stratum's non-members; scale: deviation of all non-members about these. NaN without spread.
    """
    others = sum(outside.shape[1] for _, outside in strata)
    squares = sum(np.square(outside - outside.mean(1, keepdims=True)).sum(1) for _, outside in strata)
    scale = np.sqrt(squares / (others - len(strata)))
    inside = np.concatenate([inside - outside.mean(1, keepdims=True) for inside, outside in strata], axis=1)
    best = -np.partition(-inside, range(BEST), axis=1)[:, :BEST]
    return best / np.where(scale > 0, scale, np.nan)[:, None]


@lru_cache(maxsize=8)
def _tail_null(sizes: tuple[tuple[int, int], ...], draws: int = 19_999) -> tuple[np.ndarray, np.ndarray]:
    """The pivots of scores of that law for strata of so many members and non-members, [BEST, draws], and the smaller p of each draw, [draws]."""
    rng = np.random.default_rng(0)
    law = lambda *size: np.expm1(SHAPE * rng.gumbel(size=size)) / SHAPE  # noqa: E731
    parts = []
    for at in range(0, draws, 1000):
        rows = min(1000, draws - at)
        parts.append(_pivot([(law(rows, m), law(rows, n)) for m, n in sizes]))
    null = np.concatenate(parts).T
    rank = draws - np.argsort(np.argsort(null, axis=1), axis=1)  # how many are as high
    return null, rank.min(0) / draws

"""Beside the verdicts: other tests of the same differences, their size, and what it would take to find the smallest relevant one.

Exploratory columns. None of them enters a verdict: the rule was declared before the first fit, and choosing among tests after
seeing their p-values finds what is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from synthrad.metrics import classification, segmentation
from synthrad.metrics.classification import ClassScores, class_scores
from synthrad.statistics.corrections import tost
from synthrad.statistics.effects import EffectSize, paired_effect
from synthrad.statistics.layouts import FEWEST_SEEDS, FEWEST_SUBJECTS, Layout
from synthrad.statistics.mixed import MixedFit, mixed_model
from synthrad.statistics.permutations import SignFlip, sign_flip, swap_test
from synthrad.statistics.power import power_table, seeds_needed, subjects_needed
from synthrad.study.answers import answers_of, difference_of
from synthrad.study.verdicts import METRIC_NAMES, Endpoint

SEEDS = (5, 10, 20)  # of power tables, beside the number of the study
POWERS = (0.8, 0.9)


@dataclass(frozen=True)
class Beside:
    """One difference of the endpoint, looked at by other means.

    Args:
        flips: sign flips of subjects and of seeds; p_both: the larger p, of a statement about both. None below 5 seeds or 10 subjects, and
            where the study gives no verdict: `note` says so.
        mixed: mixed model of the differences; None for a metric of a set, which has no difference for a patient.
        effect: standardised paired difference; None for a metric of a set, or where subjects are few or alike.
        p_equivalent: TOST with the declared margin, uncorrected; None below 5 seeds or without an interval.
    """

    arm: str
    reference: str
    metric: str
    difference: float
    seeds: int
    subjects: int
    flips: tuple[SignFlip, ...]
    p_both: float | None
    mixed: MixedFit | None
    effect: EffectSize | None
    p_equivalent: float | None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "flips": [f.to_dict() for f in self.flips]}


@dataclass(frozen=True)
class Power:
    """What the observed spread of one arm needs, by the comparison of largest variance.

    Args:
        table: smallest detectable difference by seeds and test subjects: rows of seeds, subjects, half_width, detectable_80, detectable_90.
        needed: rows of power, seeds, subjects: for each number of seeds the fewest test subjects that find `difference`, and for the
            test subjects there are the fewest seeds; None: no number does.
        words: a sentence.
    """

    arm: str
    reference: str
    difference: float
    arms: int
    references: int
    table: tuple[dict[str, float], ...]
    needed: tuple[dict[str, Any], ...]
    words: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Largest:
    """The largest of several differences, with what the largest of as many would be where there is no effect.

    Args:
        of: how many it was chosen from; by_chance: mean of the largest of `of` independent estimates of 0 with these standard errors
            (None: unknown). Arms share their reference, so it is an upper bound.
    """

    arm: str
    difference: float
    of: int
    by_chance: float | None
    words: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def beside(cases: pd.DataFrame, endpoint: Endpoint, compared: Mapping[str, Sequence[str]], replacing: Sequence[str] = (),
           reference: str = "real_only", silence: str = "", resamples: int = 1000, permutations: int = 499, rng_seed: int = 0,
           fewest: int = classification.FEWEST_POSITIVE) -> tuple[list[Beside], list[Power], list[Largest]]:
    """Everything beside the verdicts of adding arms (`compared`: arm -> its controls) and of `replacing` ones.

    Args:
        cases: a cases table. silence: why no arm gets a verdict ("" if they do): then there is no p-value here either.
        resamples: of the crossed bootstrap. permutations: of answers, for metrics of a set.
    """
    rows = cases[(cases["external"] == "") & (cases["task"] == endpoint.task) & (cases["net"] == endpoint.net)]
    pairs = {arm: tuple(dict.fromkeys((reference, *controls))) for arm, controls in compared.items()} | {a: (reference,) for a in replacing}
    rows = rows[rows["arm"].isin({reference, *pairs, *(r for mine in pairs.values() for r in mine)})]
    answers, _ = answers_of(rows, endpoint.metric, endpoint.layer, endpoint.classes, resamples, rng_seed, None, fewest)
    of_subjects = endpoint.metric in segmentation.METRICS
    lists = None if of_subjects else _answer_lists(rows, endpoint, reference, fewest)
    found, powers, layouts = [], [], {}
    for arm, references in pairs.items():
        layouts[arm] = {r: difference_of(answers[arm], answers[r], None)[0] for r in references}
        for r, layout in layouts[arm].items():
            if of_subjects:
                found.append(_of_subjects(arm, r, answers, layout, endpoint, silence))
            elif r == reference:  # permutations of answers take seconds a pair
                found.append(_of_set(arm, r, lists, layout, endpoint, silence, permutations))
        if arm in compared and (power := power_of_arm(arm, layouts[arm], endpoint, len(compared))):
            powers.append(power)
    most = largest({a: layouts[a][reference] for a in compared}, endpoint)
    return found, powers, [most] if most else []


def _of_subjects(arm: str, reference: str, answers: Mapping[str, Any], layout: Layout, endpoint: Endpoint, silence: str) -> Beside:
    difference = (answers[arm] - answers[reference]).dropna(axis=1, how="all").to_numpy(float)
    why, mixed, effect = _no_p(layout, silence), mixed_model(difference), paired_effect(difference.mean(0))
    if why:
        return Beside(arm, reference, endpoint.metric, layout.value, layout.seeds, layout.subjects, (), None, replace(mixed, p=None), effect, None, why)
    flips = (sign_flip(difference.mean(0), "subjects"), sign_flip(difference.mean(1), "seeds"))
    return Beside(arm, reference, endpoint.metric, layout.value, layout.seeds, layout.subjects, flips, max(f.p for f in flips), mixed, effect,
                  tost(layout, endpoint.margin))


def _of_set(arm: str, reference: str, lists: _Lists, layout: Layout, endpoint: Endpoint, silence: str, permutations: int) -> Beside:
    note = "a metric of the whole set: no mixed model and no standardised difference"
    if why := _no_p(layout, silence):
        return Beside(arm, reference, endpoint.metric, layout.value, layout.seeds, layout.subjects, (), None, None, None, None, f"{note}; {why}")
    flips = tuple(swap_test(lists.answers[arm], lists.answers[reference], lists.subject, lists.metric(endpoint.metric), unit, permutations)
                  for unit in ("subjects", "seeds"))
    return Beside(arm, reference, endpoint.metric, layout.value, layout.seeds, layout.subjects, flips, max(f.p for f in flips), None, None,
                  tost(layout, endpoint.margin), f"{note}; answers change places as ranks within each net")


def _no_p(layout: Layout, silence: str) -> str:
    """Why there is no p-value, by the rule of the verdicts; "" where there is one."""
    if silence:
        return f"no p-values: {silence}"
    if layout.seeds < FEWEST_SEEDS:
        return f"no p-values: needs {FEWEST_SEEDS} seeds, has {layout.seeds}"
    if layout.subjects < FEWEST_SUBJECTS:
        return f"no p-values: needs {FEWEST_SUBJECTS} test subjects, has {layout.subjects}"
    return "" if layout.has_p else "no p-values: no interval"


@dataclass(frozen=True)
class _Lists:
    """Answers of all kept classes one after the other, as ranks within net and class (of F1: above the threshold or not).

    Args:
        answers: arm -> [S, N]. subject: int [N]. classes: the ClassScores whose images follow each other.
    """

    answers: dict[str, np.ndarray]
    subject: np.ndarray
    classes: tuple[ClassScores, ...]

    def metric(self, name: str) -> Any:
        """Answers [N] of one seed -> mean of the metric over the classes."""
        ends = np.cumsum([0, *(len(c.target) for c in self.classes)])
        once = np.ones((1, int(self.subject.max()) + 1))

        def compute(answers: np.ndarray) -> float:
            parts = [replace(c, probability=answers[None, a:b], threshold=np.full((1, b - a), 0.5))
                     for c, a, b in zip(self.classes, ends[:-1], ends[1:], strict=True)]
            return float(classification.set_metric(name, parts)(once)[0, 0])

        return compute


def _answer_lists(rows: pd.DataFrame, endpoint: Endpoint, reference: str, fewest: int) -> _Lists:
    from scipy.stats import rankdata

    scores, _, _ = class_scores(rows, endpoint.classes or ())
    counts = {c: min(s.subjects_with) for c, s in scores[reference].items()}
    kept = [c for c, n in counts.items() if n >= fewest] or [c for c, n in counts.items() if n >= 1]  # as answers_of does

    def told(s: ClassScores) -> np.ndarray:
        if endpoint.metric == "f1":
            return (s.probability >= s.threshold).astype(float)
        return rankdata(s.probability, axis=1) / (s.probability.shape[1] + 1)

    answers = {arm: np.concatenate([told(mine[c]) for c in kept], axis=1) for arm, mine in scores.items()}
    first = tuple(scores[reference][c] for c in kept)
    return _Lists(answers, np.concatenate([s.subject for s in first]), first)


def power_of_arm(arm: str, layouts: Mapping[str, Layout], endpoint: Endpoint, arms: int) -> Power | None:
    """What the spread of an arm's comparisons needs; None where there is no spread to plan with."""
    known = {r: x for r, x in layouts.items() if x.has_interval and np.isfinite(x.ms_residual)}
    if len(known) < len(layouts):
        return None
    hardest = max(known, key=lambda r: known[r].variance)
    layout, family = known[hardest], {"alpha": endpoint.alpha, "arms": arms, "references": len(layouts)}
    seeds = sorted({layout.seeds, *SEEDS})
    table = power_table(layout, seeds, [layout.subjects * k for k in (1, 2, 4, 8)], **family)
    wanted = endpoint.smallest_relevant
    needed = [{"power": p, "seeds": s, "subjects": subjects_needed(layout, wanted, s, p, **family)} for s in seeds for p in POWERS]
    needed += [{"power": p, "seeds": seeds_needed(layout, wanted, layout.subjects, p, **family), "subjects": layout.subjects} for p in POWERS]
    by = {n["seeds"]: n["subjects"] for n in needed if n["power"] == POWERS[0]}
    told = ", ".join(f"with {s} seeds {f'{by[s]:,}' if by[s] else 'no number of'} test subjects" for s in seeds)
    if not any(by[s] for s in seeds):
        told = f"more than {seeds[-1]} seeds, whatever the number of test subjects"
    more = needed[-len(POWERS)]["seeds"]
    guess = f" From {layout.seeds} seeds this is a rough guess." if layout.seeds < FEWEST_SEEDS else ""
    words = (f"{arm}: to find {METRIC_NAMES[endpoint.metric]} +{wanted:g} with 80 % power against {hardest}, where it varies most, the "
             f"observed spread ({layout.seeds} seeds, {layout.subjects} test subjects) needs {told}; with {layout.subjects} test subjects "
             f"{f'{more:,}' if more else 'no number of'} seeds.{guess}")
    return Power(arm, hardest, wanted, arms, len(layouts), tuple(table.to_dict("records")), tuple(needed), words)


def largest(layouts: Mapping[str, Layout], endpoint: Endpoint, draws: int = 4000) -> Largest | None:
    """The best of several arms, labelled as a maximum; None for fewer than two."""
    if len(layouts) < 2:
        return None
    best = max(layouts, key=lambda a: layouts[a].value)
    deviations = np.array([x.variance for x in layouts.values()]) ** 0.5
    known = bool(np.isfinite(deviations).all())
    chance = float((np.random.default_rng(0).normal(size=(draws, len(deviations))) * deviations).max(1).mean()) if known else None
    without = f"; of as many arms without any effect the largest would be up to {chance:+.3f} on average" if known else ""
    words = (f"Largest of {len(layouts)} differences: {best}, {METRIC_NAMES[endpoint.metric]} {layouts[best].value:+.3f}. A maximum over arms "
             f"flatters{without}.")
    return Largest(best, layouts[best].value, len(layouts), chance, words)

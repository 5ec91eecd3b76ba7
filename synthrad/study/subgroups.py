"""Bias: what every arm does in each subgroup of the test subjects, and whether fusion widened the gap between them.

A gap is the largest minus the smallest value of a metric over the subgroups of one attribute (or of two, crossed), each the mean over
seeds. Its change by an arm is gap(arm) - gap(reference), each over its own best and worst subgroup, so that swapping arm and
reference swaps the sign and nothing is chosen in favour of either; its interval is that of the contrast of these (up to four) estimates
over subjects and seeds (statistics/contrasts.py). Called *widened* where the whole interval is above 0.

Where subgroups differ little before fusion, who is worst there is chance, and the change of the gap is uncertain by all that patients
differ. What fusion did to the subgroup that is worst afterwards, against the one that is best, is known much better: each patient is
compared with himself. Called *uneven* where the interval of that pair's change is above 0, at a level that allows for the choice of
the pair: alpha / 2 over the G (G - 1) ordered pairs (Bonferroni), so that a choice by the data gives no more false calls.

Both are warnings, so they are not corrected for the number of looks, which is printed with the number of false calls to expect
at most. No call is no proof: the interval says how much widening remains possible, and *no widening beyond the margin* is said
only where that is ruled out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from synthrad.errors import InputError
from synthrad.metrics.bias import (
    LARGER_IS_BETTER,
    METRICS,
    GroupScore,
    classification_scores,
    segmentation_scores,
    subjects_with,
)
from synthrad.progress import progress
from synthrad.records import Manifest
from synthrad.statistics.contrasts import contrast, influence_of, range_by_chance
from synthrad.statistics.layouts import FEWEST_SUBJECTS, Layout
from synthrad.study.comparisons import FEWEST_EXPLORED

MOST_GROUPS = 12  # values of an attribute: an age in years or a text is no subgroup, declare bands when preparing
MOST_CLASSES = 20  # of a task, above which only their mean is looked at
NAMES = {"auroc": "AUROC", "dice": "Dice", "false_negative_rate": "false-negative rate"}
NEEDED = {"auroc": "with and without a finding", "dice": "with reference pixels", "false_negative_rate": "with it"}
MEAN = "macro"
FLAGS = ("widened", "uneven")


@dataclass(frozen=True)
class GroupValue:
    """One arm in one subgroup: mean over seeds with its two-sided interval over subjects and seeds (None: not given, `note`)."""

    task: str
    net: str
    external: str
    metric: str
    class_name: str
    attribute: str
    group: str
    arm: str
    value: float | None
    low: float | None
    high: float | None
    subjects: int
    note: str = ""


@dataclass(frozen=True)
class Gap:
    """One arm's gap over the subgroups of an attribute, before (reference) and after fusion.

    Args:
        groups: the subgroups that were compared; subjects: of the smallest that counts.
        before, after: the gap of the reference and of the arm. best_*, worst_*: between which subgroups.
        by_chance: 95 % quantile of the gap that subgroups of these sizes show where there is none (reference).
        change, low, high: after - before. worst_change, worst_low, worst_high: of the worst subgroup's metric.
        pair_change, pair_low, pair_high: of the gap between best_after and worst_after; the interval allows for their choice.
        call: widened, uneven, narrowed, no widening beyond the margin, not shown, or not tested.
        beyond_margin: the whole interval is above the margin. words: all this in a sentence.
    """

    task: str
    net: str
    external: str
    metric: str
    class_name: str
    attribute: str
    arm: str
    reference: str
    groups: tuple[str, ...]
    seeds: int
    subjects: int
    before: float
    after: float
    by_chance: float
    best_before: str
    worst_before: str
    best_after: str
    worst_after: str
    change: float
    low: float | None
    high: float | None
    pair_change: float
    pair_low: float | None
    pair_high: float | None
    value_worst_before: float
    value_worst_after: float
    worst_change: float
    worst_low: float | None
    worst_high: float | None
    margin: float
    call: str
    beyond_margin: bool
    words: str


@dataclass(frozen=True)
class Subgroups:
    """All of it. `looks`: changes with an interval; `false_calls`: how many calls at most to expect of them if fusion changed nothing."""

    values: tuple[GroupValue, ...]
    gaps: tuple[Gap, ...]
    not_tested: tuple[str, ...]
    margin: float
    looks: int
    false_calls: float

    @property
    def flagged(self) -> list[str]:
        """One sentence a gap that is called widened or uneven."""
        return [g.words for g in self.gaps if g.call in FLAGS]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "flagged": self.flagged}


def grouping_of(manifest: Manifest) -> pd.DataFrame:
    """A column an attribute and a row an image (index: its digest); label classes as `finding: <class>`, present or absent."""
    table = {n: manifest.column(f"attribute:{n}") for n in manifest.names("attribute")}
    for k, name in enumerate(manifest.info.classes):
        known = manifest.labels[:, k]
        table[f"finding: {name}"] = np.where(known == 1, "present", np.where(known == 0, "absent", ""))
    found = pd.DataFrame(table, index=pd.Index(manifest.column("digest"), name="image"), dtype=object)
    return found[~found.index.duplicated()]


def subgroups(cases: pd.DataFrame, grouping: pd.DataFrame, margin: float, reference: str = "real_only", alpha: float = 0.05) -> Subgroups:
    """Compare every arm with the reference in every subgroup of every task, net and test set.

    Args:
        cases: a cases table. grouping: see `grouping_of`, of all test images. margin: widening that would be harm.
        alpha: of two-sided intervals.
    """
    values: list[GroupValue] = []
    gaps: list[Gap] = []
    untested: dict[str, None] = {}
    parts = list(cases.groupby(["kind", "task", "net", "external"]))
    for (kind, task, net, external), rows in progress(parts, desc="subgroups", unit="table"):
        if reference not in set(rows["arm"]):
            continue
        said = {"task": str(task), "net": str(net), "external": str(external)}
        mine = grouping.reindex(rows["image"].unique())
        ways, why = partitions(mine, dict(zip(rows["image"], rows["subject"], strict=True)), findings=kind == "segmentation")
        untested.update(dict.fromkeys(f"{task}{f', {external}' if external else ''}: {w}" for w in why))
        for attribute, groups in ways.items():
            for metric in METRICS[str(kind)]:
                try:
                    tables = list(_tables(rows, str(kind), metric, groups))
                except InputError as e:  # an arm is incomplete: the endpoint's comparison says so with its repair
                    untested[f"{task}: {attribute}: {e.found}"] = None
                    continue
                lacking: list[str] = []
                for class_name, found, short in tables:
                    labels = {**said, "metric": metric, "class_name": class_name, "attribute": attribute}
                    values += [_value(score, group, arm, labels, alpha) for group, arms in found.items() for arm, score in arms.items()]
                    values += [GroupValue(**labels, group=g, arm=reference, value=None, low=None, high=None, subjects=n, note=note)
                               for g, (n, note) in short.items()]
                    if len(found) < 2:
                        lacking.append(class_name)
                        continue
                    arms = [a for a in dict.fromkeys(rows["arm"]) if a != reference]
                    gaps += [gap_of(found, str(a), reference, margin, labels, alpha) for a in arms]
                if lacking:
                    untested[f"{task}: {NAMES[metric]} over {attribute}: needs {FEWEST_SUBJECTS} test subjects {NEEDED[metric]} in two subgroups or more, "
                             f"has fewer: {', '.join(lacking)} (counts in evidence/subgroups.csv)"] = None
    looks = sum(g.low is not None for g in gaps)
    return Subgroups(tuple(values), tuple(gaps), tuple(untested), margin, looks, looks * alpha)


Groups = dict[str, set[str]]  # name of a subgroup -> its images


def partitions(grouping: pd.DataFrame, subject_of: Mapping[str, str], findings: bool) -> tuple[dict[str, Groups], list[str]]:
    """Attribute -> subgroups with 10 subjects or more, at least two; pairs of attributes too; and why others are not looked at.

    Args:
        grouping: rows of the test images. findings: look at label classes as well (they are the targets of a classification).
    """
    ways: dict[str, Groups] = {}
    untested: list[str] = []
    alone = [str(c) for c in grouping.columns if findings or not str(c).startswith("finding: ")]
    pairs = [f"{a} x {b}" for a, b in itertools.combinations([c for c in alone if not c.startswith("finding: ")], 2)]
    for name in (*alone, *pairs):
        columns = name.split(" x ") if name in pairs else [name]
        if name in pairs and not set(columns) <= set(ways):
            continue
        known = grouping[columns].fillna("").astype(str)
        known = known[(known != "").all(axis=1)]
        keys = known.agg(", ".join, axis=1) if len(known) else pd.Series(dtype=str)
        if keys.nunique() > MOST_GROUPS and name not in pairs:
            untested.append(f"{name}: {keys.nunique()} values, at most {MOST_GROUPS} are subgroups: declare bands when preparing")
            continue
        groups = {str(k): set(part.index) for k, part in keys.groupby(keys)}
        sizes = {k: len({subject_of[i] for i in images}) for k, images in groups.items()}
        large = {k: images for k, images in groups.items() if sizes[k] >= FEWEST_SUBJECTS}
        if len(large) >= (3 if name in pairs else 2):  # two of a pair are mostly one of its attributes again
            ways[name] = large
        if name not in pairs and len(groups) > 1 and (small := {k: n for k, n in sizes.items() if n < FEWEST_SUBJECTS}):
            untested.append(f"{name}: {', '.join(f'{k} has {n}' for k, n in small.items())} of {FEWEST_SUBJECTS} test subjects needed")
    return ways, untested


Found = dict[str, dict[str, list[GroupScore]]]  # subgroup -> arm -> what its estimate is the mean of
Short = dict[str, tuple[int, str]]  # subgroup -> subjects that count, and what is lacking


def _tables(rows: pd.DataFrame, kind: str, metric: str, groups: Groups) -> Iterator[tuple[str, Found, Short]]:
    """Class (or the mean of all) -> scores of the subgroups that have enough subjects, and of the others what is lacking."""
    parts = {g: rows[rows["image"].isin(images)] for g, images in groups.items()}
    names = sorted(set(zip(rows["layer"], rows["class_name"], strict=True)))
    singles = names if 1 < len(names) <= MOST_CLASSES else []
    if kind == "segmentation":
        for layer, name in [("", ""), *singles]:
            scores = {g: segmentation_scores(part, metric, layer, (name,) if name else ()) for g, part in parts.items()}
            yield (f"{layer}/{name}" if name else MEAN), *_enough({g: {a: [s] for a, s in x.items()} for g, x in scores.items()})
        return
    scores = {g: classification_scores(part, metric) for g, part in parts.items()}
    counts = {g: subjects_with(part) for g, part in parts.items()}
    sides = slice(0, 2 if metric == "auroc" else 1)
    lacking = {g: {c: f"needs {FEWEST_SUBJECTS} subjects with{' and without' if metric == 'auroc' else ''} {c}, has "
                      f"{' and '.join(map(str, n[sides]))}" for c, n in mine.items() if min(n[sides]) < FEWEST_SUBJECTS}
               for g, mine in counts.items()}
    everywhere = [c for _, c in names if not any(c in mine for mine in lacking.values()) and all(c in a for x in scores.values() for a in x.values())]
    if len(everywhere) > 1 or len(names) == 1 == len(everywhere):  # the mean of one class of several is that class
        note = MEAN if len(everywhere) == len(names) else f"{MEAN} ({', '.join(everywhere)})"
        yield note, {g: {a: [mine[c] for c in everywhere] for a, mine in x.items()} for g, x in scores.items()}, {}
    for c in [c for _, c in (singles if everywhere else names)]:
        found = {g: {a: [mine[c]] for a, mine in x.items()} for g, x in scores.items()
                 if c not in lacking[g] and all(c in mine for mine in x.values())}
        if found or not everywhere:
            yield c, found, {g: (min(counts[g].get(c, (0, 0))[sides]), lacking[g].get(c, "undefined")) for g in groups if g not in found}


def _enough(scores: Found) -> tuple[Found, Short]:
    """Subgroups whose every arm has a metric of 10 subjects or more, and the others."""
    short: Short = {}
    for g, arms in scores.items():
        n = min((len(s.subjects) for mine in arms.values() for s in mine), default=0)
        if n < FEWEST_SUBJECTS:
            short[g] = n, f"needs {FEWEST_SUBJECTS} subjects with reference pixels, has {n}"
    return {g: arms for g, arms in scores.items() if g not in short}, short


def gap_of(found: Found, arm: str, reference: str, margin: float, labels: Mapping[str, str], alpha: float = 0.05) -> Gap:
    """The gap of one arm and of the reference over all subgroups of `found`."""
    better = 1 if LARGER_IS_BETTER[labels["metric"]] else -1
    means = {a: {g: _mean(arms[a]) for g, arms in found.items()} for a in (reference, arm)}
    best, worst = ({a: pick(mine, key=lambda g, m=mine: better * m[g]) for a, mine in means.items()} for pick in (max, min))
    gap = {a: abs(means[a][best[a]] - means[a][worst[a]]) for a in means}
    ends = [(best[arm], arm, better), (worst[arm], arm, -better), (best[reference], reference, -better), (worst[reference], reference, better)]
    pair = [(best[arm], arm, better), (worst[arm], arm, -better), (best[arm], reference, -better), (worst[arm], reference, better)]
    change, paired = (layout_of_parts([(found[g][a], w) for g, a, w in parts]) for parts in (ends, pair))
    lowest = layout_of_parts([(found[worst[arm]][arm], 1.0), (found[worst[reference]][reference], -1.0)])
    low, high = interval_of(change, alpha)
    pair_low, pair_high = interval_of(paired, alpha / (len(found) * (len(found) - 1)))
    worst_low, worst_high = interval_of(lowest, alpha)
    spread = np.array([_deviation(arms[reference]) for arms in found.values()])
    if low is None:
        call = f"not tested: needs {FEWEST_EXPLORED} seeds, has {change.seeds}" if change.seeds < FEWEST_EXPLORED else "not tested: no spread"
    else:
        uneven = pair_low is not None and pair_low > 0
        call = ("widened" if low > 0 else "uneven" if uneven else "narrowed" if high < 0 else "no widening beyond the margin" if high < margin
                else "not shown")
    span = "(no interval)" if low is None else f"[{low:.3f}, {high:.3f}]"
    why = f" ({worst[arm]} against {best[arm]} {-paired.value:+.3f} [{-pair_high:.3f}, {-pair_low:.3f}])" if call == "uneven" else ""
    words = (f"{arm}: {NAMES[labels['metric']]} ({labels['class_name']}) gap over {labels['attribute']} {gap[reference]:.3f} "
             f"({worst[reference]} worst) -> {gap[arm]:.3f} ({worst[arm]} worst), change {change.value:+.3f} {span}: {call}{why}")
    return Gap(**labels, arm=arm, reference=reference, groups=tuple(found), seeds=change.seeds, subjects=_fewest(found),
               before=gap[reference], after=gap[arm], by_chance=range_by_chance(spread)[1], best_before=best[reference],
               worst_before=worst[reference], best_after=best[arm], worst_after=worst[arm], change=change.value, low=low, high=high,
               pair_change=paired.value, pair_low=pair_low, pair_high=pair_high,
               value_worst_before=means[reference][worst[reference]], value_worst_after=means[arm][worst[arm]],
               worst_change=lowest.value, worst_low=worst_low, worst_high=worst_high, margin=margin, call=call,
               beyond_margin=low is not None and low > margin, words=words)


def layout_of_parts(parts: Sequence[tuple[Sequence[GroupScore], float]]) -> Layout:
    """The layout of a signed sum of estimates, each the mean of its GroupScores."""
    scores = [(s, weight / len(mine)) for mine, weight in parts for s in mine]
    codes = {p: i for i, p in enumerate(sorted({p for s, _ in scores for p in s.subjects}))}
    return contrast(np.array([s.value for s, _ in scores]), [influence_of(s.pseudo) for s, _ in scores],
                    [np.array([codes[p] for p in s.subjects]) for s, _ in scores], [w for _, w in scores], [s.kind for s, _ in scores])


def interval_of(layout: Layout, alpha: float) -> tuple[float, float] | tuple[None, None]:
    """Two-sided, cut to [-1, 1]; of fewer than 3 seeds none."""
    found = layout.interval(1 - alpha) if layout.seeds >= FEWEST_EXPLORED else None
    return (max(found[0], -1.0), min(found[1], 1.0)) if found else (None, None)


def _value(scores: Sequence[GroupScore], group: str, arm: str, labels: Mapping[str, str], alpha: float) -> GroupValue:
    layout = layout_of_parts([(scores, 1.0)])
    low, high = interval_of(layout, alpha)
    return GroupValue(**labels, group=group, arm=arm, value=layout.value, low=None if low is None else max(low, 0.0), high=high,
                      subjects=layout.subjects)


def _mean(scores: Sequence[GroupScore]) -> float:
    return float(np.mean([s.value.mean() for s in scores]))


def _deviation(scores: Sequence[GroupScore]) -> float:
    """Standard error over subjects, given the nets: seeds are the same in every subgroup."""
    codes: dict[str, float] = {}
    for s in scores:
        for p, u in zip(s.subjects, influence_of(s.pseudo).mean(0) / len(scores), strict=True):
            codes[p] = codes.get(p, 0.0) + u
    return float(np.sqrt(np.square(list(codes.values())).sum()))


def _fewest(found: Found) -> int:
    return min(len(s.subjects) for arms in found.values() for mine in arms.values() for s in mine)

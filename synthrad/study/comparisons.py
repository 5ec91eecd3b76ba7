"""Verdicts: one primary endpoint, each arm against the reference and each of its controls, Holm over the arms.

The rule (design, section 6). A gain is claimed where the largest of an arm's one-sided p-values, one against the reference and one
against each control, passes Holm over the adding arms at alpha. Harm is declared where the upper bound of the two-sided interval against the
**reference** is below 0; it is a warning, so it is not corrected for the number of arms. Intervals are two-sided at 1 - alpha, each
for itself; a one-sided gain may therefore stand beside an interval that just reaches 0, and the words then say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from synthrad.errors import InputError
from synthrad.metrics import classification, segmentation
from synthrad.statistics.corrections import holm, intersection_union, seeds_t, tost
from synthrad.statistics.layouts import Layout, two_way
from synthrad.study.answers import answers_of, difference_of, nothing_learned
from synthrad.study.verdicts import (
    CONTAMINATED,
    Comparison,
    Comparisons,
    Decision,
    Endpoint,
    Verdict,
    replacing_verdict_of,
    verdict_of,
)

FEWEST_EXPLORED = 3  # seeds of an exploratory interval: of two it says nothing
Difference = tuple[Layout, np.ndarray]  # layout of arm minus reference, and the difference per seed

__all__ = ["Comparison", "Comparisons", "Decision", "Endpoint", "Verdict", "compare", "decide", "explore"]


def decide(
    differences: Mapping[str, Mapping[str, np.ndarray | Layout]],
    reference: str = "real_only",
    alpha: float = 0.05,
) -> dict[str, Decision]:
    """The rule on arrays: largest p over the references of an arm, Holm over the arms.

    Args:
        differences: arm -> reference -> matrix [S, n] of arm minus reference, or its Layout. Every arm has `reference`.
    """
    layouts = {arm: {r: _layout(d) for r, d in mine.items()} for arm, mine in differences.items()}
    hardest: dict[str, str] = {}
    p_values: dict[str, float] = {}
    for arm, mine in layouts.items():
        if reference not in mine:
            raise InputError(f"arm {arm!r}", f"references {sorted(mine)}", f"{reference!r} among them")
        testable = all(layout.has_p for layout in mine.values())
        each = {r: layout.p_greater() for r, layout in mine.items()} if testable else {}
        p_values[arm] = intersection_union(list(each.values())) if testable else float("nan")
        hardest[arm] = (
            max(each, key=each.__getitem__) if testable else min(mine, key=lambda r, m=mine: m[r].value)
        )
    adjusted = holm(
        {a: 1.0 if np.isnan(p) else p for a, p in p_values.items()}
    )  # untestable arms stay in the family
    found = {}
    for arm, p in p_values.items():
        interval = layouts[arm][reference].interval(1 - alpha)
        call = "none" if np.isnan(p) else "gain" if adjusted[arm] <= alpha else "open"
        if call != "gain" and interval is not None and interval[1] < 0:
            call = "harm"
        known = not np.isnan(p)
        found[arm] = Decision(call, hardest[arm], p if known else None, adjusted[arm] if known else None)
    return found


def _layout(difference: np.ndarray | Layout) -> Layout:
    return difference if isinstance(difference, Layout) else two_way(difference)


def compare(
    cases: pd.DataFrame,
    endpoint: Endpoint,
    controls: Mapping[str, Sequence[str]],
    reference: str = "real_only",
    longer: Comparison | None = None,
    mechanics: bool = False,
    rng_seed: int = 0,
    generalises_over: str = "downstream seeds",
    replacing: Sequence[str] = (),
    test_to_train: float | None = None,
    resamples: int = 1000,
    fewest: int = classification.FEWEST_POSITIVE,
    contaminated: str = "",
) -> Comparisons:
    """Every verdict on the endpoint, on the study's own test set (rows with external == "").

    Args:
        cases: a cases table. controls: adding arm -> its control arms.
        longer: the reference with twice the steps against the reference (`training_length`): UNDERTRAINED and no verdict
            where that is a gain above endpoint.smallest_relevant. mechanics: stamped study: no p-value. Where nothing was
            learned (`answers.nothing_learned`) there is no verdict either.
        generalises_over: "downstream seeds", or "pipeline" where every replicate has its own split, generator seed and draw.
        replacing: synthetic-only arms, tested for being as good as the reference (TOST with endpoint.margin).
        test_to_train: test over training subjects of a pipeline whose splits overlap (Nadeau-Bengio); then the seeds are replicates.
        resamples: of the crossed bootstrap, for metrics of a set.
        fewest: test subjects with and without a finding that a class needs to enter the mean of such a metric.
        contaminated: how the endpoint's net saw the test set before (`contamination.standing_of`): then there is no verdict. "" = it did not.
    """
    involved = {reference, *controls, *replacing, *(c for mine in controls.values() for c in mine)}
    rows = _rows_of(cases, endpoint, involved)
    if test_to_train is not None and generalises_over != "pipeline":
        raise InputError("test_to_train", f"generalises_over={generalises_over!r}", "'pipeline'")
    answers, notes = answers_of(
        rows, endpoint.metric, endpoint.layer, endpoint.classes, resamples, rng_seed, test_to_train, fewest
    )
    held = {arm: tuple(dict.fromkeys((reference, *mine))) for arm, mine in controls.items()}
    pairs = {arm: {r: difference_of(answers[arm], answers[r], test_to_train) for r in mine} for arm, mine in held.items()}
    as_real = {arm: difference_of(answers[arm], answers[reference], test_to_train) for arm in replacing}
    shared = {k: getattr(endpoint, k) for k in ("metric", "task", "net", "class_name")} | {"generalises_over": generalises_over}
    floor = nothing_learned(answers, rows, endpoint, reference, test_to_train, fewest)
    undertrained = longer is not None and not mechanics and longer.difference > endpoint.smallest_relevant
    silence = (
        f"{CONTAMINATED}, no verdict: {contaminated}" if contaminated else
        "UNDERTRAINED, no verdict" if undertrained else "a mechanics study, no verdict" if mechanics
        else f"no verdict, {floor}" if floor else ""
    )  # fmt: skip
    adding = _adding_verdicts(pairs, endpoint, reference, silence, shared)
    alone = _replacing_verdicts(as_real, endpoint, reference, silence, shared)
    notes += [f"Nothing to compare: {floor}."] if floor else []
    return Comparisons(
        endpoint, (*adding, *alone), reference, generalises_over, undertrained, mechanics, tuple(notes), floor, longer, contaminated
    )


def training_length(cases: pd.DataFrame, endpoint: Endpoint, longer: str, reference: str, fewest: int, resamples: int = 1000,
                    rng_seed: int = 0, test_to_train: float | None = None, generalises_over: str = "downstream seeds") -> Comparison:
    """What twice the steps do to the reference: arm `longer` minus `reference`, on the endpoint.

    The design's rule, a best validation step later than 0.8 T, told nothing: where the learning rate falls to 0 the last
    steps are nearly always the best by a hair, and the curve is flat there at any T. The rule that replaces it looks at
    the difference itself and has no error rate; its interval is printed beside it.
    """
    rows = _rows_of(cases, endpoint, {longer, reference})
    answers, _ = answers_of(rows, endpoint.metric, endpoint.layer, endpoint.classes, resamples, rng_seed, test_to_train, fewest)
    shared = {"metric": endpoint.metric, "task": endpoint.task, "net": endpoint.net, "class_name": endpoint.class_name,
              "generalises_over": generalises_over}
    return _comparison(longer, reference, *difference_of(answers[longer], answers[reference], test_to_train), endpoint.alpha, True, 1, shared)


def _rows_of(cases: pd.DataFrame, endpoint: Endpoint, arms: set[str]) -> pd.DataFrame:
    """Cases of the endpoint's task and net on the study's own test set, of these arms and with each of them."""
    own = cases["external"] == ""
    rows = cases[own & (cases["task"] == endpoint.task) & (cases["net"] == endpoint.net)]
    if missing := sorted(arms - set(rows["arm"])):
        raise InputError(
            "cases table",
            f"no rows of arm(s) {missing} for task {endpoint.task!r}, net {endpoint.net!r}",
            "cases of every compared arm",
            "finish the study with `synthrad study run`",
        )
    return rows[rows["arm"].isin(arms)]


def _adding_verdicts(
    pairs: Mapping[str, Mapping[str, Difference]], endpoint: Endpoint, reference: str, silence: str, shared: dict
) -> list[Verdict]:
    """The verdicts of the adding arms: arm -> reference -> difference."""
    layouts = {arm: {r: x[0] for r, x in mine.items()} for arm, mine in pairs.items()}
    decisions = decide(layouts, reference, endpoint.alpha)
    family, silent = sum(len(mine) for mine in pairs.values()), bool(silence)
    verdicts = []
    for arm, mine in pairs.items():
        rows = {r: _comparison(arm, r, *x, endpoint.alpha, silent, family, shared) for r, x in mine.items()}
        verdicts.append(
            verdict_of(arm, decisions[arm], rows, layouts[arm], endpoint, reference, silence, len(pairs))
        )
    return verdicts


def _replacing_verdicts(
    differences: Mapping[str, Difference], endpoint: Endpoint, reference: str, silence: str, shared: dict
) -> list[Verdict]:
    """The verdicts of the arms without real rows: TOST against the reference, Holm over these arms."""
    p_tost = {a: tost(x[0], endpoint.margin) for a, x in differences.items() if x[0].has_p and not silence}
    adjusted = holm(p_tost)
    verdicts = []
    for arm, x in differences.items():
        row = _comparison(arm, reference, *x, endpoint.alpha, True, 1, shared)
        verdicts.append(
            replacing_verdict_of(row, x[0], p_tost.get(arm), adjusted.get(arm), endpoint, silence)
        )
    return verdicts


def _comparison(
    arm: str,
    reference: str,
    layout: Layout,
    means: np.ndarray,
    alpha: float,
    silent: bool,
    family: int,
    shared: dict,
    explored: bool = False,
) -> Comparison:
    """One difference as it is printed; where nothing is declared (`explored`) an interval needs FEWEST_EXPLORED seeds."""
    low, high = _within(layout.interval(1 - alpha))
    p_gain = layout.p_greater() if layout.has_p and not silent else None
    note = ""
    if explored and layout.seeds < FEWEST_EXPLORED:
        low = high = None
        note = f"{layout.seeds} seeds, fewer than {FEWEST_EXPLORED}: no interval"
    elif low is None and layout.undefined:
        note = f"{layout.undefined:.0%} of the resamples undefined: no interval"
    elif low is None and not layout.has_spread and np.isfinite(layout.variance):
        note = "all seeds and subjects differ by the same amount: no interval"
    return Comparison(
        arm,
        reference,
        difference=layout.value,
        low=low,
        high=high,
        p_gain=p_gain,
        p_seeds_t=None if silent or low is None else seeds_t(means, family),
        seeds=layout.seeds,
        subjects=layout.subjects,
        note=note,
        **shared,
    )


def _within(interval: tuple[float, float] | None) -> tuple[float | None, float | None]:
    """An interval cut to what a difference of two metrics in [0, 1] can be: t with 1 degree of freedom reaches far beyond."""
    return (max(interval[0], -1.0), min(interval[1], 1.0)) if interval else (None, None)


def explore(
    cases: pd.DataFrame,
    reference: str = "real_only",
    alpha: float = 0.05,
    rng_seed: int = 0,
    resamples: int = 400,
    generalises_over: str = "downstream seeds",
    fewest: Mapping[str, int] | None = None,
) -> list[Comparison]:
    """Exploratory: every arm against the reference, for every task, net, test set, metric and class: two-sided intervals, no p-value.

    A class has rows of its own only where there are several.
    """
    found: list[Comparison] = []
    for (kind, task, net, external), part in cases.groupby(["kind", "task", "net", "external"]):
        if reference not in set(part["arm"]):
            continue
        least = (fewest or {}).get(str(task), classification.FEWEST_POSITIVE)
        for metric in segmentation.METRICS if kind == "segmentation" else classification.METRICS:
            named = sorted(set(zip(part["layer"], part["class_name"], strict=True)))
            for layer, name in [("", ""), *(named if len(named) > 1 else ())]:  # one class is the mean
                try:
                    answers, notes = answers_of(
                        part, metric, layer, (name,) if name else (), resamples, rng_seed, None, least, False
                    )
                    pairs = {
                        a: difference_of(x, answers[reference], None)
                        for a, x in answers.items()
                        if a != reference
                    }
                except (
                    InputError
                ):  # undefined for this class, or an arm is incomplete: the summary says so with counts
                    continue
                shared = {
                    "metric": metric,
                    "task": str(task),
                    "net": str(net),
                    "external": str(external),
                    "generalises_over": generalises_over,
                    "class_name": (f"{layer}/{name}" if layer else name) or "macro",
                }
                for arm, x in pairs.items():
                    row = _comparison(arm, reference, *x, alpha, True, 1, shared, explored=True)
                    found.append(row)
    return found

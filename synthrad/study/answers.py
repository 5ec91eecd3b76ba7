"""One metric of every arm on the same test subjects, and the difference of two arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from synthrad.errors import InputError
from synthrad.metrics import classification, segmentation
from synthrad.statistics.corrections import nadeau_bengio
from synthrad.statistics.layouts import Layout, two_way
from synthrad.statistics.resampling import Draws, plan_resamples
from synthrad.study.verdicts import METRIC_NAMES, Endpoint

Answer = (
    pd.DataFrame | pd.Series | Draws
)  # one arm: matrix [seeds, subjects], value per replicate, or resamples


def answers_of(
    rows: pd.DataFrame, metric: str, layer: str, classes: Sequence[str], resamples: int, rng_seed: int, test_to_train: float | None,
    fewest: int = classification.FEWEST_POSITIVE, fall_back: bool = True,
) -> tuple[dict[str, Answer], list[str]]:  # fmt: skip
    """Every arm's metric: a matrix, resamples, or, with `test_to_train`, a value per replicate.

    A replicate is a value of the column `replicate`, the mean over its seeds, or, without that column, a seed.
    A class with or without which fewer than `fewest` test subjects are is left out of the mean of a set metric. If none is
    left, `fall_back` takes those that have one (and says so); without it that is an InputError.
    """
    if test_to_train is not None:
        return _of_replicates(rows, lambda mine: answers_of(mine, metric, layer, classes, 1, rng_seed, None, fewest, fall_back))
    if metric in segmentation.METRICS:
        found = segmentation.subject_matrices(rows, metric, layer, classes)
        if not found:
            raise InputError("cases table", "no segmentation rows", f"rows for the metric {metric!r}", "correct endpoint.metric or layer")
        return found, []
    scores, subjects, seeds = classification.class_scores(rows, classes)
    if not scores:
        raise InputError("cases table", "no classification rows", f"rows for the metric {metric!r}", "correct endpoint.metric")
    kept, notes = _judged_classes({name: s.subjects_with for name, s in next(iter(scores.values())).items()}, fewest, fall_back)
    plan = plan_resamples(len(subjects), len(seeds), resamples, rng_seed)
    return {a: plan.draw(classification.set_metric(metric, [mine[c] for c in kept])) for a, mine in scores.items()}, notes


def _of_replicates(rows: pd.DataFrame, answer: Callable[[pd.DataFrame], tuple[dict[str, Answer], list[str]]]
                   ) -> tuple[dict[str, Answer], list[str]]:
    """Every arm's mean over the seeds and subjects of each replicate, with the fewest subjects of one; what was noted in any."""
    columns, notes, key = {}, [], "replicate" if "replicate" in rows else "seed"
    for replicate, mine in rows.groupby(key):
        found, said = answer(mine)
        told = [f"replicate {replicate + 1}: {n}" for n in said] if key == "replicate" else said
        notes += [n for n in told if n not in notes]
        columns[replicate] = {a: mean_of(x) for a, x in found.items()}
    wide = pd.DataFrame(columns)
    series = {str(a): wide.loc[a] for a in wide.index}
    for one in series.values():
        one.attrs["subjects"] = int(rows.groupby(key)["subject"].nunique().min())
    return series, notes


def _judged_classes(counts: Mapping[str, tuple[int, int]], fewest: int, fall_back: bool) -> tuple[list[str], list[str]]:
    """The classes of a set metric, and what is said of the others; counts: test subjects with and without each."""
    for least in (fewest, 1) if fall_back else (fewest,):
        if kept := [c for c, n in counts.items() if min(n) >= least]:
            break
    else:
        raise InputError("cases table", f"subjects with / without a finding: {counts}", "a class with both", "name other classes")
    notes = [f"{c} left out of the mean: {n[0]} test subjects with it, {n[1]} without" for c, n in counts.items() if c not in kept]
    if least < fewest:
        notes.append(f"no class has {fewest} test subjects with it and {fewest} without: {', '.join(kept)} by {least} or more")
    return kept, notes


def nothing_learned(
    answers: Mapping[str, Answer], rows: pd.DataFrame, endpoint: Endpoint, reference: str, test_to_train: float | None, fewest: int
) -> str:
    """Why no difference can be judged: "" unless the metric is at its floor.

    Segmentation: the reference's mean is below the endpoint's smallest relevant difference or margin, so whatever an arm
    does lies within them. Classification: no arm is shown to be above a classifier that gives every image the same
    probability (AUROC 0.5, average precision the prevalence, F1 that of calling every image positive).
    """
    least = max(endpoint.margin, endpoint.smallest_relevant)
    means = {arm: mean_of(x) for arm, x in answers.items()}
    name = METRIC_NAMES[endpoint.metric]
    if endpoint.metric in segmentation.METRICS:
        if means[reference] >= least:
            return ""
        if max(means.values()) < least:
            return f"no arm segments anything ({name} {max(means.values()):.3f} at most)"
        return f"{reference} segments nothing ({name} {means[reference]:.3f}), so a difference to it says nothing"
    blind = rows[rows["arm"] == reference].assign(probability=1.0, threshold=0.5)
    blind, _ = answers_of(blind, endpoint.metric, endpoint.layer, endpoint.classes, 1, 0, test_to_train, fewest)
    chance = mean_of(blind[reference])
    for arm, x in answers.items():
        interval = x.layout().interval(1 - 0.05 / len(answers)) if isinstance(x, Draws) else None  # one of many is lucky
        if interval[0] > chance if interval else means[arm] > chance + least:
            return ""
    return f"no arm is shown to classify anything ({name} {max(means.values()):.3f} at most, without learning {chance:.3f})"


def mean_of(x: Answer) -> float:
    """The metric of one arm over its seeds and subjects."""
    return float(np.nanmean(x.point if isinstance(x, Draws) else x.to_numpy(float)))


def difference_of(a: Answer, b: Answer, test_to_train: float | None) -> tuple[Layout, np.ndarray]:
    """Layout of a - b, and the difference per seed."""
    if isinstance(a, Draws):
        return (a - b).layout(), (a - b).point
    if isinstance(a, pd.Series):
        means = (a - b).to_numpy(float)
        return nadeau_bengio(means, test_to_train, a.attrs["subjects"]), means
    if not (a.index.equals(b.index) and a.columns.equals(b.columns)):
        raise InputError(
            "cases table",
            f"seeds {list(a.index)} and {list(b.index)}, {a.shape[1]} and {b.shape[1]} test subjects",
            "the same seeds and test subjects under both arms",
            "finish the study with `synthrad study run`",
        )
    matrix = (a - b).to_numpy(float)
    layout = two_way(matrix)
    return layout, np.nanmean(matrix, axis=1)

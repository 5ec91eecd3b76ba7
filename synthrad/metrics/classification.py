"""Classification metrics from a cases table, computed for many resamples of the subjects at once.

AUROC counts ties half (Mann-Whitney); average precision is sum (R_k - R_{k-1}) P_k over distinct thresholds, as in torchmetrics and
scikit-learn; F1 is at the threshold that was chosen on validation; ECE has 15 bins of equal mass (fewer images: one an image),
without weights. A target NaN is unknown and left out. All functions take subject counts [B, n], so that a subject is
drawn with all its images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synthrad.errors import InputError
from synthrad.measurements import Measurement
from synthrad.metrics.segmentation import MACRO, RARE, RARE_BELOW, check_rows

ECE_BINS = 15
FEWEST_POSITIVE = 5  # subjects with and without a finding that a class needs for a metric that says anything
MOST_CELLS = 4_000_000  # resamples x images held at once (32 MB an array)


@dataclass(frozen=True)
class ClassScores:
    """One arm's answers for one class.

    Args:
        probability: [S, N]. target: bool [N]. subject: int [N], position in the shared list of subjects. threshold: [S, N].
    """

    probability: np.ndarray
    target: np.ndarray
    subject: np.ndarray
    threshold: np.ndarray

    @property
    def subjects_with(self) -> tuple[int, int]:
        """Subjects with at least one positive image, and with at least one negative image."""
        return len(set(self.subject[self.target])), len(set(self.subject[~self.target]))

    @property
    def prevalence(self) -> float:
        """Share of positive images."""
        return float(self.target.mean()) if len(self.target) else float("nan")


def class_scores(
    cases: pd.DataFrame, classes: Sequence[str] = ()
) -> tuple[dict[str, dict[str, ClassScores]], list[str], list[int]]:
    """Arrays of every arm and class.

    Args:
        cases: rows of one task, net and test set. classes: empty for all.

    Returns:
        arm -> class -> ClassScores; the shared list of subjects; the seeds (rows of ClassScores.probability).

    Raises:
        InputError: an unknown class, a probability that is not a number, other images or targets under another arm or seed.
    """
    rows = check_rows(cases, "classification")
    names = sorted(set(rows["class_name"]))
    if unknown := sorted(set(classes) - set(names)):
        raise InputError(
            "classes", f"{unknown}", f"classes of the cases: {names}", "correct endpoint.classes"
        )
    rows = rows[rows["class_name"].isin(classes or names)]
    bad = rows["probability"].isna()
    if bad.any():
        first = rows.loc[bad, ["arm", "seed", "image"]].iloc[0].to_dict()
        raise InputError(
            "cases table",
            f"{int(bad.sum())} probabilities that are not a number, the first {first}",
            "probabilities",
            "train that arm and seed again",
        )
    subjects, seeds = sorted(set(rows["subject"])), sorted(set(rows["seed"]))
    place = {s: i for i, s in enumerate(subjects)}
    found: dict[str, dict[str, ClassScores]] = {}
    first_targets: dict[str, pd.Series] = {}
    for (arm, name), mine in rows.groupby(["arm", "class_name"]):
        wide = mine.pivot(
            index="seed", columns=["subject", "image"], values=["probability", "target", "threshold"]
        )
        wide = wide.reindex(seeds)
        targets = wide["target"]
        expected = first_targets.setdefault(str(name), targets.iloc[0])
        same = targets.columns.equals(expected.index) and all(targets.loc[s].equals(expected) for s in seeds)
        if wide["probability"].isna().any(axis=None) or not same:
            raise InputError(
                "cases table",
                f"arm {arm!r}, class {name!r}: other images, targets or seeds than the others",
                f"the same test images under seeds {seeds} of every arm",
                "finish or remove the incomplete fits",
            )
        known = expected.notna().to_numpy()
        codes = np.array([place[s] for s, _ in expected.index])[known]
        found.setdefault(str(arm), {})[str(name)] = ClassScores(
            wide["probability"].to_numpy(float)[:, known],
            expected.to_numpy(float)[known] > 0.5,
            codes,
            wide["threshold"].to_numpy(float)[:, known],
        )
    return found, subjects, seeds


def _curve(
    scores: np.ndarray, target: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Weights of positives and negatives per distinct score [B, K], from the highest down, and their running sums."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    weights, positive = weights[:, order], target[order]
    up, down = weights * positive, weights * ~positive
    if len(starts) < len(order):
        up, down = np.add.reduceat(up, starts, axis=1), np.add.reduceat(down, starts, axis=1)
    return up, down, up.cumsum(1), down.cumsum(1)


def weighted_auroc(scores: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[B]: AUROC of scores [n] for target bool [n] under each row of weights [B, n]; ties count half, NaN without both."""
    up, down, above, below = _curve(scores, target, weights)
    pairs = above[:, -1] * below[:, -1]
    # a negative loses against the positives above it and half against those of its own score
    won = (down * (above - 0.5 * up)).sum(1)
    return np.where(pairs > 0, won / np.where(pairs > 0, pairs, 1), np.nan)


def _average_precision(scores: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    up, _, above, below = _curve(scores, target, weights)
    total = above[:, -1]
    seen = above + below
    precision = above / np.where(seen > 0, seen, 1)
    return np.where(total > 0, (up * precision).sum(1) / np.where(total > 0, total, 1), np.nan)


def _f1(predicted: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    tp = weights @ (predicted & target).astype(float)
    wrong = weights @ (predicted != target).astype(float)
    positives = weights @ target.astype(float)
    return np.where(positives > 0, 2 * tp / np.where(positives > 0, 2 * tp + wrong, 1), np.nan)


def _one(metric: str, scores: ClassScores, seed: int, weights: np.ndarray) -> np.ndarray:
    if metric == "f1":
        if np.isnan(scores.threshold[seed]).any():
            return np.full(len(weights), np.nan)
        return _f1(scores.probability[seed] >= scores.threshold[seed], scores.target, weights)
    function = {"auroc": weighted_auroc, "average_precision": _average_precision}[metric]
    return function(scores.probability[seed], scores.target, weights)


METRICS = ("auroc", "average_precision", "f1")


def set_metric(metric: str, scores: Sequence[ClassScores]) -> Callable[[np.ndarray], np.ndarray]:
    """A metric of a set as a function of subject counts, the mean over the given classes.

    Args:
        metric: auroc, average_precision or f1. scores: one arm's classes.

    Returns:
        Function counts [B, n] -> [B, S]; NaN where any class is undefined in that resample.
    """
    if metric not in METRICS:
        raise InputError("metric", repr(metric), f"one of {METRICS}")
    seeds = scores[0].probability.shape[0]

    def compute(counts: np.ndarray) -> np.ndarray:
        found = np.zeros((len(counts), seeds))
        for one in scores:
            step = max(1, MOST_CELLS // max(1, len(one.subject)))
            for at in range(0, len(counts), step):
                weights = counts[at : at + step, one.subject]
                for s in range(seeds):
                    found[at : at + step, s] += _one(metric, one, s, weights)
        return found / len(scores)

    return compute


def calibration_error(probability: np.ndarray, target: np.ndarray, bins: int = ECE_BINS) -> float:
    """Expected calibration error over bins of equal mass (Nixon et al., 2019, adaptive bins); NaN for no image."""
    if len(target) == 0:
        return float("nan")
    order = np.argsort(probability, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    gaps = [len(p) * abs(probability[p].mean() - target[p].mean()) for p in parts]
    return float(sum(gaps) / len(order))


def _values(scores: ClassScores, subjects: int, fewest: int) -> dict[str, np.ndarray]:
    """Metric -> [S] for one class, NaN where undefined."""
    ones = np.ones((1, subjects))
    seeds = len(scores.probability)
    if min(scores.subjects_with) < fewest:
        return {m: np.full(seeds, np.nan) for m in (*METRICS, "ece")}
    found = {m: set_metric(m, [scores])(ones)[0] for m in METRICS}
    ece = np.array([calibration_error(p, scores.target) for p in scores.probability])
    return {**found, "ece": ece}


def _undefined(scores: ClassScores, metric: str, fewest: int) -> str:
    """Why a metric has no value, with the counts."""
    positives, images = int(scores.target.sum()), len(scores.target)
    people = scores.subjects_with
    if metric == "f1" and min(people) >= fewest:
        return "undefined: no threshold was chosen on validation"
    return (
        f"undefined: {positives} of {images} images positive "
        f"({people[0]} subjects with a positive, {people[1]} with a negative image; {fewest} of each needed)"
    )


def summarise(
    cases: pd.DataFrame, fewest: Mapping[str, int] | None = None, prevalence: Mapping[str, float] | None = None
) -> list[Measurement]:
    """AUROC, average precision, F1 and ECE of every task, net, arm, seed, class and test set, with macro and rare-class means.

    `macro` is the mean over classes that are defined, `rare` over those of them whose `prevalence` (class -> share of the training
    images; None: of the test images) is below 0.1; the note counts them. `n` counts subjects with a known target. `subgroup` is "external:<name>" for an external test set. A class is undefined where fewer than `fewest`[task]
    (default FEWEST_POSITIVE) subjects have it, or lack it.
    """
    rows: list[Measurement] = []
    chosen = cases[cases["kind"] == "classification"]
    for (task, net, external, arm, _), part in chosen.groupby(["task", "net", "external", "arm", "seed"]):
        found, subjects, seeds = class_scores(part)
        classes = found[str(arm)]
        where = {
            "task": str(task),
            "net": str(net),
            "arm": str(arm),
            "seed": int(seeds[0]),
            "unit": "set",
            "subgroup": f"external:{external}" if external else "",
        }
        least = (fewest or {}).get(str(task), FEWEST_POSITIVE)
        values = {name: _values(s, len(subjects), least) for name, s in classes.items()}
        which = "test" if prevalence is None else "training"
        shares = {name: s.prevalence for name, s in classes.items()} if prevalence is None else prevalence
        known_for = {name: set(s.subject) for name, s in classes.items()}
        for metric in (*METRICS, "ece"):
            mine = {name: float(v[metric][0]) for name, v in values.items()}
            for name, value in mine.items():
                known = not np.isnan(value)
                note = "" if known else _undefined(classes[name], metric, least)
                n = len(known_for[name])
                rows.append(Measurement(metric, value if known else None, n=n, class_name=name, note=note, **where))
            defined = {name: v for name, v in mine.items() if not np.isnan(v)}
            rare = [name for name in defined if shares.get(name, 1.0) < RARE_BELOW]
            for label, kept in ((MACRO, list(defined)), (RARE, rare)):
                note = f"{'mean over' if kept else 'undefined:'} {len(kept)} of {len(mine)} classes"
                note += f" ({which} prevalence below {RARE_BELOW:g})" if label == RARE else ""
                value = float(np.mean([defined[name] for name in kept])) if kept else None
                n = len(set().union(*(known_for[name] for name in kept)))
                rows.append(Measurement(metric, value, n=n, class_name=label, note=note, **where))
    return rows

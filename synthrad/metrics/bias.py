"""What a net does in one subgroup: AUROC, Dice, false-negative rate, with the influence of every subject on it.

The false-negative rate is the share of what is there and is missed: of classification, positive images below the threshold that was
chosen on validation; of segmentation, reference pixels of a subject that are not painted, averaged over subjects. Influence
by the jackknife that leaves out a subject with all its images; for AUROC in n log n, from ranks, not by n recomputations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from synthrad.errors import InputError
from synthrad.metrics import segmentation
from synthrad.metrics.classification import ClassScores, class_scores

METRICS = {"segmentation": ("dice", "false_negative_rate"), "classification": ("auroc", "false_negative_rate")}
LARGER_IS_BETTER = {"dice": True, "auroc": True, "false_negative_rate": False}


@dataclass(frozen=True)
class GroupScore:
    """One metric of one arm in one group.

    Args:
        value: [S], under each seed.
        pseudo: [S, n], (pseudo-)values whose mean over subjects has the variance of `value`.
        subjects: the n that count: with reference pixels, with a known finding, with a positive image.
        kind: bool [n], of an AUROC the subjects with a positive image; else all False.
    """

    value: np.ndarray
    pseudo: np.ndarray
    subjects: tuple[str, ...]
    kind: np.ndarray


def segmentation_scores(rows: pd.DataFrame, metric: str, layer: str = "", classes: Sequence[str] = ()) -> dict[str, GroupScore]:
    """Every arm's Dice or false-negative rate: means over subjects of means over the classes that a subject has.

    Args:
        rows: cases of one task, net, test set and group. classes: empty for all.

    Returns:
        arm -> GroupScore; subjects without any of the classes are left out.

    Raises:
        InputError: arms or seeds of other subjects.
    """
    if metric == "dice":
        found = segmentation.subject_matrices(rows, "dice", layer, classes)
    else:
        mine = rows[rows["class_name"].isin(classes)] if classes else rows
        mine = mine[mine["layer"] == layer] if layer else mine
        sums = segmentation.check_rows(mine, "segmentation").groupby(["arm", "seed", "subject", "layer", "class_name"])[["tp", "fn"]].sum()
        there = sums["tp"] + sums["fn"]
        share = (sums["fn"] / there).where(there > 0).groupby(["arm", "seed", "subject"]).mean().reset_index(name="share")
        found = {str(a): part.pivot(index="seed", columns="subject", values="share") for a, part in share.groupby("arm")}
    out: dict[str, GroupScore] = {}
    first = next(iter(found.values()), None)
    for arm, table in found.items():
        if not (table.index.equals(first.index) and table.columns.equals(first.columns)):
            raise InputError("cases table", f"arm {arm!r}: other seeds or test subjects than the others", "the same under every arm",
                             "finish the study with `synthrad study run`")
        known = table.dropna(axis=1, how="all")
        matrix = known.to_numpy(float)
        out[arm] = GroupScore(matrix.mean(1) if matrix.size else np.full(len(table), np.nan), matrix, tuple(map(str, known.columns)),
                              np.zeros(matrix.shape[1], bool))
    return out


def classification_scores(rows: pd.DataFrame, metric: str, classes: Sequence[str] = ()) -> dict[str, dict[str, GroupScore]]:
    """Every arm's AUROC or false-negative rate of each class: arm -> class -> GroupScore.

    A class without which, or with which, no subject is (AUROC), without a threshold or without a positive image (false-negative
    rate) has no entry.
    """
    found, subjects, _ = class_scores(rows, classes)
    function = _auroc if metric == "auroc" else _missed
    out: dict[str, dict[str, GroupScore]] = {}
    for arm, mine in found.items():
        scores = {name: function(s, subjects) for name, s in mine.items()}
        out[arm] = {name: s for name, s in scores.items() if s is not None}
    return out


def subjects_with(rows: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """class -> subjects with a positive, and with a negative image; of classification cases of any arms."""
    known = rows[rows["target"].notna()]
    parts = {side: known[(known["target"] > 0.5) == side].groupby("class_name")["subject"].nunique() for side in (True, False)}
    return {str(c): (int(parts[True].get(c, 0)), int(parts[False].get(c, 0))) for c in sorted(set(rows["class_name"]))}


def _missed(s: ClassScores, subjects: Sequence[str]) -> GroupScore | None:
    """Share of positive images below the threshold."""
    if np.isnan(s.threshold).any() or not s.target.any():
        return None
    owners, at = np.unique(s.subject[s.target], return_inverse=True)
    missed = (s.probability < s.threshold)[:, s.target]
    images = np.bincount(at).astype(float)
    of_subject = np.array([np.bincount(at, row) for row in missed.astype(float)])
    total, n = of_subject.sum(1, keepdims=True), len(owners)
    value = total / images.sum()
    pseudo = value if n < 2 else n * value - (n - 1) * (total - of_subject) / (images.sum() - images)
    return GroupScore(value[:, 0], np.broadcast_to(pseudo, of_subject.shape), tuple(subjects[k] for k in owners), np.zeros(n, bool))


def _auroc(s: ClassScores, subjects: Sequence[str]) -> GroupScore | None:
    """AUROC (ties half) and its jackknife over subjects.

    With wins W over all pairs, W_i of the pairs that touch subject i, P and N positive and negative images:
    without i it is (W - W_i) / ((P - p_i) (N - n_i)).
    """
    positive, negative = s.target, ~s.target
    owners, at = np.unique(s.subject, return_inverse=True)
    p, q = np.bincount(at, positive).astype(float), np.bincount(at, negative).astype(float)
    left = (p.sum() - p) * (q.sum() - q)
    if not p.sum() or not q.sum() or (left == 0).any():
        return None
    mixed = np.flatnonzero((p > 0) & (q > 0))
    n, values, pseudo = len(owners), [], []
    for scores in s.probability:
        ranks, wins = rankdata(scores), np.zeros(len(scores))
        wins[positive] = ranks[positive] - rankdata(scores[positive])  # negatives below, ties half
        wins[negative] = p.sum() - (ranks[negative] - rankdata(scores[negative]))  # positives above
        total = wins[positive].sum()
        touched = np.bincount(at, wins)
        for i in mixed:  # its own pairs were counted from both sides
            inside, outside = scores[(at == i) & positive][:, None], scores[(at == i) & negative]
            touched[i] -= (inside > outside).sum() + 0.5 * (inside == outside).sum()
        value = total / (p.sum() * q.sum())
        values.append(value)
        pseudo.append(n * value - (n - 1) * (total - touched) / left)
    return GroupScore(np.array(values), np.array(pseudo), tuple(subjects[k] for k in owners), p > 0)


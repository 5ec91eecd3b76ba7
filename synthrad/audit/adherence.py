"""Adherence of a set: do its images show the labels, attributes and masks that they carry? Judges learned from the split audit alone.

Nothing here passes or fails. Each number stands between what the same judge reaches on real test images (the ceiling) and what
it would reach if images had nothing to do with their conditions (the floor: conditions exchanged between images).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synthrad.audit.judges import (
    FEWEST_EACH,
    FEWEST_SUBJECTS,
    Classifier,
    Segmenter,
    enough,
    small,
    targets_of,
)
from synthrad.audit.sides import Sides
from synthrad.measurements import without_nan
from synthrad.metrics.adherence import Resampled, auroc_of_subjects, interval_of, subject_weights

SHUFFLES = 20
NONE = Resampled(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Adherence:
    """One label, attribute value or mask layer.

    Args:
        kind: label, attribute or mask. name: of it. metric: AUROC or Dice. value, low, high: of the set, 95 % over images.
        ceiling, ceiling_low, ceiling_high: of real test images, 95 % over patients. floor: of the set with conditions exchanged.
        images, real_images: compared. reason: why it was not tested, "" = it was.
    """

    kind: str
    name: str
    metric: str
    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    ceiling: float = float("nan")
    ceiling_low: float = float("nan")
    ceiling_high: float = float("nan")
    floor: float = float("nan")
    images: int = 0
    real_images: int = 0
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which knows no NaN."""
        return without_nan(asdict(self))


def too_few(sides: Sides) -> str:
    """Why there can be no judge; "" = there can."""
    has = 0 if sides.witnesses is None else len(set(sides.witnesses.rows.column("subject")))
    return "" if has >= FEWEST_SUBJECTS else f"needs {FEWEST_SUBJECTS} audit subjects, has {has}"


def adherence(sides: Sides, classifier: Classifier | None, segmenter: Segmenter | None, seed: int = 0) -> list[Adherence] | str:
    """All labels, attribute values and mask layers of the set; a reason where nothing can be judged.

    Args:
        classifier, segmenter: judges from the split audit, None where there is none.
    """
    if reason := too_few(sides):
        return reason
    test = np.flatnonzero(~sides.member)
    rows, people = sides.rows.take(test), sides.subjects[test]
    learned, taught_by = sides.witnesses.rows, np.asarray(sides.witnesses.rows.column("subject"))
    drawn = classifier(sides.synthetic) if classifier else None
    real = classifier(sides.real[torch.from_numpy(test)]) if classifier else None
    found = []
    for target in targets_of(sides):
        with_, without = enough(target.of(learned), taught_by)
        if classifier is None or target not in classifier.targets or min(with_, without) < FEWEST_EACH:
            found.append(Adherence(target.kind, target.name, "AUROC", reason=f"needs {FEWEST_EACH} audit subjects with and without it, has {with_} and {without}"))
            continue
        k = classifier.targets.index(target)
        asked, shown = target.of(sides.drawn), target.of(rows)
        found.append(_row(target.kind, target.name, asked, drawn[:, k], shown, real[:, k], people, seed))
    return found + _masks(sides, segmenter, test, seed)


def _row(kind: str, name: str, asked: np.ndarray, drawn: np.ndarray, shown: np.ndarray, real: np.ndarray, people: np.ndarray, seed: int) -> Adherence:
    value = auroc_of_subjects(drawn, asked, np.arange(len(drawn)), seed=seed)
    if np.isnan(value.value):
        has = int((asked == 1).sum()), int((asked == 0).sum())
        return Adherence(kind, name, "AUROC", reason=f"needs {FEWEST_EACH} images of the set with and without it, has {has[0]} and {has[1]}")
    top = auroc_of_subjects(real, shown, people, seed=seed)
    rng = np.random.default_rng([seed, 53])
    floor = np.mean([auroc_of_subjects(drawn, rng.permutation(asked), np.arange(len(drawn)), draws=1).value for _ in range(SHUFFLES)])
    return Adherence(kind, name, "AUROC", value.value, value.low, value.high, top.value, top.low, top.high, float(floor),
                     int((~np.isnan(asked)).sum()), int((~np.isnan(shown)).sum()))


def dice(one: Tensor, other: Tensor) -> np.ndarray:
    """bool [n, L, h, w] to float [n, L]: 2 |both| / (|one| + |other|); NaN where both are empty."""
    size = (one.sum((2, 3)) + other.sum((2, 3))).double()
    return (2 * (one & other).sum((2, 3)) / torch.where(size > 0, size, torch.nan)).numpy()


def _masks(sides: Sides, segmenter: Segmenter | None, test: np.ndarray, seed: int) -> list[Adherence]:
    if sides.masks is None:
        return []
    layers = [layer for layer, structures in sides.drawn.info.layers.items() if sides.rows.info.layers.get(layer) == structures]
    if segmenter is None:
        has = masked_witnesses(sides)
        return [Adherence("mask", layer, "Dice", reason=f"needs {FEWEST_SUBJECTS} audit subjects with masks, has {has}") for layer in layers]
    own = small(sides.masks) > 0
    seen = segmenter(sides.synthetic[torch.from_numpy(sides.synthetic_with_masks)])
    at = np.flatnonzero(np.isin(sides.with_masks, test))
    real_rows = sides.with_masks[at]
    shown = dice(small(sides.real_masks[torch.from_numpy(at)]) > 0, segmenter(sides.real[torch.from_numpy(real_rows)])) if len(at) else None
    value, floor, found = dice(own, seen), dice(own.roll(1, 0), seen), []
    for k, layer in enumerate(layers):
        mine = _mean(value[:, k], np.arange(len(value)), seed)
        top = _mean(shown[:, k], sides.subjects[real_rows], seed) if shown is not None else NONE
        if mine.value is None or np.isnan(mine.value) or np.isnan(floor[:, k]).all():
            found.append(Adherence("mask", layer, "Dice", reason="needs a structure in a mask or an answer, has none in the whole set"))
            continue
        found.append(Adherence("mask", layer, "Dice", mine.value, mine.low, mine.high, top.value, top.low, top.high, float(np.nanmean(floor[:, k])),
                               len(value), len(at)))
    return found


def _mean(values: np.ndarray, subjects: np.ndarray, seed: int) -> Resampled:
    known = ~np.isnan(values)
    if not known.any():
        return NONE
    weights = subject_weights(subjects[known], 1000, seed)
    return interval_of(weights @ values[known] / np.maximum(weights.sum(1), 1))


def masked_witnesses(sides: Sides) -> int:
    """Subjects of the split audit with a mask of every layer."""
    w = sides.witnesses
    return 0 if w is None or w.masks is None or sides.masks is None else len(set(np.asarray(w.rows.column("subject"))[w.with_masks]))


def told(found: Sequence[Mapping[str, Any]] | str) -> str:
    """A table for a reader, from rows as the record has them."""
    if isinstance(found, str):
        return f"adherence: not tested: {found}"
    if not found:
        return "adherence: the set carries no labels, attributes or masks"
    wide = max(len(r["name"]) for r in found)
    lines = [f"{'adherence (judges from the split audit)':<{wide + 16}}{'of the set':>24}{'real test images':>24}{'exchanged':>12}"]
    for r in found:
        name = f"{r['kind']:<10}{r['name']:<{wide + 1}}{r['metric']:<5}"
        if r["reason"]:
            lines.append(f"{name} not tested: {r['reason']}")
            continue
        lines.append(f"{name}{_number(r, 'value', 'low', 'high'):>24}{_number(r, 'ceiling', 'ceiling_low', 'ceiling_high'):>24}{r['floor']:>12.2f}" + _note(r))
    return "\n".join(lines)


def _note(row: Mapping[str, Any]) -> str:
    if row["metric"] != "AUROC" or row["ceiling"] is None:
        return ""
    return "   the judge cannot tell it in real images" if row["ceiling_low"] is None or row["ceiling_low"] <= 0.5 else ""


def _number(row: Mapping[str, Any], *keys: str) -> str:
    value, low, high = (row[k] for k in keys)
    return "-" if value is None else f"{value:.2f}" + ("" if low is None else f" [{low:.2f}, {high:.2f}]")

"""Curves of a classifier over its seeds: ROC, precision and recall, reliability.

Seeds are averaged point by point on a common axis (vertical averaging: Fawcett, Pattern Recognition Letters 27, 2006, section 9.1), and
the band is their range: it shows what another training of the same net may give, not what other patients may.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.functional.classification import binary_precision_recall_curve, binary_roc

POINTS = 101  # of the common axis
JUST_RIGHT = 1e-9  # of a point: where the curve rises straight up, its upper end counts
BINS = 10  # of a reliability curve: of equal mass, as those of the calibration error


@dataclass(frozen=True)
class Curve:
    """Mean and range over seeds; x, mean, low, high: [P], NaN where no seed has a value."""

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def roc(probability: np.ndarray, target: np.ndarray) -> Curve | None:
    """Sensitivity over 1 - specificity, linear between the thresholds.

    Args:
        probability: [S, N]. target: bool [N].

    Returns:
        the curve; None where all images are positive, or none is.
    """
    if target.all() or not target.any():
        return None
    x = np.linspace(0, 1, POINTS)
    rows = []
    for scores in probability:
        false, true, _ = (t.numpy() for t in binary_roc(*_tensors(scores, target)))
        rows.append(np.interp(np.minimum(x + JUST_RIGHT, 1), false, true))
    return _over_seeds(x, np.array(rows))


def precision_recall(probability: np.ndarray, target: np.ndarray) -> Curve | None:
    """Precision over recall, in steps: at each recall the precision of the highest threshold that reaches it.

    Straight lines between thresholds would promise too much (Davis and Goadrich, ICML 2006); the area below the steps is the average
    precision. None without a positive image.
    """
    if not target.any():
        return None
    x = np.linspace(0, 1, POINTS)
    rows = []
    for scores in probability:
        precision, recall, _ = (t.numpy()[:-1][::-1] for t in binary_precision_recall_curve(*_tensors(scores, target)))
        rows.append(precision[np.searchsorted(recall, x - 1e-6)])
    return _over_seeds(x, np.array(rows))


def reliability(probability: np.ndarray, target: np.ndarray, bins: int = BINS) -> Curve | None:
    """Share of positive images over the mean probability, in bins of equal mass of each seed; None for fewer images than bins."""
    if len(target) < bins:
        return None
    said, seen = [], []
    for scores in probability:
        parts = np.array_split(np.argsort(scores, kind="stable"), bins)
        said.append([scores[p].mean() for p in parts])
        seen.append([target[p].mean() for p in parts])
    return _over_seeds(np.mean(said, axis=0), np.array(seen))


def _tensors(scores: np.ndarray, target: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(np.ascontiguousarray(scores, dtype=np.float64)), torch.from_numpy(target.astype(np.int64))


def _over_seeds(x: np.ndarray, rows: np.ndarray) -> Curve:
    return Curve(x, rows.mean(0), rows.min(0), rows.max(0))

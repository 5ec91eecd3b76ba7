"""Set metrics against torchmetrics, weights against repeated images, undefined classes."""

import numpy as np
import pandas as pd
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_average_precision, binary_f1_score

from synthrad.errors import InputError
from synthrad.metrics.classification import (
    ClassScores,
    calibration_error,
    class_scores,
    set_metric,
    summarise,
)


def scores(seed=0, images=80, subjects=30, ties=True):
    rng = np.random.default_rng(seed)
    p = rng.random((2, images))
    p = np.round(p, 1) if ties else p
    return ClassScores(
        p, rng.random(images) < 0.4, rng.integers(0, subjects, images), np.full((2, images), 0.35)
    )


def reference(metric, p, y):
    p, y = torch.tensor(p), torch.tensor(y).long()
    if metric == "f1":
        return float(binary_f1_score((p >= 0.35).long(), y))
    return float({"auroc": binary_auroc, "average_precision": binary_average_precision}[metric](p, y))


@pytest.mark.parametrize("metric", ["auroc", "average_precision", "f1"])
@pytest.mark.parametrize("ties", [True, False])
def test_matches_torchmetrics_also_under_resampling(metric, ties):
    s = scores(ties=ties)
    counts = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), size=4).astype(float)
    found = set_metric(metric, [s])(np.vstack([np.ones((1, 30)), counts]))
    for row, weights in zip(found, [np.ones(30), *counts], strict=True):
        again = np.repeat(np.arange(80), weights[s.subject].astype(int))
        for k in range(2):
            assert row[k] == pytest.approx(
                reference(metric, s.probability[k][again], s.target[again]), abs=1e-6
            )


def test_calibration():
    y = np.random.default_rng(0).random(4000) < 0.3
    assert calibration_error(np.full(4000, 0.3), y) < 0.06
    assert calibration_error(np.full(10, 0.9), np.zeros(10)) == pytest.approx(0.9)


def table(targets, arm="real_only", seed=0):
    n = len(targets)
    return pd.DataFrame({
        "kind": "classification", "task": "t", "net": "n", "arm": arm, "seed": seed, "image": [f"i{k}" for k in range(n)],
        "subject": [f"p{k // 2}" for k in range(n)], "external": "", "layer": "", "class_name": "c", "tp": 0, "fp": 0, "fn": 0,
        "tn": 0, "probability": np.linspace(0, 1, n), "target": targets, "threshold": 0.5})  # fmt: skip


def test_summary_and_undefined():
    targets = [0.0, 0, np.nan, 1, 1, 1]
    found = {(m.metric, m.class_name): m for m in summarise(table(targets), fewest={"t": 1})}
    assert found["auroc", "c"].value == 1.0 and found["f1", "macro"].value == pytest.approx(1.0)
    empty = {(m.metric, m.class_name): m for m in summarise(table([0.0] * 6))}
    assert empty["auroc", "c"].value is None and "0 of 6 images positive" in empty["auroc", "c"].note
    few = {(m.metric, m.class_name): m for m in summarise(table(targets), fewest={"t": 2})}
    assert few["f1", "c"].value is None and "2 subjects with a positive, 1 with a negative image; 2 of each" in few["f1", "c"].note
    assert few["auroc", "macro"].value is None and few["auroc", "macro"].note == "undefined: 0 of 1 classes"


def test_rare_classes_are_those_rare_in_training_and_n_counts_known_targets():
    targets = [0.0, 1, 0, 1, 0, 1, np.nan, np.nan]
    cases = pd.concat([table(targets), table([0.0, 1] * 4).assign(class_name="d")])
    found = {(m.metric, m.class_name): m for m in summarise(cases, {"t": 1}, {"c": 0.02, "d": 0.5})}
    assert found["auroc", "rare"].value == found["auroc", "c"].value != found["auroc", "d"].value
    assert found["auroc", "rare"].note == "mean over 1 of 2 classes (training prevalence below 0.1)"
    assert [found["auroc", c].n for c in ("c", "d", "rare", "macro")] == [3, 4, 3, 4]
    assert {m.value for m in summarise(cases, {"t": 1}) if m.class_name == "rare"} == {None}  # both frequent among the test images


def test_other_targets_are_refused():
    both = pd.concat([table([0.0, 1, 0, 1]), table([1.0, 1, 0, 1], arm="b")])
    with pytest.raises(InputError, match="other images, targets"):
        class_scores(both)
    with pytest.raises(InputError, match="repeated row"):
        class_scores(pd.concat([table([0.0, 1]), table([0.0, 1])]))

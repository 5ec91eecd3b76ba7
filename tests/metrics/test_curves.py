"""Curves against their definitions, written out slowly, and against the areas that they must have."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from synthrad.metrics.curves import precision_recall, reliability, roc


@pytest.fixture(scope="module")
def answers():
    rng = np.random.default_rng(0)
    target = rng.random(300) < 0.3
    return np.round(np.clip(0.3 * target + 0.7 * rng.random((4, 300)), 0, 1), 2), target  # rounded: many ties


def area(curve) -> float:
    return float(np.trapezoid(curve.mean, curve.x))


def test_areas_are_those_of_the_metrics(answers):
    scores, target = answers
    told = torch.from_numpy(target.astype(int))
    assert area(roc(scores, target)) == pytest.approx(np.mean([float(binary_auroc(torch.tensor(s), told)) for s in scores]), abs=2e-3)
    precise = np.mean([float(binary_average_precision(torch.tensor(s), told)) for s in scores])
    assert precision_recall(scores, target).mean[1:].mean() == pytest.approx(precise, abs=1e-2)


def test_points_are_those_of_the_definitions(answers):
    scores, target = answers
    one = scores[:1]
    curve, steps = roc(one, target), precision_recall(one, target)
    thresholds = np.unique(one)
    false = np.array([(one[0][~target] >= t).mean() for t in thresholds])
    true = np.array([(one[0][target] >= t).mean() for t in thresholds])
    assert curve.mean[0] == pytest.approx(true[false == 0].max(initial=0), abs=1e-6) and curve.mean[-1] == 1
    recall, precision = true, np.array([target[one[0] >= t].mean() for t in thresholds])
    for k in (1, 30, 77, 100):
        reached = thresholds[recall >= steps.x[k] - 1e-9].max()  # the highest threshold that reaches this recall
        assert steps.mean[k] == pytest.approx(precision[thresholds == reached][0], abs=1e-6)


def test_a_perfect_and_a_blind_classifier():
    target = np.arange(40) < 10
    assert roc(target[None].astype(float), target).mean.min() == 1 == precision_recall(target[None].astype(float), target).mean.min()
    blind = roc(np.full((1, 40), 0.5), target)
    assert np.allclose(blind.mean, blind.x, atol=1e-6) and np.allclose(precision_recall(np.full((1, 40), 0.5), target).mean, 0.25)


def test_the_band_is_the_range_of_the_seeds(answers):
    scores, target = answers
    both, one = roc(scores, target), [roc(s[None], target).mean for s in scores]
    assert np.allclose(both.low, np.min(one, 0)) and np.allclose(both.high, np.max(one, 0)) and np.allclose(both.mean, np.mean(one, 0))


def test_a_calibrated_classifier_lies_on_the_diagonal_and_a_bold_one_below():
    rng = np.random.default_rng(1)
    p = rng.random((2, 20_000))
    target = rng.random(20_000) < p[0]
    fair, bold = reliability(p[:1], target), reliability(np.sqrt(p[:1]), target)
    assert np.abs(fair.mean - fair.x).max() < 0.03 and len(fair.x) == 10
    assert (bold.mean < bold.x).all() and bold.mean[5] == pytest.approx(bold.x[5] ** 2, abs=0.03)


def test_what_is_undefined():
    scores, none, few = np.random.default_rng(0).random((2, 20)), np.zeros(20, bool), np.arange(5) < 2
    assert roc(scores, none) is roc(scores, ~none) is precision_recall(scores, none) is reliability(scores[:, :5], few) is None

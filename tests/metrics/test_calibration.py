"""Calibration against the plain formula, and on nets whose calibration is known."""

import numpy as np
import pytest
from torch import from_numpy
from torchmetrics.functional.classification import binary_calibration_error

from synthrad.metrics.calibration import calibration_metric, ece_by_chance, reliability
from synthrad.metrics.classification import ClassScores, calibration_error


def scores(seed=0, sharper=1.0, images=400, seeds=3):
    """Probabilities that are right at sharper = 1, too sure of themselves above."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-0.5, 1.5, (seeds, images))
    logit[1:] = logit[0] + rng.normal(0, 0.05, (seeds - 1, images))
    target = rng.random(images) < 1 / (1 + np.exp(-logit[0]))
    return ClassScores(1 / (1 + np.exp(-sharper * logit)), target, np.arange(images) // 2, np.full((seeds, images), 0.5))


def test_value_is_the_ece_of_measurements():
    one = scores(sharper=2)
    found = calibration_metric(one)(np.ones((1, 200)))[0]
    assert found == pytest.approx([calibration_error(p, one.target) for p in one.probability])


def test_equal_bins_agree_with_torchmetrics():
    """One image a bin edge: probabilities spread evenly have the same bins by mass and by width."""
    p = (np.arange(600) + 0.5) / 600
    target = np.random.default_rng(0).random(600) < p**2
    ours = calibration_metric(ClassScores(p[None], target, np.arange(600), p[None]), bins=15)(np.ones((1, 600)))[0, 0]
    theirs = binary_calibration_error(from_numpy(p), from_numpy(target.astype(int)), n_bins=15, norm="l1")
    assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_counts_weigh_subjects():
    one = scores(images=60)
    twice = np.r_[np.full(10, 2.0), np.zeros(20)]  # the first ten subjects, twice: as if only they were there, in the same bins
    weights = np.repeat(twice, 2)
    gap = one.probability[0] - one.target
    order = np.array_split(np.argsort(one.probability[0], kind="stable"), 15)
    expected = sum(abs((weights[b] * gap[b]).sum()) for b in order) / weights.sum()
    assert calibration_metric(one)(twice[None])[0, 0] == pytest.approx(expected)


def test_right_probabilities_lie_within_chance_and_sure_ones_do_not():
    inside = 0
    for s in range(60):
        one = scores(s, seeds=1)
        inside += calibration_metric(one)(np.ones((1, 200)))[0, 0] <= ece_by_chance(one, draws=200)[1]
    assert 0.85 <= inside / 60 <= 1.0
    sure = scores(0, sharper=3)
    mean, upper = ece_by_chance(sure)
    assert mean < upper < 0.7 * calibration_metric(sure)(np.ones((1, 200))).mean()


def test_reliability_curve():
    one = scores(images=3000)
    curve = reliability(one.probability[0], one.target, 10)
    assert [b.images for b in curve] == [300] * 10
    assert sum(b.low <= b.probability <= b.high for b in curve) >= 8
    assert np.mean([b.share for b in curve]) == pytest.approx(one.target.mean())
    assert [b.images for b in reliability(np.array([0.2, 0.1]), np.array([True, False]))] == [1, 1]

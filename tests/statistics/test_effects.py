"""Effect sizes against the noncentral t, R's published factor, statsmodels and simulated coverage."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from synthrad.statistics.effects import paired_effect


def test_against_the_noncentral_t_and_statsmodels():
    x = np.random.default_rng(0).normal(0.3, 1, 40)
    found = paired_effect(x)
    t = stats.ttest_1samp(x, 0).statistic
    assert found.d_z == pytest.approx(t / 40**0.5)
    assert stats.nct.sf(t, 39, found.d_low * 40**0.5) == pytest.approx(0.025)
    assert stats.nct.cdf(t, 39, found.d_high * 40**0.5) == pytest.approx(0.025)
    assert found.g / found.d_z == pytest.approx(1 - 3 / (4 * 39 - 1), abs=1e-4)  # Hedges' approximation
    assert (found.better_low, found.better_high) == pytest.approx(proportion_confint((x > 0).sum(), 40, 0.05, "wilson"))


def test_interval_holds_the_truth():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(500):
        found = paired_effect(rng.normal(0.5, 1, 15))
        hits += found.d_low <= 0.5 <= found.d_high
    assert 0.925 <= hits / 500 <= 0.972


def test_small_samples_are_not_flattered():
    rng = np.random.default_rng(2)
    found = [paired_effect(rng.normal(0.8, 1, 10)) for _ in range(800)]
    assert np.mean([f.d_z for f in found]) > 0.84 and np.mean([f.g for f in found]) == pytest.approx(0.8, abs=0.03)


def test_too_few_or_equal():
    assert paired_effect(np.arange(9.0)) is None and paired_effect(np.ones(30)) is None
    half = paired_effect(np.r_[np.ones(5), np.zeros(10), -np.ones(5)])
    assert half.better == 0.5 and half.d_z == 0 and half.d_low == pytest.approx(-half.d_high)

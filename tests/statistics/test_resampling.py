"""The crossed bootstrap: what it draws, its layout against the two-way one, and coverage for AUROC."""

import sys
from pathlib import Path

import numpy as np
import pytest

from synthrad.statistics.layouts import two_way
from synthrad.statistics.resampling import plan_resamples

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from bench_inference import set_coverage  # noqa: E402
from inference_tables import Effects  # noqa: E402


def mean_of(matrix):
    return lambda counts: counts @ matrix.T / counts.sum(1, keepdims=True)


def test_plan():
    plan = plan_resamples(30, 5, 200, rng_seed=1)
    assert (plan.counts.sum(1) == 30).all() and plan.chosen.shape == (200, 5) and plan.chosen.max() == 4
    assert np.array_equal(plan.counts, plan_resamples(30, 5, 200, rng_seed=1).counts)


def test_layout_of_a_mean_is_the_two_way_layout():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(5, 40)) + rng.normal(size=(1, 40)) + 0.4 * rng.normal(size=(5, 1))
    draws = plan_resamples(40, 5, 20_000).draw(mean_of(matrix))
    ours, exact = draws.layout(), two_way(matrix)
    for name in ("value", "ms_seed", "ms_subject", "ms_residual", "variance", "df"):
        assert getattr(ours, name) == pytest.approx(getattr(exact, name), rel=0.06), name


def test_inversion():
    matrix = np.random.default_rng(1).normal(0.3, 1, size=(5, 40))
    draws = plan_resamples(40, 5, 2000).draw(mean_of(matrix))
    low, _ = draws.percentile(0.9)
    assert draws.p_greater(low) == pytest.approx(0.05, abs=0.002)
    assert draws.p_two_sided(low) == pytest.approx(0.1, abs=0.004)


def test_undefined_resamples_forbid_an_interval():
    plan = plan_resamples(30, 5, 300)
    rare = lambda counts: np.where(counts[:, :1] > 0, 1.0, np.nan) * np.ones((1, 5))  # noqa: E731
    draws = plan.draw(rare)
    assert draws.undefined > 0.2 and draws.layout().interval() is None


@pytest.mark.parametrize("metric", ["f1", "auroc"])
def test_coverage_small(metric):
    # 1,000 tables with few resamples; the slow form has the settings in which the percentile interval fails
    effects = Effects(0.15, 0.5, 0.4, 0.4, 0.6)
    found = set_coverage(np.random.default_rng(2), 1000, metric, 5, 60, effects, resamples=100)
    assert 0.93 <= found["coverage"] <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["auroc", "average_precision", "f1"])
@pytest.mark.parametrize("effects", [Effects(0.15, 0.5, 0.4, 0.4, 0.6), Effects(0.4, 0.2, 0.3, 0.3, 0.6)])
def test_coverage(metric, effects):
    found = set_coverage(np.random.default_rng(3), 1000, metric, 5, 100, effects, resamples=200)
    assert 0.93 <= found["coverage"] <= 0.97

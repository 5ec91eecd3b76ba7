"""The two-way layout against hand-made components, and its coverage in simulated tables."""

import sys
from pathlib import Path

import numpy as np
import pytest

from synthrad.errors import InputError
from synthrad.statistics.layouts import two_way

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from bench_inference import layout_coverage  # noqa: E402
from inference_tables import Effects  # noqa: E402


def test_matches_the_textbook():
    d = np.random.default_rng(0).normal(size=(4, 12))
    layout = two_way(d)
    mean = d.mean()
    ms_s = 12 * ((d.mean(1) - mean) ** 2).sum() / 3
    ms_i = 4 * ((d.mean(0) - mean) ** 2).sum() / 11
    ms_e = ((d - d.mean(1, keepdims=True) - d.mean(0) + mean) ** 2).sum() / 33
    assert np.allclose(
        [layout.value, layout.ms_seed, layout.ms_subject, layout.ms_residual], [mean, ms_s, ms_i, ms_e]
    )
    expected = (max(ms_s - ms_e, 0) + max(ms_i - ms_e, 0) + ms_e) / 48
    assert np.isclose(layout.variance, expected)


def test_interval_and_p_agree():
    layout = two_way(np.random.default_rng(1).normal(0.5, 1, size=(6, 20)))
    low, high = layout.interval(0.9)
    assert np.isclose(layout.p_greater(low), 0.05) and np.isclose(layout.p_less(high), 0.05)
    assert np.isclose(layout.p_two_sided(low), 0.1)


def test_undefined_subjects_leave():
    d = np.random.default_rng(2).normal(size=(5, 15))
    more = np.hstack([d, np.full((5, 3), np.nan)])
    assert two_way(more) == two_way(d)
    more[0, -1] = 0.0
    with pytest.raises(InputError, match="under some seeds only"):
        two_way(more)


def test_too_few():
    rng = np.random.default_rng(3)
    assert two_way(rng.normal(size=(5, 9))).interval() is None
    assert two_way(rng.normal(size=(1, 30))).interval() is None
    four = two_way(rng.normal(size=(4, 30)))
    assert four.has_interval and not four.has_p


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_equal_differences_say_nothing(value):
    alike = two_way(np.full((5, 57), value))
    assert alike.interval() is None and not alike.has_p
    assert two_way(np.zeros((5, 57))).p_greater(-0.02) == two_way(np.zeros((5, 57))).p_less(0.02) == 1.0


@pytest.mark.parametrize(
    "seeds, subjects, effects",
    [(5, 60, Effects()), (5, 30, Effects(0.02, 0.02, 0.03)), (10, 100, Effects(0.005, 0.04, 0.03))],
)
def test_coverage(seeds, subjects, effects):
    found = layout_coverage(np.random.default_rng(4), 2000, seeds, subjects, 3, effects)["coverage"]
    assert 0.93 <= found <= 0.97

"""Power: the formula against scipy's t test power, and the whole rule at the effect for which the table says 90 %."""

import sys
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from synthrad.errors import InputError
from synthrad.statistics.layouts import two_way
from synthrad.statistics.power import (
    planned,
    power_of,
    power_table,
    seeds_needed,
    smallest_detectable,
    subjects_needed,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from bench_inference import detectable, rule_claims  # noqa: E402
from inference_tables import Effects  # noqa: E402


def test_matches_a_one_sample_t():
    expected = TTestPower().power(0.5, 20, 0.05, alternative="larger")
    assert power_of(0.5, 1 / 20, 19) == pytest.approx(expected, abs=1e-6)
    assert power_of(smallest_detectable(0.1, 7, 0.9, 0.05, 4, 3), 0.1, 7, 0.05, 4, 3) == pytest.approx(
        0.9, abs=1e-4
    )


def test_table():
    layout = two_way(
        np.random.default_rng(0).normal(size=(5, 30)) + np.random.default_rng(1).normal(size=(1, 30))
    )
    table = power_table(layout, (5, 10), (30, 120))
    assert (table["detectable_80"] < table["detectable_90"]).all()
    assert table["detectable_90"].iloc[0] > table["detectable_90"].iloc[-1]
    variance, _ = planned(layout, 5, 30)
    assert variance == pytest.approx(layout.variance)


CASE = (1000, 5, 60, 3, Effects())


def test_no_effect_is_seldom_claimed():
    assert rule_claims(np.random.default_rng(0), *CASE)["claims"] <= 0.064


def test_no_effect_over_one_control_is_seldom_claimed():
    assert rule_claims(np.random.default_rng(5), *CASE, above=0.05)["claims"] <= 0.064


def test_the_promised_effect_is_found():
    gain = detectable(*CASE[1:])
    assert rule_claims(np.random.default_rng(2), *CASE, gain)["found"] >= 0.8


def test_what_is_needed_is_the_least_that_suffices():
    d = np.random.default_rng(0).normal(0, 0.05, (5, 60)) + np.random.default_rng(1).normal(0, 0.002, (5, 1))
    layout = two_way(d)
    n = subjects_needed(layout, 0.02, 5, 0.9, arms=2, references=3)
    enough, one_less = (smallest_detectable(*planned(layout, 5, k), 0.9, arms=2, references=3) for k in (n, n - 1))
    assert enough <= 0.02 < one_less
    assert subjects_needed(layout, 0.02, 10, 0.9, arms=2, references=3) <= n
    s = seeds_needed(layout, 0.01, 60, 0.9, arms=2)
    enough, one_less = (smallest_detectable(*planned(layout, k, 60), 0.9, arms=2) for k in (s, s - 1))
    assert enough <= 0.01 < one_less
    shaky = two_way(np.random.default_rng(2).normal(0, 0.05, (5, 60)) + np.array([[-0.1], [0.1], [0.0], [0.1], [-0.1]]))
    assert subjects_needed(shaky, 0.02, 5) is None  # seeds differ by more: no number of subjects helps
    assert seeds_needed(shaky, 0.02, 60) > 5 and seeds_needed(layout, 0.001, 60, most=50) is None
    with pytest.raises(InputError, match="positive difference"):
        subjects_needed(layout, 0.0, 5)

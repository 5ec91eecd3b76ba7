import numpy as np
import pytest
from scipy import stats

from synthrad.statistics.separation import auc_interval, found_at_few_false


def test_at_one_half_it_is_the_variance_of_the_rank_sum():
    low, high = auc_interval(0.5, [(198, 90)])
    assert high - 0.5 == pytest.approx(0.5 - low, abs=1e-9)
    assert (high - 0.5) / 1.96 == pytest.approx(np.sqrt((198 + 90 + 1) / (12 * 198 * 90)), rel=0.02)  # V at the end, not in the middle


def test_perfect_separation_has_a_width_and_ends_stay_in_range():
    low, high = auc_interval(1.0, [(20, 20)])
    assert high == 1 and 0.8 < low < 0.95  # rank sums at a = 0.85 would reach 1 in a few of a hundred
    assert auc_interval(0.0, [(20, 20)])[0] == 0 and auc_interval(0.0, [(20, 20)])[1] == pytest.approx(1 - low)
    assert auc_interval(0.7, [(1, 1)])[0] >= 0


@pytest.mark.parametrize("auc", [0.5, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("sizes", [[(60, 30)], [(198, 90)], [(40, 15), (15, 10), (5, 2), (1, 1)]])
def test_it_covers_what_it_says(auc, sizes):
    """Normal scores of equal spread, 1500 tables: the true AUC lies in 95 % of the intervals, give or take three errors."""
    rng, shift, hits, tables = np.random.default_rng(0), np.sqrt(2) * stats.norm.ppf(auc), 0, 1500
    pairs = sum(m * n for m, n in sizes)
    for _ in range(tables):
        won = sum((rng.normal(shift, 1, m)[:, None] > rng.normal(0, 1, n)).sum() for m, n in sizes)
        low, high = auc_interval(won / pairs, sizes)
        hits += low <= auc <= high
    assert 0.93 <= hits / tables <= 0.985, hits / tables


def test_members_at_few_false_alarms():
    others = np.arange(90.0)
    found = found_at_few_false(np.array([100.0, 79.5, 79.0, 0.0]), others)
    assert found.false_positive_rate == pytest.approx(10 / 90) and found.rate == 0.5
    exact = stats.beta.ppf([0.025, 0.975], [2, 3], [3, 2])
    assert [found.low, found.high] == pytest.approx(exact) and found.false_low < 10 / 90 < found.false_high
    assert found_at_few_false(np.zeros(3), np.arange(400.0)).false_positive_rate == 0.01
    assert found_at_few_false(np.ones(5), np.ones(50)).rate == 0  # nothing is told apart
    assert found_at_few_false(np.ones(5), np.zeros(4)).rate == 1  # too few to leave any below

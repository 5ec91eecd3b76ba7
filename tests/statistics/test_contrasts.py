"""Contrasts of groups against the two-way layout, Welch's test and simulated tables."""

import numpy as np
import pytest
from scipy import stats

from synthrad.errors import InputError
from synthrad.statistics.contrasts import contrast, influence_of, range_by_chance
from synthrad.statistics.layouts import two_way


def of(matrix, members):
    return matrix.mean(1), influence_of(matrix), np.asarray(members)


def combine(parts, weights):
    values, influences, members = zip(*parts, strict=True)
    return contrast(np.array(values), influences, members, weights)


@pytest.mark.parametrize("effects", [(0, 0), (0.5, 0), (0, 1), (1, 1)])
def test_one_mean_and_one_paired_difference_are_the_two_way_layout(effects):
    rng = np.random.default_rng(3)
    a, b = (rng.normal(size=(5, 20)) + effects[0] * rng.normal(size=(5, 1)) + effects[1] * rng.normal(size=(1, 20)) for _ in range(2))
    one, pair = combine([of(a, range(20))], [1]), combine([of(a, range(20)), of(b, range(20))], [1, -1])
    for found, expected in ((one, two_way(a)), (pair, two_way(a - b))):
        assert (found.value, found.variance, found.df) == pytest.approx((expected.value, expected.variance, expected.df))
        assert found.interval() == pytest.approx(expected.interval())


def test_two_groups_without_seed_effects_are_welch():
    """Nets that agree on every subject: what is left is a comparison of two groups of people."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, 15), rng.normal(0.3, 3, 25)
    found = combine([of(np.tile(x, (3, 1)), range(15)), of(np.tile(y, (3, 1)), range(15, 40))], [1, -1])
    welch = stats.ttest_ind(x, y, equal_var=False)
    assert found.p_two_sided() == pytest.approx(welch.pvalue) and found.df == pytest.approx(welch.df)
    assert found.subjects == 15 and found.interval() == pytest.approx(tuple(welch.confidence_interval()))


def test_the_same_people_in_both_groups_are_paired():
    """Two views of the same patients: what they share cancels."""
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 5, 30)
    a, b = (np.tile(shared + rng.normal(0, 0.1, 30), (4, 1)) for _ in range(2))
    paired, apart = (combine([of(a, range(30)), of(b, range(at, at + 30))], [1, -1]) for at in (0, 30))
    assert paired.variance < apart.variance / 100
    assert paired.p_two_sided() == pytest.approx(stats.ttest_rel(a[0], b[0]).pvalue)


def test_coverage_of_a_change_of_gap():
    """Groups of 12 and 40, five seeds, all effects there: intervals of nominal 95 %."""
    rng, hits, tables = np.random.default_rng(5), 0, 1500
    for _ in range(tables):
        parts = []
        for n in (12, 40):
            base = rng.normal(0, 0.2, (1, n))
            for _ in range(2):
                matrix = base + rng.normal(0, 0.04, (1, n)) + rng.normal(0, 0.02, (5, 1)) + rng.normal(0, 0.05, (5, n))
                parts.append(of(matrix, np.arange(n) + 100 * n))
        low, high = combine(parts, [1, -1, -1, 1]).interval()
        hits += low <= 0 <= high
    assert 0.935 < hits / tables < 0.985, hits / tables


def test_too_few_and_bad_input():
    matrix = np.random.default_rng(0).normal(size=(3, 9))
    assert combine([of(matrix, range(9))], [1]).interval() is None  # 9 subjects
    assert combine([of(matrix[:1], range(9))], [1]).interval() is None  # one seed
    with pytest.raises(InputError, match="2 weights"):
        combine([of(matrix, range(9))], [1, -1])


def test_range_by_chance_against_the_studentized_range():
    mean, upper = range_by_chance(np.ones(4), draws=40_000)
    assert upper == pytest.approx(stats.studentized_range.ppf(0.95, 4, np.inf), rel=0.02)
    assert mean == pytest.approx(2.0588, rel=0.02)  # d2 of control charts, n = 4
    assert range_by_chance(np.array([1.0, 0.0]))[0] == pytest.approx((2 / np.pi) ** 0.5, rel=0.05)

"""Corrections against small worked cases."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from synthrad.errors import InputError
from synthrad.statistics.corrections import holm, intersection_union, nadeau_bengio, seeds_t, tost
from synthrad.statistics.layouts import two_way


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({}) == {}
    p = np.random.default_rng(0).random(9) ** 3
    assert list(holm(dict(enumerate(p))).values()) == pytest.approx(multipletests(p, method="holm")[1])


def test_intersection_union():
    assert intersection_union([0.01, 0.2, 0.03]) == 0.2
    with pytest.raises(InputError):
        intersection_union([])


def test_tost():
    layout = two_way(np.random.default_rng(0).normal(0, 0.02, size=(5, 40)))
    assert tost(layout, 0.05) < 1e-3 < 0.3 < tost(layout, 1e-4)
    with pytest.raises(InputError):
        tost(layout, 0.0)


def test_nadeau_bengio_is_wider_than_a_t():
    d = np.array([0.02, 0.04, 0.01, 0.03, 0.05])
    layout = nadeau_bengio(d, 0.25, 40)
    assert layout.variance == pytest.approx((0.2 + 0.25) * d.var(ddof=1)) and layout.df == 4
    assert layout.p_greater() > stats.ttest_1samp(d, 0, alternative="greater").pvalue


def test_seeds_t():
    d = np.array([0.02, 0.04, 0.01, 0.03, 0.05])
    assert seeds_t(d, 3) == pytest.approx(3 * stats.ttest_1samp(d, 0, alternative="greater").pvalue)
    assert seeds_t(d[:4], 3) is None


def test_the_papers_test_of_a_mean_gain():
    """Mean 0.150453, 95 % interval 0.099108-0.201798 gives P = 0.0031 for a paired one-tailed t with df = 2 (issue 5)."""
    mean, low, high = 0.150453, 0.099108, 0.201798
    error = (high - low) / 2 / stats.t.ppf(0.975, 2)
    shape = np.array([-1.0, 0.0, 1.0])  # three differences with that mean and that standard error
    d = mean + shape * error * 3**0.5
    layout = nadeau_bengio(d, 1e-12, 10)  # without overlap of splits: the plain paired t over replicates
    assert layout.interval() == pytest.approx((low, high)) and layout.df == 2
    assert round(layout.p_greater(), 4) == 0.0031
    assert layout.p_greater() == pytest.approx(stats.ttest_1samp(d, 0, alternative="greater").pvalue)
    assert seeds_t(d, 1) is None  # three runs: the number is the paper's, a p-value of ours needs five


def test_overlapping_splits_simulated():
    """Random splits of one dataset: what training and test patients bring is shared between replicates.

    D_r = mean over its test patients of b_i + mean over its training patients of a_j, of a new dataset in each table. A t over replicates
    that takes them for independent covers too seldom; with the factor of Nadeau and Bengio coverage is near nominal.
    """
    rng, hits, tables = np.random.default_rng(0), np.zeros(2), 600
    for _ in range(tables):
        a, b, d = rng.normal(0, 1, 120), rng.normal(0, 0.5, 120), []
        for _ in range(5):
            order = rng.permutation(120)
            d.append(b[order[:30]].mean() + a[order[30:]].mean() + rng.normal(0, 0.05))
        plain, pooled = nadeau_bengio(np.array(d), 1e-12, 30), nadeau_bengio(np.array(d), 30 / 90, 30)
        hits += [low <= 0 <= high for low, high in (plain.interval(), pooled.interval())]
    assert hits[0] / tables < 0.8 and 0.87 < hits[1] / tables <= 0.99, hits / tables

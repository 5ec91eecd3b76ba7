"""Likelihood ratios of shadows against scipy's normal law, and on subjects of known difficulty."""

import numpy as np
import pytest
from scipy import stats

from synthrad.errors import InputError
from synthrad.statistics.likelihood_ratio import OWN_SPREAD, likelihood_ratio


def halves(shadows, n, rng):
    inside = np.stack([rng.permutation(n) < n // 2 for _ in range(shadows // 2)])
    return np.concatenate([inside, ~inside])


def test_it_is_the_ratio_of_two_normal_laws_with_a_common_spread():
    inside = np.repeat([[True, True], [False, False]], 4, axis=0)
    shadows = np.array([[1, 11], [2, 12], [3, 13], [2, 16], [0, 10], [0, 10], [1, 11], [-1, 9]], float)
    # in: means 2 and 13, squares 2 and 14 ; out: means 0 and 10, squares 2 and 2; over 4 x 3
    expected = stats.norm.logpdf([2.5, 9], [2, 13], np.sqrt(20 / 12)) - stats.norm.logpdf([2.5, 9], [0, 10], np.sqrt(20 / 12))
    assert likelihood_ratio(np.array([2.5, 9]), shadows, inside) == pytest.approx(expected)


def test_with_many_shadows_each_subject_has_its_own_spread():
    rng = np.random.default_rng(0)
    inside = np.repeat([[True], [False]], OWN_SPREAD, axis=0)
    shadows = rng.normal(size=(2 * OWN_SPREAD, 1))
    a, b = shadows[:OWN_SPREAD, 0], shadows[OWN_SPREAD:, 0]
    expected = stats.norm.logpdf(0.3, a.mean(), a.std(ddof=1)) - stats.norm.logpdf(0.3, b.mean(), b.std(ddof=1))
    assert likelihood_ratio(np.array([0.3]), shadows, inside) == pytest.approx([expected])


def test_it_tells_members_apart_whose_difficulty_hides_them():
    rng, n = np.random.default_rng(1), 200
    difficulty, inside = rng.normal(0, 3, n), halves(8, n, rng)
    shadows = difficulty + inside + rng.normal(0, 0.3, inside.shape)
    member = np.arange(n) < n // 2
    score = difficulty + member + rng.normal(0, 0.3, n)
    auc = lambda s: (s[member][:, None] > s[~member]).mean()  # noqa: E731
    assert auc(score) < 0.7 and auc(likelihood_ratio(score, shadows, inside)) > 0.95


def test_a_model_far_from_its_shadows_is_not_judged_by_their_spreads():
    rng, n = np.random.default_rng(2), 200
    difficulty, inside = rng.normal(0, 0.5, n), halves(8, n, rng)
    shadows = difficulty + 0.3 * inside + rng.normal(0, np.where(inside, 0.2, 0.25), inside.shape)
    member = np.arange(n) < n // 2
    score = difficulty + 4 + member + rng.normal(0, 0.3, n)  # trained much longer
    ratio = likelihood_ratio(score, shadows, inside)
    assert (ratio[member][:, None] > ratio[~member]).mean() > 0.5


def test_too_few_shadows_are_refused():
    with pytest.raises(InputError, match="3 of 6 shadows"):
        likelihood_ratio(np.zeros(4), np.zeros((6, 4)), halves(6, 4, np.random.default_rng(0)))

import numpy as np
import pytest
from scipy import stats

from synthrad.metrics.coverage import manifold
from synthrad.statistics.jackknife import grouped, jackknife


def test_of_two_means_with_one_subject_a_group_it_is_the_textbook_interval():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=10), rng.normal(size=8) + 1
    value, low, high = jackknife(lambda i, j: x[i].mean() - y[j].mean(), np.arange(10), np.arange(8))
    expected = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high)) and value[0] == pytest.approx(x.mean() - y.mean())


def test_groups_hold_whole_subjects_and_are_of_equal_size():
    subjects = np.repeat(np.arange(25), 3)
    group = grouped(subjects, 10, 0)
    assert all(len(set(group[subjects == s])) == 1 for s in range(25)) and set(np.bincount(group) // 3) == {2, 3}
    assert set(grouped(np.arange(4), 10, 0)) == set(range(4))
    with pytest.raises(ValueError, match="needs 2"):
        jackknife(lambda i, j: 0.0, np.zeros(5), np.arange(5))


def test_subjects_with_many_images():
    """Repeating every image changes nothing."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=30), rng.normal(size=20)
    once = jackknife(lambda i, j: x[i].mean() - y[j].mean(), np.arange(30), np.arange(20))
    again = jackknife(lambda i, j: x.repeat(4)[i].mean() - y.repeat(4)[j].mean(), np.arange(30).repeat(4), np.arange(20).repeat(4))
    np.testing.assert_allclose(again, once)


def test_it_covers_statistics_of_nearest_neighbours():
    """Precision, recall, density, coverage of 80 and 120 images, 120 times; the truth is their mean over the draws."""
    made = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        real, drawn = rng.normal(size=(120, 6)), rng.normal(size=(80, 6)) * 0.9
        found = lambda i, j, real=real, drawn=drawn: _four(manifold(real[j], drawn[i], 5))  # noqa: E731
        made.append(jackknife(found, np.arange(80), np.arange(120)))
    made = np.array(made)  # [draws, 3, 4]
    truth = made[:, 0].mean(0)
    covered = ((made[:, 1] <= truth) & (truth <= made[:, 2])).mean(0)
    assert (covered > 0.87).all(), covered


def _four(found):
    return np.array([found.precision, found.recall, found.density, found.coverage])

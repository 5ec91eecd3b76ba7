import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize

from synthrad.metrics import novelty
from synthrad.metrics.novelty import (
    copying_test,
    fit_variances,
    likelihood_gap,
    log_likelihood,
    squared_distances,
    to_nearest,
)


def normal(n, d=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def test_distances_whatever_the_block(monkeypatch):
    x, y = normal(20) + 100, normal(13, seed=1) + 100
    expected = np.linalg.norm(x[:, None] - y, axis=2)
    np.testing.assert_allclose(np.sqrt(squared_distances(x, y)), expected, rtol=1e-9)
    monkeypatch.setattr(novelty, "ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(to_nearest(x, y), expected.min(1), rtol=1e-9)


# ---- C_T


def test_one_cell_is_the_mann_whitney_test_of_scipy():
    train, test, made = normal(60), normal(40, seed=1), normal(70, seed=2) * 1.2
    found = copying_test(train, test, made, cells=1)
    theirs = stats.mannwhitneyu(to_nearest(made, train), to_nearest(test, train), alternative="greater", method="asymptotic", use_continuity=False)
    assert stats.norm.sf(found.value) == pytest.approx(theirs.pvalue, rel=1e-9) and found.images == (70, 40) and found.share == 1


def test_cells_are_weighed_by_their_test_images():
    """Two clusters far apart, copies in one of them only."""
    place = np.r_[np.zeros(8), 1.0] * 50
    train = np.r_[np.c_[normal(60), np.zeros(60)], np.c_[normal(60, seed=3), np.zeros(60)] + place]
    test = np.r_[np.c_[normal(30, seed=1), np.zeros(30)], np.c_[normal(10, seed=4), np.zeros(10)] + place]
    made = np.r_[train[:40] + 0.01, np.c_[normal(40, seed=5), np.zeros(40)] + place]
    found = copying_test(train, test, made, cells=2)
    z = [copying_test(train, t, m, cells=1).value for t, m in ((test[:30], made[:40]), (test[30:], made[40:]))]
    assert found.value == pytest.approx(0.75 * z[0] + 0.25 * z[1]) and found.cells == 2 and z[0] < -5 < z[1]
    left_out = copying_test(train, test, made[:55], cells=2)  # 15 images in the second cell
    assert left_out.value == pytest.approx(z[0]) and (left_out.cells, left_out.share) == (1, 0.75)
    assert "has 15 synthetic images" in copying_test(train, test, made[:15], cells=1)


def test_fair_copied_and_far_sets():
    train, test, rng = normal(200), normal(90, seed=1), np.random.default_rng(2)
    fair, copies = copying_test(train, test, normal(200, seed=3)), copying_test(train, test, train[:200] + 0.3 * rng.standard_normal((200, 8)))
    far = copying_test(train, test, normal(200, seed=4) * 1.5)
    assert fair.of == 3 and fair.null_low < fair.value < fair.null_high and fair.low < fair.value < fair.high
    assert copies.high < copies.null_low and far.low > far.null_high
    assert fair == copying_test(train, test, normal(200, seed=3))


def test_interval_and_null_of_the_copying_test_hold_what_they_say():
    """100 fair sets: C_T lies within the null's 95 % as often; its mean, 0, in the interval."""
    inside, covered = [], []
    for seed in range(100):
        rows = normal(150, 4, seed=seed)
        found = copying_test(rows[:60], rows[60:90], rows[90:], cells=1, draws=200)
        inside.append(found.null_low <= found.value <= found.null_high)
        covered.append(found.low <= 0 <= found.high)
    assert 0.88 <= np.mean(inside) and 0.88 <= np.mean(covered)


# ---- the likelihood gap


def test_em_reaches_the_optimum_that_a_general_optimiser_finds():
    train, centres = normal(40, 3), normal(5, 3, seed=1)
    squares = squared_distances(train, centres)
    nll = lambda log: -log_likelihood(squares, np.exp(log), 3).sum()  # noqa: E731
    best = min(minimize(nll, start, method="BFGS").fun for start in (np.zeros(5), np.log(fit_variances(squares, 3))))
    assert nll(np.log(fit_variances(squares, 3, steps=5000))) == pytest.approx(best, rel=1e-5)


def test_likelihood_is_that_of_the_mixture_and_never_falls():
    train, centres = normal(30, 3), normal(6, 3, seed=1)
    squares, values = squared_distances(train, centres), []
    for steps in range(1, 12):
        variances = fit_variances(squares, 3, steps)
        values.append(log_likelihood(squares, variances, 3).sum())
    assert (np.diff(values) >= -1e-9).all() and values[-1] > values[0]
    direct = np.mean([stats.multivariate_normal(c, v).pdf(train) for c, v in zip(centres, variances, strict=True)], axis=0)
    np.testing.assert_allclose(log_likelihood(squares, variances, 3), np.log(direct), rtol=1e-9)


def test_copies_widen_the_gap_and_fair_sets_are_measured_as_real_ones():
    train, test, rng = normal(150), normal(80, seed=1), np.random.default_rng(2)
    who, held = np.arange(150), np.arange(80)
    gap = lambda centres: likelihood_gap(train, test, centres, who, held)  # noqa: E731
    null, fair = gap(normal(60, seed=3)), gap(normal(60, seed=4))
    half = np.r_[train[:30] + 0.05 * rng.standard_normal((30, 8)), normal(30, seed=5)]
    assert null.low < fair.value < null.high and gap(half).high < null.low and null.centres == 60
    assert gap(train[:60]).value < gap(half).value < 0  # exact copies: finite


def test_patients_not_images_are_counted():
    """Every image five times over: as many patients, so the same interval."""
    train, test, centres = normal(40), normal(30, seed=1), normal(30, seed=2)
    once = likelihood_gap(train, test, centres, np.arange(40), np.arange(30))
    again = likelihood_gap(train.repeat(5, 0), test.repeat(5, 0), centres, np.arange(40).repeat(5), np.arange(30).repeat(5))
    assert (again.value, again.low, again.high) == pytest.approx((once.value, once.low, once.high), abs=1e-3)

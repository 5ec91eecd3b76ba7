import numpy as np
import pytest
import torch
from monai.metrics import FIDMetric
from scipy.linalg import sqrtm
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from synthrad.errors import InputError
from synthrad.metrics import fidelity
from synthrad.metrics.fidelity import (
    Projection,
    by_turns,
    cubic,
    frechet_at_infinity,
    frechet_columns,
    frechet_distance,
    gaussian,
    kernel_distance,
    median_distance,
    nearest_distances,
    variety,
)


def normal(n, d, seed=0, rank=None):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, rank or d)) @ rng.normal(size=(rank or d, d)) / np.sqrt(rank or d)


def exactly(n, mean, covariance, seed):
    """Rows whose sample mean and covariance are those given."""
    rows = np.random.default_rng(seed).normal(size=(n, len(mean)))
    rows -= rows.mean(0)
    rows = rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows.T))).T
    return rows @ np.linalg.cholesky(covariance).T + mean


# ---- Frechet distance


def test_frechet_closed_forms():
    a, b = np.array([4.0, 1.0, 0.25]), np.array([1.0, 9.0, 0.25])
    x, y = exactly(50, np.zeros(3), np.diag(a), 0), exactly(80, np.array([1.0, 2.0, -2.0]), np.diag(b), 1)
    assert frechet_distance(x, y) == pytest.approx(9 + np.square(np.sqrt(a) - np.sqrt(b)).sum(), rel=1e-12)
    s, t = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.6], [-0.6, 3.0]])
    root = 2 * np.trace(sqrtm(s @ t).real)
    found = frechet_distance(exactly(40, np.zeros(2), s, 2), exactly(40, np.ones(2), t, 3))
    assert found == pytest.approx(2 + np.trace(s) + np.trace(t) - root, rel=1e-10)
    # 2 x 2: tr sqrt(M) = sqrt(tr M + 2 sqrt(det M))
    assert root == pytest.approx(2 * np.sqrt(np.trace(s @ t) + 2 * np.sqrt(np.linalg.det(s @ t))), rel=1e-10)
    assert frechet_distance(x, x + 3) == pytest.approx(27, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(20, 20), (20, 200), (200, 30), (200, 300)])
def test_few_and_many_images_agree(n, m):
    """Columns of zeros change nothing, but they turn n > d into n < d and take the other way."""
    x, y = normal(n, 40, 0, rank=12), normal(m, 40, 1, rank=12) + 0.3
    pad = lambda rows: np.hstack([rows, np.zeros((len(rows), 400))])  # noqa: E731
    assert frechet_distance(pad(x), pad(y)) == pytest.approx(frechet_distance(x, y), rel=1e-12)
    values, axes = np.linalg.eigh(np.cov(x.T))
    root = (axes * np.sqrt(values.clip(0))) @ axes.T
    inner = np.linalg.eigvalsh(root @ np.cov(y.T) @ root).clip(0)
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.var(x, 0, ddof=1).sum() + np.var(y, 0, ddof=1).sum() \
        - 2 * np.sqrt(inner).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-5)  # that form is good to 1e-8 a direction only


def test_frechet_of_a_set_with_itself_is_zero_where_variance_lacks():
    x = normal(30, 200)
    assert abs(frechet_distance(x, x[::-1])) < 1e-10


def test_frechet_as_in_torchmetrics():
    x, y = normal(500, 20, 0), normal(400, 20, 1) + 0.2
    means = [torch.from_numpy(v.mean(0)) for v in (x, y)]
    covariances = [torch.from_numpy(np.cov(v.T)) for v in (x, y)]
    theirs = _compute_fid(means[0], covariances[0], means[1], covariances[1])
    assert frechet_distance(x, y) == pytest.approx(float(theirs), rel=1e-9)


def test_frechet_as_in_monai():
    """Their test: tests/metrics/test_compute_fid_metric.py."""
    x, y = np.array([[1.0, 2], [1, 2], [1, 2]]), np.array([[2.0, 2], [1, 2], [1, 2]])
    theirs = float(FIDMetric()(torch.tensor(x), torch.tensor(y)))
    assert frechet_distance(x, y) == pytest.approx(0.4444, abs=1e-4) == pytest.approx(theirs, abs=1e-4)


def test_few_images_against_the_matrix_root_of_scipy():
    """n < d: covariances are singular, so the general root is good to some digits only."""
    x, y = normal(12, 40, 0), normal(15, 40, 1) + 0.2
    s, t = np.cov(x.T), np.cov(y.T)
    theirs = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(s + t - 2 * sqrtm(s @ t + 1e-12 * np.eye(40)).real)
    assert frechet_distance(x, y) == pytest.approx(theirs, rel=1e-4)


def test_frechet_at_infinity_takes_off_what_few_images_add():
    """True distance: 20 columns shifted by 0.1 each, 0.2. 5,000 images add about d (d + 7) / (4 n) = 0.027 (Chong and Forsyth: linear in 1 / n)."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=(60_000, 20))
    found, plain = zip(*((frechet_at_infinity(x, y, s), frechet_distance(x, y))
                         for s in range(12) for x in [rng.normal(size=(5000, 20)) + 0.1]), strict=True)
    added = np.mean(plain) - 0.2
    assert added > 0.015 and abs(np.mean(found) - 0.2) < added / 2
    for n, d in ((4999, 20), (5000, 1300)):
        with pytest.raises(InputError):
            frechet_at_infinity(np.zeros((n, d)), np.zeros((10, d)))


def test_columns_that_n_images_can_bear():
    assert [frechet_columns(n, 140) for n in (280, 279, 100, 9)] == [140, 27, 10, 0]


def test_projection_keeps_what_varies_most():
    rows = normal(60, 5, rank=2) @ np.diag([3.0, 1, 1, 1, 1]) + 7
    one, many = Projection.fit(rows, 1), Projection.fit(rows, 4)
    assert many.axes.shape == (5, 2)  # no more than the rows span
    assert many(rows).var(0, ddof=1).sum() == pytest.approx(rows.var(0, ddof=1).sum())
    assert one(rows)[:, 0].var(ddof=1) == pytest.approx(np.linalg.eigvalsh(np.cov(rows.T))[-1])


# ---- kernel distance


def test_kernel_distance_as_in_torchmetrics():
    x, y = normal(60, 15, 0), normal(60, 15, 1) + 0.1
    theirs = poly_mmd(torch.from_numpy(x), torch.from_numpy(y))
    assert kernel_distance(x, y).value == pytest.approx(float(theirs), rel=1e-10)


def slow(x, y, who_x, who_y):
    """Means over all pairs, those of one subject left out."""
    def mean(a, b, skip):
        return np.mean([(p @ q / len(p) + 1) ** 3 for i, p in enumerate(a) for j, q in enumerate(b) if not skip(i, j)])

    return mean(x, x, lambda i, j: who_x[i] == who_x[j]) + mean(y, y, lambda i, j: who_y[i] == who_y[j]) \
        - 2 * mean(x, y, lambda i, j: False)


def test_kernel_distance_and_its_error_against_loops(monkeypatch):
    monkeypatch.setattr(fidelity, "ROWS_AT_ONCE", 4)
    x, y = normal(11, 3, 0), normal(9, 3, 1) + 0.5
    who_x, who_y = np.array([*"aabcccdefgh"]), np.array([5, 5, 5, 2, 2, 7, 1, 0, 9])
    found = kernel_distance(x, y, who_x, who_y)
    assert found.value == pytest.approx(slow(x, y, who_x, who_y), rel=1e-10) and found.subjects == (8, 6)
    variance = 0.0
    for side, who in enumerate((who_x, who_y)):
        less = []
        for name in np.unique(who):
            keep = [who_x != name, np.ones(9, bool)] if side == 0 else [np.ones(11, bool), who_y != name]
            less.append(slow(x[keep[0]], y[keep[1]], who_x[keep[0]], who_y[keep[1]]))
        variance += (len(less) - 1) / len(less) * np.square(np.array(less) - np.mean(less)).sum()
    assert found.error == pytest.approx(np.sqrt(variance), rel=1e-8)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * found.error, rel=1e-6)


def subjects_with_images(rng, subjects, images, d=12):
    rows = rng.normal(size=(subjects, 1, d)) * 0.9 + rng.normal(size=(subjects, images, d)) * 0.45
    return rows.reshape(-1, d), np.repeat(np.arange(subjects), images)


def test_kernel_distance_is_unbiased_with_many_images_a_subject_and_its_interval_covers():
    """150 nulls and 150 true differences: ignoring subjects would read as a difference, the interval holds what it should."""
    rng = np.random.default_rng(0)
    nulls, naive, covered, alike = [], [], [], []
    for _ in range(150):
        (x, _), (y, who) = subjects_with_images(rng, 60, 1), subjects_with_images(rng, 30, 5)
        found = kernel_distance(x, y, None, who)
        nulls.append(found.value)
        naive.append(kernel_distance(x, y).value)
        covered.append(found.low < 0 < found.high)
        alike.append(kernel_distance(x + 0.4, y, None, who))
    standard = np.std(nulls) / np.sqrt(150)
    assert abs(np.mean(nulls)) < 4 * standard < np.mean(naive) / 4
    assert np.mean(covered) > 0.93
    values, errors = np.array([[k.value, k.error] for k in alike]).T
    assert 0.9 < np.sqrt(np.mean(errors**2)) / values.std() < 1.6  # conservative by at most sqrt(2)
    assert np.mean(np.abs(values - values.mean()) < 1.96 * errors) > 0.92


def test_resampled_draws_share_the_reference():
    rng = np.random.default_rng(1)
    x, (y, who) = rng.normal(size=(80, 12)), subjects_with_images(rng, 25, 3)
    one, near = (kernel_distance(x + shift, y, None, who) for shift in (0.4, 0.41))
    draws = one.resampled(4000, 0)
    assert draws.std() == pytest.approx(one.error, rel=0.06) and draws.mean() == pytest.approx(one.value, abs=one.error / 10)
    assert np.array_equal(draws, one.resampled(4000, 0)) and not np.array_equal(draws, one.resampled(4000, 1))
    assert (near.resampled(4000, 0) - draws).std() < 0.2 * draws.std()


def test_too_few_subjects_and_bad_rows():
    x = normal(10, 3)
    with pytest.raises(InputError, match="subjects of y: found 2"):
        kernel_distance(x, x, None, [0] * 5 + [1] * 5)
    with pytest.raises(InputError, match="one an image"):
        kernel_distance(x, x, [1, 2, 3])
    with pytest.raises(InputError, match="NaN or Inf in 1 rows"):
        frechet_distance(x, np.where(np.arange(10)[:, None] == 3, np.nan, x))
    with pytest.raises(InputError, match="3 and 2 columns"):
        frechet_distance(x, x[:, :2])


def test_kernel_is_that_of_the_paper():
    np.testing.assert_allclose(cubic(np.array([[1.0, 2.0]]), np.array([[3.0, -1.0]])), [[(0.5 + 1) ** 3]])


def test_gaussian_kernel_and_cmmd():
    """The unbiased estimator, pair by pair; the authors' biased code adds the diagonal."""
    x, y = normal(12, 6, 0), normal(9, 6, 1) + 0.3
    k = lambda a, b: np.exp(-np.square(a[:, None] - b).sum(2) / (2 * 2.5**2))  # noqa: E731
    np.testing.assert_allclose(gaussian(2.5)(x, y), k(x, y), rtol=1e-12)
    off = lambda a: (k(a, a).sum() - len(a)) / (len(a) * (len(a) - 1))  # noqa: E731
    found = kernel_distance(x, y, kernel=gaussian(2.5)).value
    assert found == pytest.approx(off(x) + off(y) - 2 * k(x, y).mean(), rel=1e-10)
    biased = k(x, x).mean() + k(y, y).mean() - 2 * k(x, y).mean()
    assert biased - found == pytest.approx((1 - off(x)) / 12 + (1 - off(y)) / 9, rel=1e-10)
    with pytest.raises(InputError):
        gaussian(0.0)


# ---- collapse


def test_nearest_distances_against_loops(monkeypatch):
    monkeypatch.setattr(fidelity, "ROWS_AT_ONCE", 3)
    x, who = normal(10, 4) + 100, np.array([0, 0, 1, 2, 3, 3, 3, 4, 5, 6])
    for given in (None, who):
        names = np.arange(10) if given is None else given
        expected = [min(np.linalg.norm(x[i] - x[j]) for j in range(10) if names[i] != names[j]) for i in range(10)]
        np.testing.assert_allclose(nearest_distances(x, given), expected, rtol=1e-9)
    assert np.isnan(nearest_distances(x, np.zeros(10))).all()


@pytest.mark.parametrize("modes", [1, 4, 16, 64])
def test_collapse_is_found_where_the_distance_of_all_pairs_misses_it(modes):
    rng = np.random.default_rng(modes)
    real = rng.normal(size=(300, 30))
    collapsed = rng.normal(size=(modes, 30))[rng.integers(0, modes, 300)] + 0.1 * rng.normal(size=(300, 30))
    found = variety(collapsed, real)
    assert found.ratio < 0.3 and found.images == 300
    if modes > 1:
        assert median_distance(collapsed) > 0.7 * median_distance(real)


def test_healthy_sets_raise_no_alarm():
    """20 sets, narrower or wider than the real one by a third, of another size."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 30))
    ratios = [variety(rng.normal(size=(300, 30)) * scale, real).ratio for scale in np.linspace(0.75, 1.5, 20)]
    assert min(ratios) > 0.65 and max(ratios) < 1.15


def test_collapse_far_from_the_real_images_is_found():
    """All distances are 5 times the real ones, also those between samples of one mode: relative to the spread they are small."""
    rng = np.random.default_rng(0)
    real, modes = rng.normal(size=(300, 30)), rng.normal(size=(32, 30))
    found = variety(5 * (modes[rng.integers(0, 32, 300)] + 0.25 * rng.normal(size=(300, 30))), real)
    assert found.nearest > 1 and found.ratio < 0.5


def test_real_images_of_one_subject_are_no_neighbours():
    rng = np.random.default_rng(0)
    real, who = subjects_with_images(rng, 60, 4, 30)
    samples = rng.normal(size=(240, 30))
    assert variety(samples, real).ratio > 1.2 > variety(samples, real, who).ratio > 0.8
    assert np.isnan(variety(samples, np.zeros((240, 30))).ratio)


def test_turns():
    subjects = np.array([*"aaaaabbc"])
    order = by_turns(subjects, 0)
    assert sorted(order) == list(range(8)) and set(subjects[order[:3]]) == set("abc") and set(subjects[order[3:5]]) == set("ab")
    assert np.array_equal(order, by_turns(subjects, 0)) and not np.array_equal(order, by_turns(subjects, 1))

import numpy as np
import pytest

from synthrad.errors import InputError
from synthrad.metrics import coverage
from synthrad.metrics.coverage import manifold, vendi


def slow(real, generated, k):
    """By the definitions, pair by pair."""
    far = lambda a, b: np.linalg.norm(a[:, None] - b[None], axis=2)  # noqa: E731
    radius = lambda x: np.sort(far(x, x), 1)[:, k]  # noqa: E731  the 0-th is itself
    across, ours, theirs = far(real, generated), radius(real), radius(generated)
    inside = across < ours[:, None]
    return inside.any(0).mean(), (across < theirs).any(1).mean(), inside.sum(0).mean() / k, (across.min(1) < ours).mean()


@pytest.mark.parametrize("k", [1, 3, 5])
def test_equals_the_definitions_whatever_the_block(k, monkeypatch):
    rng = np.random.default_rng(k)
    real, generated = rng.standard_normal((40, 6)) + 5, 0.8 * rng.standard_normal((25, 6)) + 5.2
    for rows in (1024, 7):
        monkeypatch.setattr(coverage, "ROWS_AT_ONCE", rows)
        found = manifold(real, generated, k)
        assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(slow(real, generated, k))
        assert found.images == (40, 25)


def test_collapse_lowers_coverage_and_recall_and_not_precision():
    rng = np.random.default_rng(0)
    real, fair = rng.standard_normal((400, 4)), rng.standard_normal((400, 4))
    modes = np.repeat(rng.standard_normal((8, 4)), 50, 0) + 0.01 * rng.standard_normal((400, 4))
    good, bad = manifold(real, fair), manifold(real, modes)
    assert bad.coverage < 0.3 < 0.9 < good.coverage and bad.recall < 0.2 < good.recall and bad.precision > 0.6


@pytest.mark.slow
def test_agrees_with_the_published_gaussian_case():
    """The README of prdc (Naeem et al.): 10,000 images a side in 1,000 dimensions, k = 5, one unseeded draw of theirs. Over five seeds
    precision was 0.456 to 0.497, density 0.91 to 1.07, coverage 0.956 to 0.974: hubs of high dimensions differ from draw to draw."""
    rng = np.random.default_rng(0)
    found = manifold(rng.standard_normal((10_000, 1000)), rng.standard_normal((10_000, 1000)), 5)
    assert (found.precision, found.recall, found.coverage) == pytest.approx((0.4772, 0.4705, 0.9735), abs=0.03)
    assert found.density == pytest.approx(1.0555, abs=0.15)


def test_vendi_counts_different_images():
    assert vendi(np.eye(6)) == pytest.approx(6) and vendi(np.ones((6, 3))) == pytest.approx(1)
    assert vendi(np.repeat(np.eye(3), 4, 0)) == pytest.approx(3)
    rows = np.random.default_rng(0).standard_normal((30, 50))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    shares = np.linalg.eigvalsh(unit @ unit.T / 30)
    assert vendi(rows) == pytest.approx(np.exp(-(shares * np.log(shares)).sum())) == vendi(np.c_[rows, np.zeros((30, 9))])


@pytest.mark.parametrize(("real", "generated", "k"), [((5, 2), (5, 3), 1), ((5, 2), (5, 2), 5), ((5, 2), (5, 2), 0), ((5,), (5, 2), 1)])
def test_what_cannot_be_compared(real, generated, k):
    with pytest.raises(InputError):
        manifold(np.zeros(real), np.zeros(generated), k)

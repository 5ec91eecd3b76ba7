"""Sign flips against SciPy's permutation test, by hand, and how often they find what is not there."""

import numpy as np
import pytest
from scipy import stats

from synthrad.errors import InputError
from synthrad.statistics.permutations import sign_flip, signs_of, swap_test


def test_by_hand_and_against_scipy():
    assert sign_flip(np.array([1.0, 2.0, 3.0]), "seeds").p == 1 / 8  # only the true signs give 6
    assert sign_flip(np.array([1.0, 2.0, 3.0, -1.0, -2.0]), "seeds").smallest == 1 / 32
    x = np.random.default_rng(0).normal(0.4, 1, 11)
    found = sign_flip(x, "subjects")
    expected = stats.permutation_test((x,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf)
    assert found.exact and found.assignments == 2**11 and found.p == pytest.approx(expected.pvalue)


def test_many_subjects_are_drawn_and_agree_with_the_exact_p():
    x = np.random.default_rng(1).normal(0.25, 1, 14)
    exact, drawn = sign_flip(x, "subjects"), (np.vstack([np.ones(14), 1 - 2.0 * np.random.default_rng(2).integers(0, 2, (9999, 14))]) @ x)
    assert exact.p == pytest.approx((drawn >= drawn[0]).mean(), abs=0.015)
    many = sign_flip(np.random.default_rng(1).normal(0.05, 1, 200), "subjects")
    assert not many.exact and many.assignments == 10_000 and many.smallest == 1e-4
    normal = stats.ttest_1samp(np.random.default_rng(1).normal(0.05, 1, 200), 0, alternative="greater").pvalue
    assert many.p == pytest.approx(normal, abs=0.02) and sign_flip(np.random.default_rng(1).normal(0.05, 1, 200), "subjects") == many


def test_signs_hold_the_true_ones_first_and_each_once():
    signs, exact = signs_of(6)
    assert exact and (signs[0] == 1).all() and len(np.unique(signs, axis=0)) == 64


def auc(scores, target):
    n, m = target.sum(), (~target).sum()
    return (stats.rankdata(scores)[target].sum() - n * (n + 1) / 2) / (n * m)


def test_swapped_answers_of_a_set_metric():
    rng = np.random.default_rng(3)
    subject, target = np.repeat(np.arange(30), 2), np.repeat(rng.random(30) < 0.5, 2)
    base = rng.normal(target * 1.0, 1)
    better, same = (np.array([stats.rankdata(base + gain * target + rng.normal(0, 0.3, 60)) for _ in range(5)]) for gain in (1.5, 0.0))
    reference = np.array([stats.rankdata(base + rng.normal(0, 0.3, 60)) for _ in range(5)])
    score = lambda s: auc(s, target)  # noqa: E731
    found = swap_test(better, reference, subject, score, "subjects", permutations=299)
    assert found.p == pytest.approx(1 / 300) and not found.exact and "other patients" in found.assumes
    assert swap_test(better, reference, subject, score, "seeds").p == 1 / 32
    assert swap_test(same, reference, subject, score, "subjects", permutations=299).p > 0.05
    assert swap_test(reference, reference, subject, score, "subjects", permutations=99).p == 1.0  # all ties count


def test_false_finds():
    """Exact under their own assumption; a test over subjects alone finds too much where seeds matter, and `both` does not."""
    rng, hits, tables = np.random.default_rng(4), np.zeros(3), 600
    for _ in range(tables):
        d = rng.normal(0, 0.02, (5, 1)) + rng.normal(0, 0.04, (1, 40)) + rng.normal(0, 0.04, (5, 40))
        p = [sign_flip(d.mean(0), "subjects", 199).p, sign_flip(d.mean(1), "seeds").p]
        hits += np.array([*p, max(p)]) <= 0.05
    share = hits / tables
    assert share[0] > 0.1 and share[1] <= 0.08 and share[2] <= 0.07, share
    flat = [sign_flip(rng.normal(0, 1, 20), "subjects", 199).p <= 0.05 for _ in range(600)]
    assert 0.03 <= np.mean(flat) <= 0.075


def test_bad_input():
    with pytest.raises(InputError, match="images"):
        sign_flip(np.ones(3), "images")
    with pytest.raises(InputError, match="all finite: False"):
        sign_flip(np.array([np.nan, 1.0]), "seeds")

"""Source shortcut on features whose truth the test gives."""

import numpy as np
import pytest

from synthrad.metrics.shortcut import (
    ALL,
    Shortcut,
    prevalence_test,
    ridge_scores,
    shortcuts,
    told,
    told_apart,
)

RNG = np.random.default_rng(0)


def sets(mark=0.0, share=0.5, n=120, m=80):
    """Features of real images, two a patient, and of synthetic ones that are moved by `mark`; labels of one class."""
    rng = np.random.default_rng(1)
    patient = rng.standard_normal((n // 2, 12)).repeat(2, 0)
    real, drawn = patient + 0.3 * rng.standard_normal((n, 12)), 1.04 * rng.standard_normal((m, 12)) + mark
    return real, drawn, np.tile([[1.0], [1.0], [0.0], [0.0]], (n // 4, 1)), (np.arange(m) < share * m).astype(float)[:, None], ["caries"], np.repeat(np.arange(n // 2), 2)


def test_a_mark_of_the_source_is_seen_and_its_absence_is_not():
    marked, clean = shortcuts(*sets(mark=2.0)), shortcuts(*sets())
    assert [r.name for r in marked] == [ALL, "caries"]
    assert all(r.auc > 0.98 and r.seen and 0.3 < r.null < 0.7 for r in marked)
    assert all(0.3 < r.auc < 0.7 and not r.seen for r in clean)
    assert Shortcut.from_dict(clean[0].to_dict()).to_dict() == clean[0].to_dict() and "halves of real" in told(clean)


def test_one_image_of_a_patient_does_not_give_the_other_away():
    """Subjects that were split over folds would be recognised: the label is a coin thrown for each patient."""
    real, _, _, _, _, subjects = sets()
    coin = np.random.default_rng(3).random(60)[subjects] < 0.5
    found = told_apart(real, coin, subjects)
    assert found.low < 0.5 < found.high


def test_a_class_that_is_rarer_among_real_images_is_a_warning_only_where_the_source_is_seen():
    warned = shortcuts(*sets(mark=2.0, share=0.95))
    assert "95% of the synthetic images and 50% of the real" in warned[1].warning and "WARNING caries" in told(warned)
    assert not shortcuts(*sets(mark=2.0))[1].warning and not shortcuts(*sets(share=0.95))[1].warning


def test_ridge_is_the_closed_form_and_prevalence_counts_patients():
    x, z = RNG.standard_normal((40, 5)), RNG.standard_normal((10, 5))
    y = x[:, 0] + 0.1 * RNG.standard_normal(40) > 0
    scores = ridge_scores(x, y, z)
    assert np.corrcoef(scores, z[:, 0])[0, 1] > 0.9
    source = np.arange(200) >= 100
    once, label = np.arange(200), np.r_[np.arange(100) < 30, np.arange(100) < 55].astype(float)
    share_real, share_drawn, p = prevalence_test(label, source, once)
    pooled = 0.425
    z2 = (0.25 / np.sqrt(pooled * (1 - pooled) * 2 / 100)) ** 2
    assert (share_real, share_drawn) == (0.3, 0.55) and p == pytest.approx(__import__("scipy.stats").stats.chi2.sf(z2, 1), rel=0.1)
    patients = np.r_[np.repeat(np.arange(10), 10), 100 + np.arange(100)]  # ten patients say less than a hundred
    assert prevalence_test(label, source, patients)[2] > 3 * p


def test_too_few_are_no_comparison():
    row = shortcuts(*sets(n=36))[0]
    assert "needs 20 real patients and 20 synthetic images, has 18 and 80" in row.reason and not row.seen

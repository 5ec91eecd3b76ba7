"""Patients, strata and the self-test, in a space whose scores the test gives."""

import numpy as np
import torch

from synthrad.audit import copying
from synthrad.audit.copying import Subjects, copy_rung
from synthrad.audit.leaks import BEYOND, WITHIN
from synthrad.audit.rungs import judge


class Given:
    """Scores of real images; a planted copy scores `copy` on its own image."""

    name, claims = "given", ("exact",)

    def __init__(self, scores, copy):
        self.scores, self.copy = np.asarray(scores, float), copy

    def best(self):
        return self.scores, np.zeros(len(self.scores), int), self.scores

    def planted(self, leak, chosen):
        return [{int(i): self.copy} for i in chosen]


def rung_of(counts, members, copy=20.0, lifted=()):
    """Patients with so many images each, the first `members` of them trained on; `lifted` patients score 20."""
    subject = np.repeat(np.arange(len(counts)), counts)
    scores = np.random.default_rng(0).gumbel(size=len(subject))
    scores[np.isin(subject, lifted)] = 20
    return judge([copy_rung(Given(scores, copy), Subjects(subject, subject < members), rungs=1, trials=20)[0]])[0]


def test_a_copy_is_found_and_its_absence_is_a_pass():
    assert rung_of([1] * 100, 60).verdict == "pass" and rung_of([1] * 100, 60, lifted=[3]).verdict == "fail"
    assert set(rung_of([1] * 100, 60).power) == {*WITHIN, *BEYOND}


def test_copies_that_would_not_be_seen_are_no_pass():
    weak = rung_of([1] * 100, 60, copy=-5.0)
    assert weak.verdict == "inconclusive" and "planted as exact copies" in weak.reason


def test_patients_with_more_images_than_any_test_patient_are_not_passed_over():
    made = rung_of([1] * 60 + [3] * 20 + [1] * 40, 80, lifted=range(60, 80))
    assert made.verdict == "inconclusive" and "20 training patients were not compared" in made.reason
    assert made.facts["members"] == 60 and made.facts["highest_member"] < 20


def test_feature_distances_in_blocks_are_those_at_once(monkeypatch):
    torch.manual_seed(0)
    space = copying.FeatureSpace("copies/features", torch.rand(23, 1, 16, 16) * 2 - 1, torch.rand(9, 1, 16, 16) * 2 - 1, 0)
    whole = space.best()
    monkeypatch.setattr(copying, "DRAWN_AT_ONCE", 4)
    for mine, theirs in zip(space.best(), whole, strict=True):
        np.testing.assert_allclose(mine, theirs)
    assert whole[1].max() > 4 and (whole[2] == space._distances(space._synthetic).min(1)).all()

"""Are patients recognised who were drawn again, and strangers not?"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_pictures import manifest

from synthrad.audit import judges
from synthrad.audit.reidentification import make_verifier, reidentification_rung, verification_auc, why_not
from synthrad.audit.rungs import judge
from synthrad.audit.sides import Sides, Witnesses
from synthrad.data.phantom import draw_phantom
from synthrad.metrics.adherence import Resampled


def phantoms(first, patients, images=2, pose=0):
    drawn = [draw_phantom(3, first + 1000 * (pose + j) + s, (48, 64), subject=first + s).image for s in range(patients) for j in range(images)]
    return torch.from_numpy(np.stack(drawn)).float()[:, None] / 127.5 - 1, [first + s for s in range(patients) for _ in range(images)]


@pytest.fixture(scope="module")
def patients():
    (taught, who), (members, m), (others, o), (strangers, _) = phantoms(0, 30), phantoms(10_000, 36), phantoms(20_000, 30), phantoms(30_000, 40, 1)
    rows = manifest(m + o, ["train"] * len(m) + ["test"] * len(o))
    sides = lambda drawn: Sides(drawn, torch.cat([members, others]), None, None, np.zeros(0, int), np.zeros(0, int), rows, manifest(range(len(drawn))), None, rows[:0], "",  # noqa: E731
                                Witnesses(manifest(who), taught, None, np.zeros(0, int)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judges, "STEPS", 120)
        verifier = make_verifier(sides(strangers))
    return sides, verifier, strangers


def test_patients_drawn_again_are_recognised_and_strangers_are_not(patients):
    sides, verifier, strangers = patients
    assert verifier.auc.low > 0.9 and verifier.patients == 66
    clean, found = reidentification_rung(sides(strangers), verifier, rungs=1, trials=20)
    clean = judge([clean])[0]
    assert clean.verdict in ("pass", "inconclusive") and clean.power["exact"][5] == 1 and 0 <= clean.power["another image"][5] < 1
    assert "real pairs of 66 patients" in clean.reason and len(found.scores) == 66
    again, _ = phantoms(10_000, 36, 1, pose=5)  # the same patients in another pose
    leaking = judge([reidentification_rung(sides(torch.cat([strangers, again])), verifier, rungs=1, trials=20)[0]])[0]
    assert leaking.verdict == "fail" and leaking.facts["auc"] > 0.7


def test_a_verifier_that_knows_nobody_tests_nothing(patients):
    sides, verifier, strangers = patients
    lame = replace(verifier, auc=Resampled(0.6, 0.5, 0.7))
    rung, found = reidentification_rung(sides(strangers), lame, rungs=1)
    assert rung.p is None and found is None and rung.reason.startswith("verifier's AUC is 0.60 [0.50, 0.70]") and "which has 30" in rung.reason
    few = sides(strangers)
    few = replace(few, witnesses=None)
    assert why_not(few) == "needs 10 patients with two images in the split audit, has 0"


def test_verification_auc_counts_patients():
    scores = np.full((5, 5), 0.0)
    scores[0, 1] = scores[1, 0] = 1.0  # patient a is found, patient b is not, c has one image
    scores[2, 3] = scores[3, 2] = -1.0
    auc, n = verification_auc(scores, np.array(["a", "a", "b", "b", "c"]))
    assert n == 2 and auc.value == pytest.approx(0.5) and (auc.low, auc.high) == (0.0, 1.0)

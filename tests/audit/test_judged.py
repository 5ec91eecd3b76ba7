"""Judges of an audit and what they say, on phantoms and pictures whose truth is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from synthrad.audit import judges
from synthrad.audit.adherence import adherence, dice, told
from synthrad.audit.attributes import attribute_rung
from synthrad.audit.judges import Classifier, Segmenter, Target, targets_of
from synthrad.audit.reidentification import make_verifier, reidentification_rung, verification_auc, why_not
from synthrad.audit.rungs import judge
from synthrad.audit.sides import Sides, Witnesses
from synthrad.data.phantom import draw_phantom
from synthrad.metrics.adherence import Resampled
from synthrad.records import DatasetInfo, Manifest

MEMBERS, OTHERS = 50, 30


def manifest(subjects, split="", **columns):
    classes = tuple(c[6:] for c in columns if c.startswith("label:"))
    attributes = tuple(c[10:] for c in columns if c.startswith("attribute:"))
    layers = {"blob": ("blob",)}
    table = pd.DataFrame({"subject": [str(s) for s in subjects], "split": split, **columns})
    return Manifest(table, DatasetInfo("t", "t", classes, layers, attributes=attributes))


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


def textures(seed, n, bright=None):
    """Smooth noise; a bright square in the middle where asked."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(-0.6, 0.2, (n, 1, 8, 8)).astype(np.float32))
    images = torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear")
    masks = -torch.ones_like(images)
    if bright is not None:
        at = np.flatnonzero(np.asarray(bright) == 1)
        for k in at:
            y, x = rng.integers(4, 16, 2)
            images[k, :, y : y + 12, x : x + 12] += 0.8
            masks[k, :, y : y + 12, x : x + 12] = 1
    return images.clamp(-1, 1), masks


def coins(seed, n):
    return np.random.default_rng(seed).integers(0, 2, n).astype(float)


class Ignorant:
    """A judge that says one half of everything."""

    def __init__(self, targets):
        self.targets = targets

    def __call__(self, images):
        return np.full((len(images), len(self.targets)), 0.5)


def hidden(copies=0, own=True):
    """Values that no picture shows; `copies` training images in the set, with their own values or with others."""
    n = MEMBERS + OTHERS
    real, _ = textures(1, n)
    values = {f"label:{c}": coins(k, n) for k, c in enumerate("abc")} | {"attribute:sex": np.where(coins(9, n) == 1, "F", "M")}
    drawn, _ = textures(2, 60)
    carried = {f"label:{c}": coins(20 + k, 60) for k, c in enumerate("abc")} | {"attribute:sex": np.where(coins(29, 60) == 1, "F", "M")}
    drawn[:copies] = real[:copies]
    for name, column in carried.items():
        mine = values[name][:copies]
        wrong = np.where(mine == "F", "M", "F") if name == "attribute:sex" else 1 - mine
        column[:copies] = mine if own else wrong
    rows = manifest(range(n), ["train"] * MEMBERS + ["test"] * OTHERS, **values)
    audit = manifest(range(900, 940), "audit", **{k: v[:40] for k, v in values.items()})
    return Sides(drawn, real, None, None, np.arange(n), np.arange(60), rows, manifest(range(60), **carried), None, rows[:0], "", Witnesses(audit, textures(3, 40)[0], None, np.zeros(0, int)))


def inferred(sides):
    return judge([attribute_rung(sides, Ignorant(targets_of(sides)), rungs=1, trials=20)[0]])[0]


def test_values_of_copied_patients_are_a_leak_and_nothing_else_is():
    clean, leaking = inferred(hidden()), inferred(hidden(copies=8))
    assert clean.verdict == "pass" and clean.power["exact"][5] == 1
    assert leaking.verdict == "fail" and {t["name"] for t in leaking.facts["targets"]} == {"a", "b", "c", "sex=F"}
    assert inferred(hidden(copies=8, own=False)).verdict != "fail"  # the images leak, what they say of their patients is wrong


def test_what_cannot_be_inferred_is_said():
    sides = hidden()
    assert attribute_rung(replace(sides, witnesses=None), None, rungs=1)[0].reason == "needs 20 patients in the split audit, has 0"
    bare = replace(sides, drawn=manifest(range(60)))
    assert attribute_rung(bare, None, rungs=1)[0].reason.startswith("needs a label or attribute")


def test_targets_of_attributes_and_labels():
    rows = manifest(range(3), **{"label:x": [1.0, np.nan, 0.0], "attribute:view": ["PA", "", "AP"]})
    assert list(np.nan_to_num(Target("label", "x", "label:x").of(rows), nan=9)) == [1, 9, 0]
    assert list(np.nan_to_num(Target("attribute", "view=AP", "attribute:view", "AP").of(rows), nan=9)) == [0, 9, 1]


@pytest.fixture(scope="module")
def shown():
    """A label that is a bright square, with its mask; 30 audit, 30 test and 60 synthetic images."""
    asked = {k: coins(50 + i, n) for i, (k, n) in enumerate({"audit": 40, "real": 60, "drawn": 60}.items())}
    pictures = {k: textures(60 + i, len(v), v) for i, (k, v) in enumerate(asked.items())}
    rows = manifest(range(60), ["train"] * 30 + ["test"] * 30, **{"label:bright": asked["real"], "label:rare": np.r_[np.ones(2), np.zeros(58)]})
    audit = manifest(range(900, 940), "audit", **{"label:bright": asked["audit"], "label:rare": np.r_[np.ones(2), np.zeros(38)]})
    drawn = manifest(range(60), **{"label:bright": asked["drawn"], "label:rare": coins(70, 60)})
    sides = Sides(pictures["drawn"][0], pictures["real"][0], pictures["drawn"][1], pictures["real"][1], np.arange(60), np.arange(60), rows, drawn, None, rows[:0], "",
                  Witnesses(audit, *pictures["audit"], np.arange(40)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judges, "STEPS", 80)
        target = Target("label", "bright", "label:bright")
        return sides, Classifier(sides.witnesses, [target]), Segmenter(sides.witnesses)


def test_true_conditions_come_near_the_ceiling_and_exchanged_ones_to_the_floor(shown):
    sides, classifier, segmenter = shown
    found = {a.name: a for a in adherence(sides, classifier, segmenter)}
    bright, rare, blob = found["bright"], found["rare"], found["blob"]
    assert bright.value > 0.95 and bright.ceiling > 0.95 and abs(bright.floor - 0.5) < 0.1 and bright.low <= bright.value <= bright.high
    assert blob.value > blob.ceiling_low and blob.low > blob.floor
    assert rare.reason == "needs 5 audit subjects with and without it, has 2 and 38"
    assert "not tested: needs 5 audit subjects" in told([a.to_dict() for a in found.values()])
    turned = np.random.default_rng(0).permutation(60)
    wrong = replace(sides, synthetic=sides.synthetic[torch.from_numpy(turned)])
    found = {a.name: a for a in adherence(wrong, classifier, segmenter)}
    assert abs(found["bright"].value - 0.5) < 0.2 and found["blob"].value < blob.low and found["bright"].ceiling == bright.ceiling


def test_too_small_an_audit_split_is_said(shown):
    sides, _, _ = shown
    w = sides.witnesses
    small = replace(sides, witnesses=Witnesses(w.rows.take(range(12)), w.images[:12], w.masks[:12], np.arange(12)))
    assert told(adherence(small, None, None)) == "adherence: not tested: needs 20 audit subjects, has 12"


def test_dice_of_masks():
    one = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    one[0, 0, :2] = True
    assert dice(one, one)[0, 0] == 1 and np.isnan(dice(one, one)[1, 0]) and dice(one, ~one)[0, 0] == 0

"""Judges of an audit say how well a set shows what it carries, beside ceiling and floor."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_pictures import coins, manifest, textures

from synthrad.audit import judges
from synthrad.audit.adherence import adherence, dice, told
from synthrad.audit.judges import Classifier, Segmenter, Target
from synthrad.audit.sides import Sides, Witnesses


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

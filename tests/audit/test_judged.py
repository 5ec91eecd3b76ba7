"""Which judges an audit has, what they are asked of each set, and the source shortcut of training images alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from known_pictures import manifest, textures

from synthrad.audit import judged
from synthrad.audit.judged import Jury, source_shortcut, told
from synthrad.audit.rungs import Rung
from synthrad.audit.sides import Sides, Witnesses

NONE = np.zeros(0, int)


@pytest.fixture
def fitted(monkeypatch):
    """What each judge was fitted to; the fits themselves have their own tests."""
    made = {}

    class Noted:
        def __init__(self, name, *given):
            made[name] = given

    for name in ("Classifier", "Segmenter", "make_verifier"):
        monkeypatch.setattr(judged, name, lambda *given, name=name: Noted(name, *given))
    return made


def sides_of(witnesses=20, masked=0, images=1, **labels):
    """40 training and test patients with two images each; witnesses with so many images each, the first of whom have masks."""
    who = np.repeat(np.arange(900, 900 + witnesses), images)
    columns = {f"label:{c}": np.asarray(v, float) for c, v in labels.items()}
    real, drawn = textures(0, 80)[0], textures(1, 30)[0]
    rows = manifest(np.arange(80) // 2, ["train"] * 40 + ["test"] * 40, **{k: np.arange(80) % 2.0 for k in columns})
    masks = textures(0, 80)[1], textures(1, 30)[1], textures(2, masked)[1]
    known = masks if masked else (None,) * 3
    made = manifest(range(30), **{k: np.arange(30) % 2.0 for k in columns})
    heard = Witnesses(manifest(who, "audit", **columns), textures(2, len(who))[0], known[2], np.arange(masked))
    return Sides(drawn, real, known[1], known[0], np.arange(80), np.arange(30), rows, made, None, rows[:0], "", heard)


def test_a_label_is_judged_if_five_patients_have_it_and_five_lack_it(fitted):
    has = lambda n: np.arange(20) < n  # noqa: E731
    sides = sides_of(a=has(5), b=has(4), c=has(15), d=has(16), e=np.where(np.arange(20) < 11, np.nan, has(15)))
    jury = Jury(sides, 3)
    witnesses, targets, seed = fitted["Classifier"]
    assert jury.classifier is not None and witnesses is sides.witnesses and [t.name for t in targets] == ["a", "c"] and seed == 3
    assert jury.segmenter is None and jury.verifier is None and set(fitted) == {"Classifier"}
    assert Jury(sides_of(b=has(4))).classifier is None


def test_images_of_one_patient_count_once(fitted):
    four = np.repeat(np.arange(20) < 4, 3)  # 12 images of 4 patients
    assert Jury(sides_of(images=3, a=four)).classifier is None


def test_twenty_witnesses_are_needed_and_twenty_with_masks_for_a_segmenter(fitted):
    label = lambda n: {"a": np.arange(n) % 2}  # noqa: E731
    few = Jury(sides_of(19, 19, **label(19)))
    assert (few.classifier, few.segmenter) == (None, None) and not fitted
    assert Jury(sides_of(20, 19, **label(20))).segmenter is None
    both = Jury(sides_of(20, 20, **label(20)), 5)
    assert both.segmenter is not None and fitted["Segmenter"][1] == 5
    assert Jury(replace(sides_of(20, 20, **label(20)), witnesses=None)).classifier is None


def test_a_verifier_is_made_of_patients_with_two_images_each(fitted):
    sides = sides_of(30, images=2)
    jury = Jury(sides, 7)
    assert jury.verifier is not None and fitted["make_verifier"] == (sides, 7)
    assert Jury(sides_of(30)).verifier is None  # with one image each


def test_both_rungs_are_made_of_each_set_and_searches_kept_by_name(fitted, monkeypatch):
    asked = {}

    def rung(name, found):
        def make(sides, judge, suffix, **how):
            asked[name] = sides, judge, how
            return Rung(name + suffix), found
        return make

    monkeypatch.setattr(judged, "reidentification_rung", rung("re-identification", None))
    monkeypatch.setattr(judged, "attribute_rung", rung("attributes", "a search"))
    sides, whole = sides_of(a=np.arange(20) % 2), sides_of(a=np.arange(20) % 2)
    jury = Jury(sides, 3)
    rungs, searches = jury.rungs(whole, " of the whole draw", rungs=9, trials=2)
    assert [r.name for r in rungs] == ["re-identification of the whole draw", "attributes of the whole draw"] and searches == {rungs[1].name: "a search"}
    assert asked["attributes"] == (whole, jury.classifier, {"rungs": 9, "seed": 3, "trials": 2}) and asked["re-identification"] == (whole, None, {"rungs": 9, "seed": 3, "trials": 2})
    assert len(rungs) == judged.RUNGS


def test_rungs_that_cannot_be_tested_say_why_and_have_no_search():
    rungs, searches = Jury(sides_of(5)).rungs(sides_of(5), rungs=2)
    assert [r.name for r in rungs] == ["re-identification", "attributes"] and all(r.reason.startswith("needs ") and r.p is None for r in rungs) and searches == {}


def apart(patients, **labels):
    """Training images like those of the set, test images unlike both, twice as many images as patients."""
    train, test, drawn = textures(0, 40)[0], -textures(1, 40)[0], textures(2, 40)[0]
    columns = {f"label:{c}": np.asarray(v, float) for c, v in labels.items()}
    order = np.random.default_rng(0).permutation(80)  # sides come in the manifest's order
    rows = manifest(np.concatenate([np.arange(40) % patients, 100 + np.arange(40)]), ["train"] * 40 + ["test"] * 40, **columns).take(order)
    made = manifest(range(40), **{k: np.zeros(40) for k in columns})
    return Sides(drawn, torch.cat([train, test])[torch.from_numpy(order)], None, None, NONE, NONE, rows, made, None, rows[:0], "")


def test_the_source_is_told_from_training_images_and_their_own_labels():
    found = source_shortcut(apart(40, a=np.r_[np.ones(10), np.zeros(30), np.ones(40)]))
    assert [s.name for s in found] == ["all images", "a"] and (found[0].real, found[0].synthetic) == (40, 40)
    assert 0.2 < found[0].auc < 0.8 and not found[0].seen  # test patients' images would be told from the set without fail
    assert (found[1].share_real, found[1].share_synthetic) == (0.25, 0.0)
    assert source_shortcut(apart(19))[0].reason == "needs 20 real patients and 20 synthetic images, has 19 and 40"


def test_sections_are_plain_data_and_told_one_after_the_other():
    sides = apart(40, a=np.arange(80) % 2)
    found = Jury(sides).sections(sides)
    assert found["adherence"] == "needs 20 audit subjects, has 0" and json.loads(json.dumps(found, allow_nan=False)) == found
    first, second = told(found)
    assert first == "adherence: not tested: needs 20 audit subjects, has 0" and second.startswith("source, seen by features") and "\na " in second

"""Attacks on patients whose scores, images or generators are known."""

from dataclasses import replace

import numpy as np
import pytest

from synthrad.audit.membership import Patients, attack
from synthrad.audit.rungs import Rung, judge
from synthrad.statistics.exchangeability import Exchange


def test_an_attack_is_judged_by_patient_and_within_strata():
    rng = np.random.default_rng(0)
    member, images = np.arange(150) < 90, rng.integers(1, 3, 150)
    scores = rng.normal(size=150) + 5 * images  # more images, higher scores: that is no membership
    blind = attack(scores, Exchange(member, images))
    assert blind.auc[1] < 0.5 < blind.auc[2] and blind.result.combined > 0.05 and blind.found.low < 10 / 60
    seen = attack(scores + 2 * member, Exchange(member, images))
    assert seen.auc[1] > 0.8 and seen.result.combined < 0.01 and seen.found.low > 0.5 and seen.auc[0] > blind.auc[0]
    few = attack(scores + 8 * (np.arange(150) < 20), Exchange(member, images))  # 20 of 90 for sure, the rest by chance
    assert few.auc[0] < 0.68 and few.found.rate > 0.2 and few.result.combined < 0.05
    assert "90 training and 60 test patients" in seen.said and seen.facts["auc"][0] == pytest.approx(seen.auc[0], abs=1e-4)


def test_patients_are_means_of_their_images_and_those_without_counterparts_are_told():
    subject = np.array(["a", "b", "a", *(f"m{i}" for i in range(25)), *(f"t{i}" for i in range(25)), "c", "c", "c"])
    member = np.array([s[0] in "abcm" for s in subject])
    patients = Patients(subject, member)
    gathered = dict(zip(patients.names, patients.gather(np.arange(len(subject), dtype=float)), strict=True))
    assert gathered["a"] == 1 and gathered["b"] == 1 and gathered["c"] == 54 and patients.left_out == 2  # a and c


def test_planted_patients_are_seen_where_they_stand_out_and_not_where_they_do_not():
    rng = np.random.default_rng(1)
    patients = Patients(np.arange(120), np.arange(120) < 80)
    scores, ones = rng.normal(size=120), np.ones(25, int)
    assert patients.planted(scores, rng.normal(3, 1, 25), ones, 0.01, 0) and not patients.planted(scores, rng.normal(0, 1, 25), ones, 0.01, 0)


def test_a_verdict_says_how_patients_were_planted():
    rung = Rung("membership/denoising", 0.5, power={"overfitted": {20: 0.5}}, claims=("overfitted",), planted=20, planting="learned by heart", auc=(0.5, 0.45, 0.55))
    said = judge([rung])[0]
    assert said.verdict == "inconclusive" and "20 patients learned by heart it would have seen 50%" in said.reason
    assert judge([replace(rung, power={"overfitted": {20: 1.0}})])[0].verdict == "pass" and Rung.from_dict(said.to_dict()) == said

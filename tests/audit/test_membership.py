"""Attacks on patients whose scores, images or generators are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from synthrad.audit.leaks import plant
from synthrad.audit.membership import Patients, attack
from synthrad.audit.membership_nearest import NearestSpace, edges, nearest_rung
from synthrad.audit.rungs import Rung, judge
from synthrad.audit.sides import Sides
from synthrad.data.phantom import draw_phantom
from synthrad.statistics.exchangeability import Exchange


def phantoms(first, number):
    return torch.from_numpy(np.stack([draw_phantom(4, first + k, (32, 48)).image for k in range(number)])).float()[:, None] / 127.5 - 1


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


def test_edges_keep_what_lies_where_and_not_how_bright_it_is():
    images = phantoms(0, 6)
    found = edges(images)
    assert torch.allclose(found.square().sum(1), torch.ones(6), atol=1e-4)
    assert torch.allclose(edges(images * 0.5 - 0.2), found, atol=1e-3)
    assert ((found @ edges(plant("blurred", images, images, 0)).T).argmax(1) == torch.arange(6)).all()
    line = torch.full((1, 1, 32, 32), -1.0)
    line[..., 16:] = 1  # an edge that rises to the right
    assert torch.allclose(edges(line), edges(line.flip(-1)), atol=1e-5) and edges(line) @ edges(line.transpose(2, 3)).T < 0.1


def sides_of(drawn, members=40, others=30, calibrated=True):
    real = phantoms(0, members + others)
    split = np.repeat(["train", "test"], [members, others])

    class Rows:
        def column(self, name):
            return np.array([f"s{i}" for i in range(len(split))]) if name == "subject" else split

    return Sides(drawn, real, None, None, np.arange(0), np.arange(0), Rows(), None, phantoms(5000, 40) if calibrated else None, None, "")


def test_the_nearest_rung_sees_poor_copies_and_calibrating_helps():
    fresh, real = phantoms(1000, 50), phantoms(0, 40)
    clean = nearest_rung(sides_of(fresh), rungs=4, trials=10)
    assert clean.auc[1] < 0.5 < clean.auc[2] and clean.p > 0.05 and set(clean.claims) <= set(clean.power)
    leaky = nearest_rung(sides_of(torch.cat([fresh, plant("elastic", real[:20], fresh, 0)])), rungs=4, trials=10)
    assert leaky.p < 0.01 and leaky.auc[0] > clean.auc[0] and judge([leaky])[0].verdict == "fail"
    plain = nearest_rung(sides_of(fresh, calibrated=False), rungs=4, trials=10)
    assert "not calibrated" in plain.reason and "not calibrated" not in clean.reason
    assert clean.power["blurred"][5] >= plain.power["blurred"][5]
    assert nearest_rung(sides_of(fresh, members=10), rungs=4).p is None
    space = NearestSpace(fresh, real, None, 0)
    assert (space.best()[0] <= space.planted("exact", np.arange(3))[0][0]).all()  # nothing is nearer than itself


def test_a_verdict_says_how_patients_were_planted():
    rung = Rung("membership/denoising", 0.5, power={"overfitted": {20: 0.5}}, claims=("overfitted",), planted=20, planting="learned by heart", auc=(0.5, 0.45, 0.55))
    said = judge([rung])[0]
    assert said.verdict == "inconclusive" and "20 patients learned by heart it would have seen 50%" in said.reason
    assert judge([replace(rung, power={"overfitted": {20: 1.0}})])[0].verdict == "pass" and Rung.from_dict(said.to_dict()) == said

"""Calibration of arms: one that is too sure of itself is found, one like the reference is not."""

import numpy as np
import pandas as pd
import pytest

from synthrad.metrics.classification import calibration_error
from synthrad.study.calibration import calibrations


def cases(seeds=4, subjects=400):
    rng, rows = np.random.default_rng(0), []
    logit = rng.normal(-0.5, 1.2, subjects)
    target = (rng.random(subjects) < 1 / (1 + np.exp(-logit))).astype(float)
    for arm, sharper in {"real_only": 1.0, "sure": 3.0, "alike": 1.0}.items():
        for seed in range(seeds):
            p = 1 / (1 + np.exp(-sharper * (logit + rng.normal(0, 0.1, subjects))))
            rows.append(pd.DataFrame({"kind": "classification", "task": "t", "net": "n", "arm": arm, "seed": seed, "external": "",
                                      "layer": "", "class_name": "c", "image": [f"i{k}" for k in range(subjects)],
                                      "subject": [f"p{k:03d}" for k in range(subjects)], "tp": 0, "fp": 0, "fn": 0, "tn": 0,
                                      "probability": p, "target": target, "threshold": 0.5}))
    return pd.concat(rows, ignore_index=True)


def test_an_arm_that_is_too_sure_is_found():
    table = cases()
    found, curve, untested = calibrations(table)
    by = {c.arm: c for c in found}
    assert untested == [] and by["sure"].beyond_chance and not by["real_only"].beyond_chance
    assert by["sure"].change_low > 0 and by["sure"].low <= by["sure"].ece <= by["sure"].high
    assert by["alike"].change_low < 0 < by["alike"].change_high and by["real_only"].change == 0
    mine = table[table["arm"] == "sure"]
    expected = [calibration_error(m["probability"].to_numpy(), m["target"].to_numpy()) for _, m in mine.groupby("seed")]
    assert by["sure"].ece == pytest.approx(np.mean(expected)) and by["sure"].images == 400
    points = [p for p in curve if p.arm == "sure" and p.seed == 0]
    assert len(points) == 15 and sum(p.images for p in points) == 400
    assert points[3].share > points[3].probability and points[-1].share < points[-1].probability  # too extreme at both ends


def test_too_little_is_said():
    few = cases(seeds=2, subjects=400)
    assert all(c.low is None and c.change_low is None for c in calibrations(few)[0])
    rare = cases().assign(target=lambda t: (t["subject"] < "p003").astype(float))
    found, curve, untested = calibrations(rare, fewest={"t": 10})
    assert found == curve == [] and "needs 10 test subjects with and without it, has 3 and 397" in untested[0]
    broken = cases()
    found, _, untested = calibrations(broken[(broken["arm"] != "sure") | (broken["seed"] > 0)])
    assert found == [] and "other images, targets or seeds" in untested[0]

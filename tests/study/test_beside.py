"""Other tests beside the verdicts: they agree with what they are made of, and are silent where the verdicts are."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synthrad.statistics.layouts import two_way
from synthrad.study.beside import beside, largest, power_of_arm
from synthrad.study.verdicts import Endpoint

SEEDS, SUBJECTS = 5, 40
ARMS = {"real_only": 0.0, "good": 0.4, "duplicate": 0.0, "alike": 0.0, "alone": -0.1}
COMPARED = {"good": ["duplicate"], "alike": ["duplicate"]}
DICE = Endpoint("t", "n", "dice", smallest_relevant=0.03, margin=0.05)


def cases_of(kind, seeds=SEEDS, subjects=SUBJECTS):
    rng = np.random.default_rng(0)
    base, ill, parts = rng.normal(0, 0.5, subjects), rng.random(subjects) < 0.4, []
    for arm, effect in ARMS.items():
        own = rng.normal(0, 0.05, subjects)
        for seed in range(seeds):
            latent = base + own + rng.normal(0, 0.03) + rng.normal(0, 0.1, subjects)
            dice = 1 / (1 + np.exp(-(1 + effect + latent)))
            part = pd.DataFrame({"kind": kind, "task": "t", "net": "n", "arm": arm, "seed": seed, "external": "", "class_name": "c",
                                 "image": [f"i{k}" for k in range(subjects)], "subject": [f"p{k:03d}" for k in range(subjects)]})
            q = (200 * dice).round()
            part = part.assign(layer="L", tp=q, fp=0, fn=200 - q, tn=9, probability=np.nan, target=np.nan, threshold=np.nan)
            if kind == "classification":
                score = latent + (0.8 + 2 * effect) * ill
                part = part.assign(layer="", tp=0, fn=0, probability=1 / (1 + np.exp(-score)), target=ill.astype(float), threshold=0.6)
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def segmented():
    return beside(cases_of("segmentation"), DICE, COMPARED, ["alone"])


def test_a_row_for_every_comparison_and_what_it_says(segmented):
    rows, powers, most = segmented
    assert [(b.arm, b.reference) for b in rows] == [("good", "real_only"), ("good", "duplicate"), ("alike", "real_only"),
                                                    ("alike", "duplicate"), ("alone", "real_only")]
    good, alike, alone = rows[0], rows[2], rows[4]
    assert good.p_both == max(f.p for f in good.flips) == 1 / 32  # all five seeds gain: the smallest that five give
    assert {f.unit for f in good.flips} == {"subjects", "seeds"} and good.flips[0].p == 1e-4
    assert good.mixed.low > 0 and good.mixed.value == pytest.approx(good.difference) and good.effect.d_low > 0 and good.effect.better > 0.9
    assert alike.p_both > 0.05 and alike.effect.d_low < 0 < alike.effect.d_high
    assert alike.p_equivalent < 0.05 < good.p_equivalent and alone.difference < 0 < 0.9 < alone.p_both
    assert "these trained nets" in good.to_dict()["flips"][0]["assumes"]


def test_power_says_what_the_observed_spread_needs(segmented):
    _, powers, most = segmented
    good = next(p for p in powers if p.arm == "good")
    assert [p.arm for p in powers] == ["good", "alike"] and good.references == 2 and good.arms == 2
    wanted = {(n["power"], n["seeds"]): n["subjects"] for n in good.needed if n["seeds"] in (5, 10, 20)}
    assert wanted[0.8, 5] <= wanted[0.9, 5] and wanted[0.8, 10] <= wanted[0.8, 5]
    row = next(r for r in good.table if r["seeds"] == 5 and r["subjects"] == SUBJECTS)
    assert (row["detectable_80"] <= 0.03) == (wanted[0.8, 5] <= SUBJECTS)
    assert f"with 5 seeds {wanted[0.8, 5]:,} test subjects" in good.words and "rough guess" not in good.words
    assert most[0].arm == "good" and "Largest of 2 differences" in most[0].words and most[0].by_chance > 0


def test_seeds_that_differ_too_much_are_told():
    rng = np.random.default_rng(0)
    shaky = two_way(rng.normal(0, 0.01, (3, 40)) + np.array([[-0.2], [0.0], [0.2]]))
    words = power_of_arm("a", {"real_only": shaky}, DICE, 1).words
    assert "more than 20 seeds, whatever the number of test subjects" in words and "From 3 seeds this is a rough guess" in words
    assert power_of_arm("a", {"real_only": two_way(rng.normal(size=(3, 9)))}, DICE, 1) is None


def test_the_largest_of_arms_without_an_effect_is_near_what_it_says():
    rng, found = np.random.default_rng(1), []
    for _ in range(300):
        layouts = {f"a{k}": two_way(rng.normal(0, 0.02, (5, 1)) + rng.normal(0, 0.05, (1, 30)) + rng.normal(0, 0.05, (5, 30))) for k in range(4)}
        found.append(largest(layouts, DICE))
    assert np.mean([m.difference for m in found]) == pytest.approx(np.mean([m.by_chance for m in found]), rel=0.1)
    assert largest({"a": two_way(rng.normal(size=(5, 30)))}, DICE) is None


def test_where_there_is_no_verdict_there_is_no_p():
    for silence, cases, why in (("mechanics", cases_of("segmentation"), "mechanics"), ("", cases_of("segmentation", seeds=4), "needs 5 seeds, has 4"),
                                ("", cases_of("segmentation", subjects=9), "needs 10 test subjects, has 9")):
        for b in beside(cases, DICE, COMPARED, ["alone"], silence=silence)[0]:
            assert b.flips == () and b.p_both is b.p_equivalent is None and (b.mixed.p is None) and why in b.note
    rows, _, _ = beside(cases_of("classification"), Endpoint("t", "n", "auroc"), COMPARED, silence="undertrained", resamples=50)
    assert all(b.flips == () and "undertrained" in b.note for b in rows)


@pytest.mark.parametrize("metric", ["auroc", "average_precision", "f1"])
def test_a_metric_of_the_set(metric):
    cases = cases_of("classification")
    rows, powers, _ = beside(cases, Endpoint("t", "n", metric), COMPARED, ["alone"], resamples=200, permutations=99)
    assert [(b.arm, b.reference) for b in rows] == [("good", "real_only"), ("alike", "real_only"), ("alone", "real_only")]
    assert all(b.mixed is None and b.effect is None and "whole set" in b.note for b in rows) and len(powers) == 2
    good, alike = rows[0], rows[1]
    if metric == "auroc":
        by_seed = [stats.mannwhitneyu(m.loc[m["target"] == 1, "probability"], m.loc[m["target"] == 0, "probability"]).statistic
                   / ((m["target"] == 1).sum() * (m["target"] == 0).sum()) for _, m in cases[cases["arm"] == "good"].groupby("seed")]
        assert good.flips[0].assignments == 100 and good.p_both <= 0.05 < alike.p_both and np.mean(by_seed) > 0.9
    assert good.difference > alike.difference

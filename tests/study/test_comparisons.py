"""compare(): what is true is said, and silence where the design asks for it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from synthrad.errors import InputError
from synthrad.study.comparisons import Comparison, Endpoint, compare, explore, training_length

SEEDS, SUBJECTS, IMAGES = 5, 40, 2
ARMS = {
    "real_only": 0,
    "good": 0.4,
    "good_duplicate": 0,
    "bad": -0.5,
    "copies": 0.4,
    "copies_duplicate": 0.4,
    "synthetic_only": 0,
}
CONTROLS = {"good": ["good_duplicate"], "bad": ["good_duplicate"], "copies": ["copies_duplicate"]}
DICE = Endpoint("t", "n", "dice", smallest_relevant=0.01, margin=0.05)


def cases_of(kind):
    rng = np.random.default_rng(0)
    base, ill, parts = rng.normal(0, 0.5, (SUBJECTS, 1)), rng.random((SUBJECTS, 1)) < 0.4, []
    for arm, effect in ARMS.items():
        own = rng.normal(0, 0.05, (SUBJECTS, 1))
        for seed in range(SEEDS):
            latent = base + own + rng.normal(0, 0.03) + rng.normal(0, 0.1, (SUBJECTS, IMAGES))
            q = 1 / (1 + np.exp(-(1 + effect + latent).ravel()))
            score = (latent + (0.8 + effect) * ill).ravel()
            part = pd.DataFrame({"kind": kind, "task": "t", "net": "n", "arm": arm, "seed": seed, "external": "", "class_name": "c"},
                                index=range(SUBJECTS * IMAGES))  # fmt: skip
            part["image"] = [f"i{k}" for k in part.index]
            part["subject"] = [f"p{k // IMAGES:03d}" for k in part.index]
            tp = (200 * q).astype(int)
            segmenting = kind == "segmentation"
            part = part.assign(layer="L" if segmenting else "", tp=tp, fp=(50 * (1 - q)).astype(int), fn=200 - tp, tn=0,
                               probability=np.nan if segmenting else score, threshold=np.nan if segmenting else 0.5,
                               target=np.nan if segmenting else np.repeat(ill.ravel(), IMAGES).astype(float))  # fmt: skip
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def segmented():
    return cases_of("segmentation")


def test_truth_is_told(segmented):
    found = compare(segmented, DICE, CONTROLS, replacing=["synthetic_only"])
    assert {v.arm: v.call for v in found.verdicts} == {
        "good": "gain", "bad": "harm", "copies": found["copies"].call, "synthetic_only": "as good as real"}  # fmt: skip
    assert found["copies"].call in ("no gain shown", "no relevant gain")  # the duplicate control does as well
    assert found["copies"].hardest.reference == "copies_duplicate"
    assert (
        "Holm p" in found["good"].words
        and ": gain" in found["good"].words
        and "90 % power" in found["good"].words
    )
    assert all("downstream seeds" in m.note for m in found.measurements())


def test_set_metric():
    found = compare(cases_of("classification"), replace(DICE, metric="auroc"), CONTROLS, resamples=300)
    assert (
        found["good"].hardest.difference > 0 > found["bad"].hardest.difference and found["bad"].call == "harm"
    )


def longer_by(segmented, more):
    """Cases with the reference trained longer: its Dice is better by about `more`."""
    rows = segmented[segmented["arm"] == "real_only"].assign(arm="real_only_longer")
    shift = (300 * more * np.random.default_rng(0).uniform(0.8, 1.2, len(rows))).round().astype(int)
    rows = rows.assign(tp=rows["tp"] + shift, fn=rows["fn"] - shift)
    return pd.concat([segmented, rows], ignore_index=True)


@pytest.mark.parametrize("more", [0.0, 0.01, 0.05])
def test_twice_the_steps_tell_whether_training_was_long_enough(segmented, more):
    found = training_length(longer_by(segmented, more), DICE, "real_only_longer", "real_only", 10)
    assert found.difference == pytest.approx(more, abs=0.015) and found.p_gain is None and found.seeds == 5
    judged = compare(segmented, replace(DICE, smallest_relevant=0.025), CONTROLS, longer=found)
    assert judged.undertrained == (more == 0.05)
    assert (judged["good"].call == "no verdict") == (more == 0.05)


LATE = Comparison("real_only_longer", "real_only", "dice", 0.5, 0.4, 0.6, None, None, 5, 40, "downstream seeds")


@pytest.mark.parametrize("flag, word", [({"longer": LATE}, "UNDERTRAINED"), ({"mechanics": True}, "mechanics")])
def test_silence(segmented, flag, word):
    for v in compare(segmented, DICE, CONTROLS, replacing=["synthetic_only"], **flag).verdicts:
        assert v.call == "no verdict" and v.p is None and v.p_holm is None and word in v.words
        assert all(c.p_gain is None and c.p_seeds_t is None and c.low is not None for c in v.comparisons)


@pytest.mark.parametrize(("tp", "word"), [(0, "no arm segments anything (Dice 0.000 at most)"), (2, "no arm segments anything")])
def test_nets_that_learned_nothing_get_no_verdict(segmented, tp, word):
    nothing = segmented.assign(tp=tp, fn=200 - tp)
    found = compare(nothing, replace(DICE, smallest_relevant=0.02), CONTROLS, replacing=["synthetic_only"])
    assert word in found.floor and any(word in n for n in found.notes)
    for v in found.verdicts:
        assert v.call == "no verdict" and v.p is v.p_holm is v.detectable_90 is None and word in v.words
        assert all(c.low is None and c.p_gain is c.p_seeds_t is None for c in v.comparisons) or tp


def test_a_reference_that_segments_nothing_is_no_reference(segmented):
    rows = segmented.copy()
    rows.loc[rows["arm"] == "real_only", ["tp", "fn"]] = [0, 200]
    found = compare(rows, DICE, CONTROLS)
    assert found["good"].call == "no verdict" and "real_only segments nothing (Dice 0.000)" in found["good"].words


@pytest.mark.parametrize("metric", ["auroc", "average_precision", "f1"])
@pytest.mark.parametrize("probability", ["constant", "noise"])
def test_classifiers_at_chance_get_no_verdict(metric, probability):
    rows = cases_of("classification")
    guess = 0.5 if probability == "constant" else np.random.default_rng(3).random(len(rows))
    rows = rows.assign(probability=guess, threshold=0.1)
    found = compare(rows, replace(DICE, metric=metric), CONTROLS, replacing=["synthetic_only"], resamples=200)
    assert "no arm is shown to classify anything" in found.floor
    assert {v.call for v in found.verdicts} == {"no verdict"}


def test_classifiers_above_chance_do():
    for metric in ("auroc", "average_precision"):
        assert compare(cases_of("classification"), replace(DICE, metric=metric), CONTROLS, resamples=100).floor == ""


def test_too_few(segmented):
    four = compare(segmented[segmented["seed"] < 4], DICE, CONTROLS)["good"]
    assert four.call == "no verdict" and four.p is None and four.hardest.low is not None
    nine = compare(segmented[segmented["subject"] < "p009"], DICE, CONTROLS)["good"]
    assert nine.call == "no verdict" and nine.hardest.low is None and "9 test subjects" in nine.words


def test_pipeline_is_wider(segmented):
    wide = compare(segmented, DICE, CONTROLS, generalises_over="pipeline", test_to_train=0.5)["good"].hardest
    assert wide.generalises_over == "pipeline" and wide.seeds == SEEDS and wide.subjects == SUBJECTS


def test_bad_input(segmented):
    with pytest.raises(InputError, match="absent"):
        compare(segmented, DICE, {"good": ["absent"]})
    with pytest.raises(InputError, match="same seeds"):
        compare(segmented[(segmented["arm"] != "good") | (segmented["seed"] > 0)], DICE, CONTROLS)
    with pytest.raises(InputError, match=r"endpoint\.metric"):
        Endpoint("t", "n", "accuracy")


def test_digest_and_exploration(segmented):
    assert DICE.digest == replace(DICE).digest != replace(DICE, margin=0.04).digest
    found = explore(segmented)
    assert all(c.p_gain is None and c.low < c.high for c in found)
    assert {c.class_name for c in found} == {"macro"}  # the only class is the mean
    two = explore(pd.concat([segmented, segmented.assign(class_name="d")]))
    assert {c.class_name for c in two} == {"macro", "L/c", "L/d"}


def test_the_class_of_the_endpoint_is_named(segmented):
    found = compare(segmented, replace(DICE, layer="L", classes=("c",)), CONTROLS)
    assert {m.class_name for m in found.measurements()} == {"L/c"}
    assert {m.class_name for m in compare(segmented, DICE, CONTROLS).measurements()} == {"macro"}


def test_intervals_are_possible_numbers():
    rows = cases_of("classification")
    two = explore(rows[rows["seed"] < 2], resamples=50)
    assert two and all(c.low is None and "2 seeds, fewer than 3" in c.note for c in two)
    rng = np.random.default_rng(0)
    wild = rows.assign(probability=np.where(rows["seed"] % 2, 1, -1) * (rows["target"] + 0.1 * rng.random(len(rows))))
    wild.loc[wild["arm"] == "real_only", "probability"] = rng.random((wild["arm"] == "real_only").sum())
    found = explore(wild[wild["seed"] < 3], resamples=50)
    assert min(c.low for c in found) == -1.0 and max(c.high for c in found) == 1.0

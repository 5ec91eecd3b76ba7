"""Scores of subgroups against plain recomputation without one subject."""

import numpy as np
import pandas as pd
import pytest

from synthrad.metrics.bias import classification_scores, segmentation_scores, subjects_with


def answers(seeds=3, subjects=14, images=40, seed=0, mixed=True):
    """Classification cases: subjects of several images; with `mixed`, of both targets."""
    rng = np.random.default_rng(seed)
    who = rng.integers(0, subjects, images)
    target = rng.random(images) < 0.5 if mixed else who % 2 == 0
    rows = []
    for s in range(seeds):
        p = np.round(1 / (1 + np.exp(-rng.normal(target, 1))), 1)  # rounded: ties
        rows.append(pd.DataFrame({"kind": "classification", "task": "t", "net": "n", "arm": "a", "seed": s, "image": [f"i{k}" for k in range(images)],
                                  "subject": [f"p{k:02d}" for k in who], "external": "", "layer": "", "class_name": "c", "tp": 0, "fp": 0,
                                  "fn": 0, "tn": 0, "probability": p, "target": target.astype(float), "threshold": 0.5}))
    return pd.concat(rows, ignore_index=True)


def missed_rate(rows):
    there = rows[rows["target"] == 1]
    return float((there["probability"] < there["threshold"]).mean())


def auc(rows):
    ill, well = (rows.loc[rows["target"] == t, "probability"].to_numpy() for t in (1, 0))
    return float(np.mean([(a > b) + 0.5 * (a == b) for a in ill for b in well]))


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize(("metric", "plain"), [("auroc", auc), ("false_negative_rate", missed_rate)])
def test_value_and_jackknife_are_those_of_plain_recomputation(metric, plain, mixed):
    rows = answers(mixed=mixed)
    found = classification_scores(rows, metric)["a"]["c"]
    counts = rows if metric == "auroc" else rows[rows["target"] == 1]
    people = sorted(set(counts["subject"]))
    assert list(found.subjects) == people and found.pseudo.shape == (3, len(people))
    for s in range(3):
        mine = rows[rows["seed"] == s]
        assert found.value[s] == pytest.approx(plain(mine))
        for k, person in enumerate(people):
            without = plain(mine[mine["subject"] != person])
            assert found.pseudo[s, k] == pytest.approx(len(people) * plain(mine) - (len(people) - 1) * without)
    assert found.kind.tolist() == ([bool((rows.loc[rows["subject"] == p, "target"] > 0).any()) for p in people] if metric == "auroc"
                                   else [False] * len(people))


def test_what_is_undefined_has_no_entry():
    rows = answers()
    assert classification_scores(rows.assign(target=1.0), "auroc")["a"] == {}
    assert classification_scores(rows.assign(target=0.0), "false_negative_rate")["a"] == {}
    assert classification_scores(rows.assign(threshold=np.nan), "false_negative_rate")["a"] == {}
    assert subjects_with(rows.assign(target=np.where(rows["subject"] < "p03", 1.0, np.nan)))["c"] == (
        rows.loc[rows["subject"] < "p03", "subject"].nunique(), 0)


def pixels(tp, fn, fp, **more):
    base = {"kind": "segmentation", "task": "t", "net": "n", "arm": "a", "seed": 0, "image": "i", "external": "", "layer": "L",
            "class_name": "c", "tn": 9, "probability": np.nan, "target": np.nan, "threshold": np.nan}
    return {**base, "tp": tp, "fn": fn, "fp": fp, **more}


def test_segmentation_by_hand():
    rows = []
    for s in (0, 1):
        rows += [pixels(3, 1, 2, subject="x", seed=s), pixels(1, 3, 0, subject="x", seed=s, image="j"),
                 pixels(2, 2, 0, subject="x", seed=s, class_name="d"), pixels(10, 0, s, subject="y", seed=s),
                 pixels(0, 0, 5, subject="z", seed=s)]
    rows = pd.DataFrame(rows)
    missed, dice = (segmentation_scores(rows, m)["a"] for m in ("false_negative_rate", "dice"))
    assert missed.subjects == dice.subjects == ("x", "y")  # z has no reference pixel
    assert missed.pseudo.tolist() == [[0.5, 0.0], [0.5, 0.0]]  # both classes of x miss a half
    assert missed.value.tolist() == [0.25, 0.25]
    assert dice.pseudo[0].tolist() == pytest.approx([(8 / 14 + 4 / 6) / 2, 1.0])
    only = segmentation_scores(rows, "false_negative_rate", "L", ("d",))["a"]
    assert only.subjects == ("x",) and only.value.tolist() == [0.5, 0.5]

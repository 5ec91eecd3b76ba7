"""Both kinds of tasks in one table; the numbers themselves: test_segmentation, test_classification."""

import numpy as np
import pandas as pd
import pytest

from synthrad.dataset_info import DatasetInfo
from synthrad.manifest_table import empty_columns
from synthrad.metrics.summary import prevalences, summarise
from synthrad.records import Manifest


@pytest.fixture
def cases():
    """A segmentation and a classification task over 4 subjects, both with the class `caries`."""
    common = pd.DataFrame({"image": list("1234"), "subject": list("pqrs"), "class_name": "caries"})
    common = common.assign(net="n", arm="a", seed=0, external="", tp=0, fp=0, fn=0, tn=0)
    masks = common.assign(kind="segmentation", task="paint", layer="L", tp=[3, 1, 0, 0], fn=1, probability=np.nan, target=np.nan,
                          threshold=np.nan)  # fmt: skip
    labels = common.assign(kind="classification", task="find", layer="", probability=[0.1, 0.2, 0.8, 0.9], target=[0.0, 0, 1, 1],
                           threshold=0.5)  # fmt: skip
    return pd.concat([labels, masks], ignore_index=True)


def by_name(rows):
    return {(m.task, m.metric, m.class_name): m for m in rows}


def test_each_row_is_measured_by_its_kind_alone(cases):
    found = by_name(summarise(cases, {"find": 2}))
    assert {(m.task, m.unit) for m in found.values() if m.metric in ("dice", "iou")} == {("paint", "subject")}
    assert {(m.task, m.unit) for m in found.values() if m.metric in ("auroc", "f1", "ece")} == {("find", "set")}
    assert found["paint", "dice", "L/caries"].n == 4 and found["find", "auroc", "caries"].value == 1.0
    alone = by_name(summarise(cases[cases["kind"] == "segmentation"]))
    assert alone == {k: m for k, m in found.items() if k[0] == "paint"} and len(alone) < len(found)


def test_the_fewest_subjects_are_those_of_the_task(cases):
    for fewest, value in (({"find": 2}, 1.0), ({"find": 3}, None), ({"paint": 2}, None), (None, None)):
        assert by_name(summarise(cases, fewest))["find", "auroc", "caries"].value == value


def test_both_kinds_are_rare_by_the_shares_of_the_training_images(cases):
    rare = by_name(summarise(cases, {"find": 2}, {"caries": 0.01, "L/caries": 0.02}))
    assert rare["find", "auroc", "rare"].value == 1.0
    assert rare["paint", "dice", "rare"].value == rare["paint", "dice", "L/caries"].value > 0
    frequent = by_name(summarise(cases, {"find": 2}, {"caries": 0.5, "L/caries": 0.5}))
    assert frequent["find", "auroc", "rare"].value is frequent["paint", "dice", "rare"].value is None


def test_no_case_gives_no_measurement(cases):
    assert summarise(cases[:0]) == []


def test_prevalences_of_no_row_are_unknown_and_name_labels_before_areas():
    info = DatasetInfo("toy", "toy", ("b", "a"), {"l": ("x",)})
    found = prevalences(Manifest(pd.DataFrame(empty_columns(info, 0)), info))
    assert list(found) == ["b", "a", "l/x"] and np.isnan(list(found.values())).all()

"""Dice and IoU per subject and false positives, by hand."""

import numpy as np
import pandas as pd
import pytest

from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.manifest_table import empty_columns
from synthrad.metrics.segmentation import false_positives, subject_matrices, summarise
from synthrad.metrics.summary import prevalences
from synthrad.records import Manifest


@pytest.fixture
def cases():
    rows = [  # subject, image, class, tp, fp, fn
        ("a", "1", "x", 10, 0, 10), ("a", "2", "x", 0, 10, 0), ("b", "3", "x", 5, 0, 0), ("c", "4", "x", 0, 7, 0),
        ("a", "1", "y", 1, 1, 0), ("b", "3", "y", 0, 0, 0), ("c", "4", "y", 0, 0, 0), ("a", "2", "y", 0, 0, 0),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["subject", "image", "class_name", "tp", "fp", "fn"])
    return table.assign(kind="segmentation", task="t", net="n", arm="r", seed=0, external="", layer="L", tn=0,
                        probability=np.nan, target=np.nan, threshold=np.nan)  # fmt: skip


def test_sums_over_images_of_a_subject(cases):
    matrix = subject_matrices(cases, "dice", "L", ["x"])["r"]
    assert (
        matrix.loc[0, "a"] == pytest.approx(20 / 40)
        and matrix.loc[0, "b"] == 1.0
        and np.isnan(matrix.loc[0, "c"])
    )
    assert subject_matrices(cases, "iou", "L", ["x"])["r"].loc[0, "a"] == pytest.approx(10 / 30)
    assert subject_matrices(cases)["r"].loc[0, "a"] == pytest.approx((0.5 + 2 / 3) / 2)


def test_false_positives_on_negatives(cases):
    row = false_positives(cases).set_index("class_name").loc["x"]
    assert (row["subjects"], row["subject_rate"], row["images"], row["image_rate"], row["pixels"]) == (
        1,
        1.0,
        2,
        1.0,
        8.5,
    )


def test_summary(cases):
    found = {(m.metric, m.class_name): m for m in summarise(cases)}
    assert found["dice", "L/x"].n == 2 and found["dice", "macro"].value == pytest.approx(
        ((0.5 + 2 / 3) / 2 + 1) / 2
    )
    only = summarise(cases[cases["subject"] == "c"])
    assert (
        next(m for m in only if m.metric == "dice").note == "undefined: 0 of 1 subjects have reference pixels"
    )


def test_rare_classes(cases):
    found = {m.class_name: m for m in summarise(cases, {"L/x": 0.5, "L/y": 0.05}) if m.metric == "dice"}
    assert found["rare"].value == found["L/y"].value == pytest.approx(2 / 3) and found["rare"].n == 1
    assert found["rare"].note == "macro over 1 of 2 classes (training prevalence below 0.1)"
    none = next(m for m in summarise(cases) if m.class_name == "rare")
    assert none.value is None and none.note.startswith("undefined: 0 of 2 classes (test prevalence below 0.1)")


def test_prevalences_among_the_images_that_know():
    info = DatasetInfo("toy", "toy", ("a", "b"), {"l": ("x",)})
    columns = empty_columns(info, 4)
    columns |= {"label:a": np.array([1, 0, np.nan, np.nan]), "label:b": np.full(4, np.nan), "area:l/x": np.array([0.1, 0, 0, 0])}
    found = prevalences(Manifest(pd.DataFrame(columns), info))
    assert found["a"] == 0.5 and np.isnan(found["b"]) and found["l/x"] == 0.25


def test_unknown_class(cases):
    with pytest.raises(InputError, match="structures of the cases"):
        subject_matrices(cases, classes=["z"])

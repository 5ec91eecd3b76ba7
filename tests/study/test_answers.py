"""One metric of every arm: which classes enter it, and differences of arms that were not tested alike."""

import numpy as np
import pandas as pd
import pytest

from synthrad.errors import InputError
from synthrad.statistics.resampling import Draws
from synthrad.study.answers import answers_of, difference_of

SUBJECTS, SEEDS = 24, 3


def findings(arms=("real_only", "matched"), positives=None) -> pd.DataFrame:
    """A perfect classifier's cases: `positives` subjects have each class."""
    rows = []
    for name, ill in (positives or {"common": 12, "rare": 2}).items():
        for arm in arms:
            for seed in range(SEEDS):
                for i in range(SUBJECTS):
                    rows.append(dict(kind="classification", task="t", net="n", arm=arm, seed=seed, image=f"i{i}", subject=f"p{i:02d}",
                                     external="", layer="", class_name=name, tp=0, fp=0, fn=0, tn=0, threshold=0.5,
                                     probability=0.9 if i < ill else 0.1, target=float(i < ill)))  # fmt: skip
    return pd.DataFrame(rows)


def test_a_rare_class_is_left_out_of_the_mean_and_told():
    found, notes = answers_of(findings(), "auroc", "", (), 50, 0, None)
    assert set(found) == {"real_only", "matched"} and all(isinstance(x, Draws) for x in found.values())
    assert np.allclose(found["matched"].point, 1.0) and found["matched"].subjects == SUBJECTS
    assert notes == ["rare left out of the mean: 2 test subjects with it, 22 without"]
    layout, by_seed = difference_of(found["matched"], found["real_only"], None)
    assert layout.value == 0 and by_seed.tolist() == [0.0] * SEEDS


def test_what_is_left_out_names_its_replicate():
    two = pd.concat([findings().assign(replicate=0), findings(positives={"common": 12, "rare": 3}).assign(replicate=1)])
    _, notes = answers_of(two, "auroc", "", (), 1, 0, 1.0)
    assert notes == [f"replicate {k}: rare left out of the mean: {n} test subjects with it, {SUBJECTS - n} without" for k, n in ((1, 2), (2, 3))]


def test_where_every_class_is_rare_the_mean_says_so_or_there_is_none():
    few = findings(positives={"rare": 2})
    found, notes = answers_of(few, "auroc", "", (), 50, 0, None)
    assert np.allclose(found["matched"].point, 1.0)
    assert notes == ["no class has 5 test subjects with it and 5 without: rare by 1 or more"]
    with pytest.raises(InputError, match="'rare': \\(2, 22\\)"):
        answers_of(few, "auroc", "", (), 50, 0, None, fall_back=False)


def test_a_class_that_nobody_has_is_no_endpoint():
    with pytest.raises(InputError, match="a class with both"):
        answers_of(findings(positives={"none": 0}), "auroc", "", (), 50, 0, None)


def test_replicates_have_a_value_each():
    found, _ = answers_of(findings(), "auroc", "", ("common",), 50, 0, 0.25)
    assert found["matched"].tolist() == [1.0] * SEEDS and found["matched"].attrs["subjects"] == SUBJECTS
    layout, by_seed = difference_of(found["matched"], found["real_only"], 0.25)
    assert layout.value == 0 and len(by_seed) == SEEDS


def test_the_metric_must_fit_the_cases():
    with pytest.raises(InputError, match="no segmentation rows"):
        answers_of(findings(), "dice", "", (), 50, 0, None)
    with pytest.raises(InputError, match="no classification rows"):
        answers_of(findings().assign(kind="segmentation"), "auroc", "", (), 50, 0, None)


def test_arms_tested_on_other_subjects_have_no_difference():
    a = pd.DataFrame(np.ones((2, 3)), index=[0, 1], columns=["p0", "p1", "p2"])
    with pytest.raises(InputError, match="3 and 2 test subjects"):
        difference_of(a, a[["p0", "p1"]], None)

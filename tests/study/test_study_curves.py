"""Curves of the endpoint in the report: which classes and arms have one, and what their figure says."""

import numpy as np
import pandas as pd
import pytest
from fake_run import NET, TASK, cases_of

from synthrad.study.curves import draw_curves, endpoint_curves
from synthrad.study.verdicts import Endpoint

END = Endpoint(TASK, NET, "auroc")


@pytest.fixture(scope="module")
def cases() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    parts = []
    for arm, gap in (("real_only", 0.2), ("matched", 0.6)):
        for seed in range(2):
            part = cases_of(arm, seed, 0.0)
            target = np.array([int(i[1:]) % (2 if c == "caries" else 20) == 0 for i, c in zip(part["image"], part["class_name"], strict=True)], float)
            parts.append(part.assign(kind="classification", layer="", target=target, threshold=0.5,
                                     probability=np.clip(gap * target + (1 - gap) * rng.random(len(part)), 0, 1)))
    return pd.concat(parts)


def test_a_class_that_few_have_gets_no_curve(cases):
    found = endpoint_curves(cases, END, ["real_only", "matched"], fewest=5)
    assert [(c.arm, c.class_name, c.positive, c.images, c.seeds) for c in found] == [("real_only", "caries", 20, 40, 2), ("matched", "caries", 20, 40, 2)]
    assert len(endpoint_curves(cases, END, ["real_only"], fewest=1)) == 2
    better = [np.trapezoid(c.curves["ROC"].mean, c.curves["ROC"].x) for c in found]
    assert better[1] > better[0] + 0.1


def test_a_segmentation_endpoint_has_none(cases):
    assert endpoint_curves(cases_of("real_only", 0, 0.0), Endpoint(TASK, NET, "dice"), ["real_only"], 5) == [] == endpoint_curves(cases, END, [], 5)
    assert draw_curves([]) is None


def test_the_figure_says_how_many_and_its_numbers_are_all_there(cases):
    made = draw_curves(endpoint_curves(cases, END, ["real_only", "matched"], 5))
    assert "caries: 20 of 40 images" in made.svg.decode() and "2 downstream seeds" in made.caption
    assert {row[2] for row in made.table.rows} == {"ROC", "precision and recall", "reliability"} and {row[1] for row in made.table.rows} == {"real_only", "matched"}
    assert "are drawn; the CSV has all" not in made.caption

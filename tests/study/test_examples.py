"""Best, median and worst: ranked by the reference, told for every arm."""

import numpy as np
import pandas as pd
import pytest
from fake_run import NET, TASK, cases_of, write_images

from synthrad.study.examples import draw_examples, examples, scores_of
from synthrad.study.verdicts import Endpoint

END = Endpoint(TASK, NET, "dice", layer="abnormality", classes=("caries",))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    real = write_images(tmp_path_factory.mktemp("examples") / "real", 18, "real", 0)
    held = real.where(split="test")
    rows = []
    for k, digest in enumerate(held.column("digest")):
        for arm, dice in (("real_only", 0.1 * (k + 1)), ("matched", 1 - 0.1 * (k + 1))):
            for seed in range(2):
                one = cases_of("real_only", seed, 0.0).iloc[:1]
                rows.append(one.assign(arm=arm, image=digest, subject=f"s{k}", tp=round(dice * 1000), fp=1000 - round(dice * 1000), fn=1000 - round(dice * 1000)))
    return held, pd.concat(rows)


def test_images_are_ranked_by_the_reference_not_by_the_arm(made):
    held, cases = made
    best, median, worst = examples(cases, END, held, "real_only", ["real_only", "matched"])
    assert best.caption == "best by real_only\nDice: real_only 0.60\nmatched 0.40"
    assert worst.caption.startswith("worst by real_only\nDice: real_only 0.10\nmatched 0.90") and "median" in median.caption
    assert np.array_equal(best.image, examples(cases, END, held, "matched", ["matched"])[2].image)  # worst for the other
    assert draw_examples([best, median, worst]).startswith("data:image/png;base64,") and draw_examples([]) == ""


def test_what_cannot_be_ranked_shows_nothing(made):
    held, cases = made
    two = list(held.column("digest"))[:2]
    assert examples(cases[cases["image"].isin(two)], END, held, "real_only", []) == []
    assert examples(cases.assign(image="gone"), END, held, "real_only", []) == []
    assert len(scores_of(cases.assign(tp=0, fn=0), END)) == 0  # no reference pixel, no Dice


def test_classification_is_ranked_by_the_error(made):
    held, cases = made
    error = cases.assign(kind="classification", layer="", target=1.0, probability=cases["tp"] / 1000)
    scores = scores_of(error, Endpoint(TASK, NET, "auroc"))
    assert scores.loc[held.column("digest")[2], "real_only"] == pytest.approx(0.3) and scores["real_only"].max() == pytest.approx(0.6)

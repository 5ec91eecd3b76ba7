"""Nets that saw the test set before they were fitted: no verdict, and the report says so."""

from types import SimpleNamespace

import pytest
from test_cards import ARMS, study, verdict
from test_comparisons import CONTROLS, DICE, cases_of

from synthrad.dataset_info import DatasetInfo
from synthrad.study.cards import cards, headline
from synthrad.study.comparisons import compare
from synthrad.study.contamination import banners, contaminated, standing_of, standings
from synthrad.study.description import Net

NIH, MINE = DatasetInfo("nih_chest_64", "nih_chest_64"), DatasetInfo("mine", "mine")


def net(weights=None, **more):
    return Net(class_path="TimmNet", init_args={"weights": weights}, **more)


@pytest.mark.parametrize(("made", "own", "state", "words"), [
    (net(), NIH, "none", "random weights"),
    (net("null"), NIH, "none", "random weights"),
    (net("imagenet"), NIH, "clear", "imagenet"),
    (net("microsoft/rad-dino"), NIH, "contaminated", "both are nih-chestxray14"),
    (net("torchxrayvision/densenet121-res224-nih"), DatasetInfo("x", "rsna_pneumonia"), "contaminated", "10.1148/ryai.2019180041"),
    (net("torchxrayvision/densenet121-res224-chex"), NIH, "clear", "meets no test set"),
    (net("microsoft/rad-dino"), MINE, "clear", "meets no test set"),
    (net("wanglab/medsam-vit-base"), MINE, "unknown", "more"),
    (net("microsoft/rad-dino-maira-2"), NIH, "contaminated", "unverified"),
    (net("weights/mine.ckpt"), MINE, "unknown", "`pretrained_on` of the net says it"),
    (net("weights/mine.ckpt", pretrained_on=["mine"]), MINE, "contaminated", "as the study file says"),
    (net("weights/mine.ckpt", pretrained_on=["siim-acr"]), NIH, "contaminated", "siim-acr-pneumothorax holds"),
    (net("weights/mine.ckpt", pretrained_on=[]), MINE, "clear", "no medical image"),
    (net("microsoft/rad-dino", pretrained_on=[]), NIH, "contaminated", "both are"),  # a study cannot say less than is known
])  # fmt: skip
def test_standing(made, own, state, words):
    found = standing_of(made, {"": own})
    assert found.state == state and words in found.words


def study_of(**nets):
    return SimpleNamespace(tasks={"t": SimpleNamespace(nets=nets)}, endpoint=SimpleNamespace(task="t", net="a"))


def test_an_external_set_is_named_and_costs_no_verdict_on_the_own_one():
    said = study_of(a=net("microsoft/rad-dino"), b=net("imagenet"), c=net("my.pt"), d=net())
    found = standings(said, MINE, {"site": NIH})
    assert [s.state for s in found.values()] == ["contaminated", "clear", "unknown", "none"]
    lines = banners(found)
    assert len(lines) == 2 and "Net 'a' of task 't': contaminated." in lines[0] and "external set 'site'" in lines[0] and "unknown" in lines[1]
    assert contaminated(said, MINE) == "" and "nih-chestxray14" in contaminated(said, NIH)


def test_no_verdict():
    cases = cases_of("segmentation")
    found, plain = (compare(cases, DICE, CONTROLS, replacing=["synthetic_only"], contaminated=c) for c in ("its weights (x) saw it", ""))
    assert {v.call for v in found.verdicts} == {"contaminated"} and "gain" in {v.call for v in plain.verdicts}
    assert found.why_silent == "contaminated: its weights (x) saw it" and not plain.why_silent
    for v in found.verdicts:
        assert v.p is None and v.p_holm is None and v.detectable_90 is None and "contaminated, no verdict: its weights (x) saw it" in v.words
        assert all(c.p_gain is None for c in v.comparisons)


def test_cards_say_it():
    said = study(verdict("a", "contaminated"), contaminated="its weights (x) saw it")
    assert headline(said, ARMS, False) == headline(said, ARMS, True) == "No verdict on any arm: contaminated, its weights (x) saw it."
    for mechanics in (False, True):
        card = cards(said, ARMS, mechanics)[0]
        assert card["tag"] == "contaminated" and card["state"] == "not_tested" and card["words"] == "No verdict: contaminated, its weights (x) saw it."

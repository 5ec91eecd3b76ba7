"""Cells of the tables by class: what is printed for seeds, intervals, missing and undefined values, and in which order."""

import pytest

from synthrad.measurements import Measurement
from synthrad.study.class_tables import class_tables, metric_name, of_endpoint
from synthrad.study.verdicts import Endpoint


def m(arm="a", value=0.5, class_name="L/x", metric="dice", **more):
    return Measurement(metric, value, task="seg", net="unet", arm=arm, class_name=class_name, **{"seed": 0, "n": 7} | more)


def cell(*rows, arm="a"):
    (table,) = class_tables(rows, [arm, "other"])
    return table["rows"][0]["cells"][table["arms"].index(arm)]


def test_one_seed_has_its_interval_and_several_have_a_spread():
    assert cell(m(value=0.25)) == {"text": "0.250", "note": "n = 7", "undefined": False}
    assert cell(m(value=0.25, low=0.1, high=0.4))["text"] == "0.250 [0.100, 0.400]"
    assert cell(m(value=0.25, low=0.1))["text"] == "0.250"
    assert cell(*(m(value=v, seed=s, low=0.1, high=0.9) for s, v in enumerate((0.2, 0.4))))["text"] == "0.300 ± 0.141"
    assert cell(m(value=0.0))["text"] == "0.000"  # nought is a value


def test_a_value_of_nothing_counted_keeps_its_note():
    assert cell(m(n=0, note="of the set"))["note"] == "of the set"


def test_undefined_missing_and_partly_undefined_cells_differ():
    rows = (m("other"), m("a", None, note="undefined: 0 of 4"), m("third", None, n=3), m("half"), m("half", None, seed=1))
    (table,) = class_tables(rows, ["a", "other", "third", "half"])
    cells = dict(zip(table["arms"], table["rows"][0]["cells"], strict=True))
    assert cells["a"] == {"text": "undefined", "note": "undefined: 0 of 4", "undefined": True}
    assert cells["third"] == {"text": "undefined", "note": "n = 3", "undefined": True}
    assert cells["half"] == {"text": "0.500", "note": "n = 7; undefined in 1 of 2 seeds", "undefined": False}
    (table,) = class_tables([m("a"), m("b", class_name="L/y")], ["a", "b"])
    assert [[c["text"] for c in r["cells"]] for r in table["rows"]] == [["0.500", "–"], ["–", "0.500"]]
    assert table["rows"][0]["cells"][1] == {"text": "–", "note": "", "undefined": True}


def test_what_no_arm_has_is_told_in_a_sentence_and_has_no_row():
    why = "undefined: 0 of 4 subjects"
    rows = [m(), *(m(arm, None, "L/y", metric, note=why) for metric in ("dice", "iou") for arm in "ab"),
            m("a", None, "L/z", n=2), m("a", None, "macro", note=why)]  # fmt: skip
    (table,) = class_tables(rows, ["a", "b"])
    assert [r["class_name"] for r in table["rows"]] == ["L/x"] and table["arms"] == ["a", "b"]
    assert table["undefined"] == ("Undefined in every arm: all classes: Dice (0 of 4 subjects); L/y: Dice, IoU (0 of 4 subjects); "
                                  "L/z: Dice (n = 2).")  # fmt: skip
    assert class_tables([m()], ["a"])[0]["undefined"] == ""


def test_arms_stand_as_in_the_study_and_unknown_ones_behind():
    (table,) = class_tables([m(arm) for arm in ("z", "b", "y", "a")], ["b", "missing", "a"])
    assert table["arms"] == ["b", "a", "y", "z"]


def test_all_classes_come_first_then_names():
    rows = [m(class_name=c) for c in ("L/y", "rare", "L/x", "macro")] + [m(class_name="", metric="false_positive_pixels")]
    (table,) = class_tables(rows, ["a"])
    assert [(r["class_name"], r["metric"]) for r in table["rows"]] == [
        ("all classes", "false positive pixels"), ("all classes", "Dice"), ("L/x", "Dice"), ("L/y", "Dice"),
        ("rare", "Dice")]  # fmt: skip


def test_a_table_for_each_task_net_and_subgroup_and_none_for_subjects_and_differences():
    rows = [m(), m(subgroup="external:clinic"), m(subject="p1", class_name="one"), m(metric="dice_difference", class_name="two")]
    tables = class_tables(rows, ["a"])
    assert [t["title"] for t in tables] == ["seg, unet", "seg, unet, external:clinic"]
    assert {r["class_name"] for t in tables for r in t["rows"]} == {"L/x"} and class_tables([], ["a"]) == []


@pytest.mark.parametrize(("metric", "words"), [("dice", "Dice"), ("average_precision", "average precision"), ("ece", "ECE"),
                                               ("false_positive_images", "false positive images")])  # fmt: skip
def test_metrics_in_words(metric, words):
    assert metric_name(metric) == words


def test_rows_of_the_endpoint():
    whole, named = Endpoint("seg", "unet", "dice"), Endpoint("seg", "unet", "dice", classes=("x",), layer="L")
    rows = {c: m(class_name=c) for c in ("", "macro", "rare", "L/x", "L/y", "K/x")}
    assert [c for c, row in rows.items() if of_endpoint(row, whole)] == ["", "macro", "L/x", "L/y", "K/x"]
    assert [c for c, row in rows.items() if of_endpoint(row, named)] == ["L/x"]
    assert not of_endpoint(m(metric="iou"), whole) and not of_endpoint(m(subgroup="external:clinic"), whole)
    assert not of_endpoint(Measurement("dice", 0.5, task="seg", net="other", class_name="macro"), whole)
    assert of_endpoint(m(class_name="L/rare"), whole)  # a structure of that name, not the mean over rare ones
    rare = Endpoint("seg", "unet", "dice", classes=("rare",))
    assert of_endpoint(m(class_name="L/rare"), rare) and not of_endpoint(m(class_name="rare"), rare)
    labels = Endpoint("seg", "unet", "auroc", classes=("caries",))
    assert [c for c in ("caries", "implant", "macro") if of_endpoint(m(class_name=c, metric="auroc"), labels)] == ["caries"]

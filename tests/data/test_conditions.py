import json

import numpy as np
import pandas as pd
import pytest

from synthrad.data.conditions import (
    ask_less,
    each_condition,
    plan_conditions,
    read_conditions,
    real_conditions,
    table_conditions,
)
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest

LAYERS = {"organ": ("left", "right"), "other": ("x",)}
INFO = DatasetInfo("tiny", "tiny-id", classes=("a", "b"), layers=LAYERS, attributes=("sex",))


def real(n=6):
    columns = empty_columns(INFO, n)
    columns["label:a"][:], columns["subject"][:] = [i % 2 for i in range(n)], [f"s{i}" for i in range(n)]
    columns["attribute:sex"][:] = ["F", "M", "M"] * (n // 3)
    return Manifest(pd.DataFrame(columns), INFO)


def test_conditions():
    drawn = real_conditions(real(), 12, 0)
    assert drawn["label:a"].mean() == 0.5 and (drawn["attribute:sex"] == "M").sum() == 8
    assert not drawn[:6].reset_index(drop=True).equals(real_conditions(real(), 6, 1).reset_index(drop=True))
    assert len(each_condition(real(), 3)) == 4 * 3
    table = table_conditions(pd.DataFrame({"a": ["1", ""], "attribute:sex": ["F", ""]}), INFO, "t.csv")
    assert table["label:a"].tolist()[0] == 1 and table.isna().sum().to_dict() == {"label:a": 1, "label:b": 2, "attribute:sex": 0}
    plan = plan_conditions([{"cell": ["a=?", "sex=?"], "number": 1}], INFO, "p")  # as Cells writes what is unknown
    assert plan["label:a"].isna().all() and plan["attribute:sex"].tolist() == [""]
    plan = plan_conditions([{"cell": ["a=1", "sex=F"], "number": 2}, {"cell": ["b=0"], "number": 1}], INFO, "p")
    assert plan["label:a"].tolist()[:2] == [1, 1] and plan["label:b"].tolist()[2] == 0


@pytest.mark.parametrize(("table", "message"), [({"c": ["1"]}, "'c'"), ({"a": ["2"]}, "row 2")])
def test_tables_that_are_refused(table, message):
    with pytest.raises(InputError, match=message):
        table_conditions(pd.DataFrame(table), INFO, "t.csv")


def test_sources_that_are_refused(tmp_path):
    with pytest.raises(InputError, match="add --manifest"):
        read_conditions("real", INFO, None, 5, 0)
    with pytest.raises(InputError, match="each:N"):
        read_conditions("each:x", INFO, real(), 5, 0)
    (tmp_path / "plan.json").write_text(json.dumps([{"cell": ["organ/left=1"], "number": 1}]))
    with pytest.raises(InputError, match="organ/left"):
        read_conditions(str(tmp_path / "plan.json"), INFO, None, 5, 0)
    with pytest.raises(InputError, match="no real training row with a mask of organ"):
        read_conditions("each:1", INFO, real(), 5, 0, ["organ"])


def test_conditions_of_a_generator_that_draws_from_masks():
    masked = real(12).with_columns({"mask:organ": [f"masks/{i}.png" if i % 3 else "" for i in range(12)]})
    drawn = read_conditions("real", INFO, masked, 16, 0, ["organ"])
    assert list(drawn)[-1] == "mask:organ" and set(drawn["mask:organ"]) == {f"masks/{i}.png" for i in range(12) if i % 3}
    rows = [int(path[6:-4]) for path in drawn["mask:organ"]]
    assert drawn["label:a"].tolist() == [i % 2 for i in rows]  # each mask comes with its own row's labels
    assert len(read_conditions("each:2", INFO, masked, 5, 0, ["organ"])) == 2 * 2  # rows of sex F have none
    table = table_conditions(pd.DataFrame({"a": ["1"], "mask:organ": [" mine.png"]}), INFO, "t.csv")
    assert table["mask:organ"].tolist() == ["mine.png"] and "mask:other" not in table


def findings(rows):
    return pd.DataFrame(rows, columns=["label:caries", "label:implant", "label:crown"]).assign(**{"attribute:sex": "F", "mask:tooth": "m.png"})


@pytest.mark.parametrize("unnamed, other", [("unknown", None), ("absent", 0.0)])
def test_prompts_that_name_one_finding_or_all_leave_the_rest_open_or_absent(unnamed, other):
    nan = float("nan")
    rows = findings([[1, 1, 0], [0, 1, nan], [0, 0, 0], [nan, 0, 0]])
    multi = ask_less(rows, "multi", unnamed, np.random.default_rng(0))
    of = lambda made, k: [None if np.isnan(v) else v for v in made.iloc[k, :3]]  # noqa: E731
    assert of(multi, 0) == [1, 1, other] and of(multi, 1) == [other, 1, other]
    assert of(multi, 2) == [0, 0, 0] and of(multi, 3) == [None, 0, 0]  # nothing to name: as it was
    chosen = set()
    for seed in range(20):
        single = ask_less(rows, "single", unnamed, np.random.default_rng(seed))
        chosen.add(tuple(of(single, 0)))
        assert of(single, 1) == [other, 1, other] and of(single, 2) == [0, 0, 0]
    assert chosen == {(1, other, other), (other, 1, other)}
    assert (single["attribute:sex"] == "F").all() and (single["mask:tooth"] == "m.png").all()
    assert of(rows, 0) == [1, 1, 0]  # untouched


def test_no_prompt_leaves_labels_and_attributes_open_and_masks_alone():
    made = ask_less(findings([[1, 1, 0]]), "none", "unknown", np.random.default_rng(0))
    assert made.iloc[0, :3].isna().all() and made["attribute:sex"][0] == "" and made["mask:tooth"][0] == "m.png"


@pytest.mark.parametrize(("name", "text", "words"), [
    ("c.csv", "", "no table"), ("c.csv", "a,b\n1,0,1,1\n", "more fields"), ("c.csv", "a,b\n1,0\n1,0,1,1\n", "no table"), ("c.csv", "a\n", "conditions of no image"),
    ("c.csv", "a,label:a\n1,0\n", "beside 'a', which says the same"), ("p.json", "null", "a NoneType"), ("p.json", "[]", "of no image"),
    ("p.json", '[{"cell": ["a=1"], "number": -3}]', "the entry"), ("p.json", '[{"cell": ["a=1"], "number": 2.7}]', "the entry"),
    ("p.json", '[{"cell": ["a=1", "a=0"], "number": 1}]', "each class once"),
])
def test_files_that_ask_for_nothing_that_can_be_drawn(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_conditions(str(tmp_path / name), INFO, None, 5, 0)

import json

import pandas as pd
import pytest

from synthrad.data.conditions import (
    each_condition,
    plan_conditions,
    read_conditions,
    real_conditions,
    table_conditions,
)
from synthrad.errors import InputError
from synthrad.records import DatasetInfo, Manifest, empty_columns

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

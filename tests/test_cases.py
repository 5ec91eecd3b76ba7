import pandas as pd
import pytest

from synthrad.cases import CASE_COLUMNS, read_cases, write_cases
from synthrad.errors import InputError


def table(images):
    rows = [{**dict.fromkeys(CASE_COLUMNS, ""), "kind": "segmentation", "seed": 0, "image": i, "subject": f"s{i}",
             "tp": 1, "fp": 0, "fn": 0, "tn": 3, "probability": float("nan"), "target": float("nan"),
             "threshold": float("nan")} for i in images]
    return pd.DataFrame(rows)


def test_order_of_rows_does_not_change_the_bytes(tmp_path):
    write_cases(tmp_path / "a.parquet", table(["x", "y", "z"]))
    write_cases(tmp_path / "b.parquet", table(["z", "x", "y"]))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    both = read_cases([tmp_path / "a.parquet", tmp_path / "b.parquet"])
    assert list(both["image"]) == ["x", "y", "z"] * 2


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(InputError, match="threshold"):
        write_cases(tmp_path / "a.parquet", table(["x"]).drop(columns="threshold"))
    assert not (tmp_path / "a.parquet").exists()

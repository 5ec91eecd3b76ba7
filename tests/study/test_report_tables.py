"""Tables as files: digits that read back, LaTeX that compiles whatever a name holds."""

import io

import pandas as pd

from synthrad.study.tables import Table

ROWS = [("a_b & 50 %", 0.1 + 0.2, None, 3), ("$x$ − ±", float("nan"), -0.0001, 12)]
TABLE = Table("t", "A table", ("arm", "mean", "low", "n"), ROWS)


def test_numbers_read_back_exactly_and_what_is_missing_is_empty():
    back = pd.read_csv(io.StringIO(TABLE.csv()))
    assert list(back) == ["arm", "mean", "low", "n"] and back["mean"][0] == 0.1 + 0.2 and list(back["n"]) == [3, 12]
    assert back["mean"].isna()[1] and back["low"].isna()[0] and back["arm"][1] == "$x$ − ±"


def test_latex_escapes_names_and_rounds():
    text = TABLE.latex()
    assert r"a\_b \& 50 \% & 0.300 & – & 3 \\" in text and r"\$x\$ $-$ $\pm$ & – & 0.000 & 12 \\" in text
    assert r"\begin{tabular}{lrrr}" in text and "\\toprule" in text and text.startswith("% A table")
    assert r"{p{5cm}r}" in Table("t", "t", ("reason", "n"), [("long " * 20, 1)]).latex()


def test_no_rows():
    assert Table("t", "t", ("a", "b"), []).csv() == "a,b\n"

"""The files of a report: tables with a column for each fact, links that lead somewhere, and nothing of an older report."""

import base64
import io

import pandas as pd
import pytest

from synthrad.measurements import Measurement
from synthrad.study import exports
from synthrad.study.exports import (
    arms_table,
    differences_table,
    explored_table,
    figure_links,
    links,
    metrics_table,
    write_files,
)
from synthrad.study.figures import Drawing
from synthrad.study.tables import Table
from synthrad.study.verdicts import Comparison, Comparisons, Endpoint, Verdict
from synthrad.study.views import ArmRow


def frame(table):
    """Read back, a row by its first two cells."""
    return pd.read_csv(io.StringIO(table.csv()), keep_default_na=False, dtype=str)


def comparison(reference, difference, p, **more):
    return Comparison("matched", reference, "dice", difference, difference - 0.125, difference + 0.25, p, 0.5, 5, 40, "downstream seeds", **more)


@pytest.fixture
def comparisons():
    rows = (comparison("real_only", 0.5, 0.01), comparison("duplicate", 0.25, 0.02))
    verdict = Verdict("matched", "gain", rows[1], rows, 0.02, 0.04, 0.1, 0.2, "helped")
    return Comparisons(Endpoint("t", "n", "dice"), (verdict,), "real_only", "downstream seeds", False, False)


def test_an_arm_has_its_rows_mean_spread_and_what_it_could_have_shown():
    arms = [ArmRow("real_only", "RealOnly", "", "reference", 80, 0, by_seed={0: 0.5, 1: 0.75}, detectable=0.125), ArmRow("minimal", "MinimalBalanced", "gan", "adding", 80, 7, "real_only")]
    table = arms_table(arms, "Dice")
    one, two = frame(table).to_dict("records")
    assert table.name == "arms" and "Dice" in table.title
    assert (one["arm"], one["rows real"], one["rows added"], one["same as"], one["seeds"], one["mean"], one["detectable with 90 % power"]) == ("real_only", "80", "0", "", "2", "0.625", "0.125")
    assert float(one["SD"]) == pytest.approx(0.125 * 2**0.5) and (two["same as"], two["source"], two["mean"], two["SD"], two["rows added"]) == ("real_only", "gan", "", "", "7")


def test_every_comparison_has_a_line_with_its_own_p_and_that_of_the_arm(comparisons):
    rows = frame(differences_table(comparisons, False)).set_index("reference")
    assert list(rows.index) == ["real_only", "duplicate"] and set(rows["arm"]) == {"matched"} and set(rows["verdict"]) == {"gain"}
    assert list(rows.loc["duplicate", ["difference", "low", "high", "p (one-sided)", "Holm p of the arm", "seeds", "subjects"]]) == ["0.25", "0.125", "0.5", "0.02", "0.04", "5", "40"]
    assert rows.loc["real_only", "p (one-sided)"] == "0.01" and rows.loc["real_only", "Holm p of the arm"] == "0.04"


def test_a_mechanics_run_has_no_p_and_no_verdict(comparisons):
    table = differences_table(comparisons, True)
    rows = frame(table)
    assert list(rows) == ["arm", "reference", "difference", "low", "high", "verdict", "seeds", "subjects"] and set(rows["verdict"]) == {"no verdict"}
    assert list(rows["seeds"]) == ["5", "5"] and "gain" not in table.csv() + table.latex()


def test_metrics_are_those_of_a_fit_on_the_whole_set():
    base = {"task": "t", "net": "n", "arm": "real_only", "seed": 3}
    rows = [Measurement("ece", 0.5, 0.25, 0.75, 40, class_name="caries", subgroup="sex=f", note="why", **base), Measurement("dice", None, **base), Measurement("dice", 0.5, subject="s1", **base),
            Measurement("dice_difference", 0.1, **base)]
    one, two = frame(metrics_table(rows)).to_dict("records")
    assert one == {"task": "t", "net": "n", "subgroup": "sex=f", "class": "caries", "metric": "ECE", "arm": "real_only", "seed": "3", "value": "0.5", "low": "0.25", "high": "0.75",
                   "n": "40", "note": "why"}  # fmt: skip
    assert (two["metric"], two["value"]) == ("Dice", "")


def test_an_exploratory_difference_names_its_test_set():
    own, clinic = frame(explored_table([comparison("real_only", 0.5, None, task="t", net="n"), comparison("real_only", 0.25, None, task="t", net="n", external="clinic")])).to_dict("records")
    assert own == {"task": "t", "net": "n", "test set": "own", "metric": "Dice", "class": "macro", "arm": "matched", "difference": "0.5", "low": "0.375", "high": "0.75", "subjects": "40"}
    assert clinic["test set"] == "clinic"


def test_no_rows_are_tables_with_heads():
    empty = Comparisons(Endpoint("t", "n", "dice"), (), "real_only", "downstream seeds", False, False)
    for table in (arms_table([], "Dice"), differences_table(empty, False), metrics_table([]), explored_table([])):
        assert table.csv() == ",".join(table.columns) + "\n" and table.latex()


def table_of(letters, name="costs"):
    return Table(name, "Costs", ("what",), [("é" * letters,)])


def decoded(link):
    head, _, body = link["href"].partition(",")
    return head, base64.b64decode(body).decode()


def test_small_files_are_inside_the_report_and_large_ones_beside_it(monkeypatch):
    table = table_of(3)
    csv, tex = links(table)
    assert decoded(csv) == ("data:text/csv;base64", table.csv()) and decoded(tex) == ("data:application/x-tex;base64", table.latex())
    assert [(x["text"], x["file"]) for x in (csv, tex)] == [("CSV", "costs.csv"), ("LaTeX", "costs.tex")]
    size = len(table_of(60).csv().encode())
    monkeypatch.setattr(exports, "INLINE", size)
    assert links(table_of(60), ("csv",))[0]["href"].startswith("data:")
    assert links(table_of(61), ("csv",), "elsewhere") == [{"text": "CSV", "href": "elsewhere/costs.csv", "file": "costs.csv"}]  # as bytes it is too long, as letters it is not
    assert links(table_of(61))[1]["href"] == "tables/costs.tex"


def drawing(name="forest"):
    return Drawing(b"<svg/>", "alt", "caption", table_of(2, name))


def test_a_figure_has_its_svg_beside_the_report_and_its_numbers_in_it(monkeypatch):
    svg, csv = figure_links(drawing())
    assert svg == {"text": "SVG", "href": "figures/forest.svg", "file": "forest.svg"} and decoded(csv)[1] == drawing().table.csv()
    monkeypatch.setattr(exports, "INLINE", 0)
    assert figure_links(drawing())[1]["href"] == "figures/forest.csv"


def test_files_are_written_where_links_lead_and_those_of_an_older_report_go(tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "INLINE", 0)
    write_files(tmp_path, [drawing("old")], {"older": table_of(1, "older")})
    for name in ("figures/mine.txt", "tables/mine.png", "tables/sub.csv/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("not ours")
    table = table_of(5)
    made = write_files(tmp_path, [drawing()], {"costs": table})
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    mine = {"figures/mine.txt", "tables/mine.png", "tables/sub.csv/x"}
    assert found - mine == {"figures/forest.svg", "figures/forest.csv", "tables/costs.csv", "tables/costs.tex"} == {p.relative_to(tmp_path).as_posix() for p in made}
    assert mine <= found and all((tmp_path / x["href"]).is_file() for x in (*links(table), *figure_links(drawing())))
    assert (tmp_path / "figures/forest.svg").read_bytes() == b"<svg/>" and (tmp_path / "figures/forest.csv").read_text() == drawing().table.csv()
    assert (tmp_path / "tables/costs.csv").read_text() == table.csv() and (tmp_path / "tables/costs.tex").read_text() == table.latex()
    write_files(tmp_path, [], {})
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()} == mine

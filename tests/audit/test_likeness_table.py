"""Fidelity, diversity and novelty as text: each number beside its null, with what is missing said in words."""

from dataclasses import replace

import pytest

from synthrad.audit.likeness import Likeness
from synthrad.audit.likeness_table import GROUPED, told


def row(metric, value, null, group="", space="radiomics", **more):
    """Synthetic value with an interval of +-0.1, null with one of +-0.2."""
    return Likeness(metric, value, value - 0.1, value + 0.1, null, null - 0.2, null + 0.2, 40, 30, 25, "0", space=space, group=group, **more)


KID = row("kid", 0.75, 0.25, detail="not shown")  # intervals [0.65, 0.85] and [0.05, 0.45] do not meet
CMMD = row("cmmd", 0.5, 0.4, detail="Gaussian kernel")


def line_of(text, start):
    (found,) = (line for line in text.splitlines() if line.startswith(start))
    return found


def test_a_line_holds_value_null_and_how_many_each_in_its_place():
    said = told([KID, CMMD])
    assert line_of(said, "  KID").split() == ["KID", "0.75", "[0.65,", "0.85]*", "40", "0.25", "[0.05,", "0.45]", "30", "0"]
    assert line_of(said, "  CMMD ").split() == ["CMMD", "0.5", "[0.4,", "0.6]", "40", "0.4", "[0.2,", "0.6]", "30", "0"]
    head = said.splitlines()[1]
    for name, number in (("synthetic", "0.85]"), ("real images (null)", "0.45]")):  # columns end together
        assert head.index(name) + len(name) == line_of(said, "  KID").index(number) + len(number)
    assert "  CMMD: Gaussian kernel" in said and "not shown" not in said


def test_every_space_is_told_apart_and_one_without_numbers_says_why():
    said = told([KID, replace(KID, space="structure", value=0.125), Likeness("all", space="task net", reason="no labels")]).splitlines()
    assert [line.split(" by ")[1].split(":")[0] for line in said if line.startswith("fidelity,")] == ["radiomics", "structure", "task net"]
    assert said[-1] == "fidelity, diversity and novelty by task net: not tested: no labels"
    assert [line.split()[1] for line in said if line.startswith("  KID")] == ["0.75", "0.125"]


def test_metrics_stand_under_what_they_are_about_and_what_was_not_tested_says_why():
    rows = [KID, row("vendi", 3.0, 4.0), row("fld_gap", 1.0, 1.0, detail="20 centres"), Likeness("copying_c_t", space="radiomics", reason="too few " * 20)]
    said = told(rows).splitlines()
    order = [said.index(x) for x in ("fidelity", "diversity", "novelty")]
    assert order == sorted(order) and order[0] < said.index(line_of(told(rows), "  KID")) < order[1] < said.index(line_of(told(rows), "  Vendi")) < order[2]
    at = next(k for k, line in enumerate(said) if "C_T (copying)" in line)
    assert "not tested: too few" in said[at] and max(map(len, said)) <= 150 and said[at + 1].startswith(" " * 22 + "too") or "few" in said[at + 1]
    assert said[-1] == "  FLD-style gap: 20 centres"


def test_classes_and_subgroups_have_a_line_each_with_the_null_in_brackets():
    mine = [row(m, v, v + n, "caries") for m, v, n in zip(GROUPED, (0.1, 0.2, 0.3), (0.05, 0.5, 0.05), strict=True)]
    said = told([KID, *reversed(mine), Likeness("all", space="radiomics", group="sex=f", reason="needs 20")])
    assert line_of(said, "  caries").split() == ["caries", "40", "0.1", "[0,", "0.2]", "(0.15)", "0.2", "[0.1,", "0.3]", "(0.7)*", "0.3", "[0.2,", "0.4]", "(0.35)"]
    names = line_of(said, " " * 20 + "    n").replace("MS-SSIM within", "MS-SSIM").split()
    assert names == ["n", "KID", "coverage", "MS-SSIM"]
    assert line_of(said, "  sex=f").split(maxsplit=1) == ["sex=f", "not tested: needs 20"]
    assert line_of(said, "  KID").split()[1] == "0.75"  # of all images
    assert "classes and subgroups" not in told([KID])
    untold = Likeness("all", space="radiomics", group="classes and subgroups", reason="they tell none")
    assert told([KID, untold]).splitlines()[-1] == "classes and subgroups: not tested: they tell none"


def test_numbers_that_are_not_defined_are_words_in_each_place():
    """As a record has them, which turns NaN to None."""
    nan = float("nan")
    bare = replace(KID, low=None, high=None, null_low=None, null_high=None)
    assert line_of(told([bare]), "  KID").split() == ["KID", "0.75", "40", "0.25", "30", "0"]
    hollow = replace(KID, value=nan, low=nan, high=nan, null=nan, null_low=nan, null_high=nan)
    for one in (hollow, hollow.to_dict()):
        assert line_of(told([one]), "  KID").split() == ["KID", "undefined", "40", "undefined", "30", "0"]
        group = [{**(one if isinstance(one, dict) else one.to_dict()), "metric": m, "group": "caries"} for m in GROUPED]
        assert line_of(told([KID, *group]), "  caries").split() == ["caries", "40", *["undefined", "(undefined)"] * 3]


@pytest.mark.parametrize(("value", "printed"), [(1234.4, "1234"), (-1234.4, "-1234"), (999.7, "1000"), (-999.7, "-1000"), (999.4, "999"), (0.00123456, "0.00123"), (0.0, "0")])
def test_three_digits_and_no_powers_of_ten_where_whole_numbers_do(value, printed):
    assert line_of(told([replace(KID, value=value, low=None, high=None)]), "  KID").split()[1] == printed

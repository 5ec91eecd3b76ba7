"""Accept rates of subgroups from filter logs, summed over rounds and draws."""

import pytest
from statsmodels.stats.proportion import proportion_confint

from synthrad.study.acceptance import accept_rates


def log(women, men, caries):
    return {"filter": "F", "kept": 0, "per_subgroup": {"sex=F": women, "sex=M": men}, "per_class": {"caries": caries}}


def n(kept, rejected):
    return {"kept": kept, "rejected": rejected}


def test_rates_over_rounds_and_draws():
    logs = {"gan": [[log(n(10, 30), n(45, 5), n(1, 0)), log(n(10, 30), n(45, 5), n(1, 0))], [log(n(0, 0), n(10, 0), n(0, 0))]],
            "plain": [[], []]}
    found = {(r.attribute, r.group): r for r in accept_rates(logs)}
    women, men = found["sex", "F"], found["sex", "M"]
    assert (women.kept, women.drawn, men.kept, men.drawn) == (20, 80, 100, 110)
    assert (women.low, women.high) == pytest.approx(proportion_confint(20, 80, 0.05, "wilson"))
    assert women.ratio == pytest.approx(0.25 / (100 / 110)) and women.lowest and men.ratio == 1.0 and not men.lowest
    assert found["finding", "caries"].ratio is None and not found["finding", "caries"].lowest  # nothing to compare with
    assert {r.source for r in found.values()} == {"gan"}


def test_equal_rates_and_few_images_are_not_called():
    even = accept_rates({"gan": [log(n(40, 10), n(42, 10), n(0, 3))]})
    assert not any(r.lowest for r in even)
    few = {r.group: r for r in accept_rates({"gan": [log(n(0, 5), n(80, 20), n(0, 0))]})}
    assert few["F"].rate == 0 and few["F"].ratio is None and not few["F"].lowest and "caries" not in few

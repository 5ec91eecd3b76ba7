import pytest

from synthrad.audit.rungs import Rung, gate, judge
from synthrad.errors import InputError


def rung(name="copies/images", p=0.5, rate=1.0, **more):
    return Rung(name, p, power={"exact": {1: 0.2, 5: 1.0}, "shifted": {1: 0.1, 5: rate}}, claims=("exact", "shifted"), planted=5, **more)


def test_verdicts():
    passed, weak, failed, certain, absent = judge([rung(), rung("weak", 0.9, 0.7), rung("leak", 0.001), rung("twin", 0.9, certain="12 are copies"),
                                                   Rung("none", reason="no masks")])
    assert passed.verdict == "pass" and passed.adjusted == 1
    assert weak.verdict == "inconclusive" and "5 patients planted as shifted copies" in weak.reason and "70%" in weak.reason
    assert failed.verdict == "fail" and failed.adjusted == pytest.approx(0.004)  # of four
    assert certain.verdict == "fail" and certain.reason.startswith("12 are copies")
    assert absent.verdict == "not tested" and absent.adjusted is None
    assert judge([rung("leak", 0.04)])[0].verdict == "fail" and judge([rung("leak", 0.04), rung()])[0].verdict == "pass"


def test_what_was_left_out_is_no_pass():
    assert judge([rung(gap="5 were not compared")])[0].verdict == "inconclusive"
    assert judge([Rung("bare", 0.5)])[0].verdict == "inconclusive" and gate([], "", {}) == ["no rung was tried"]


def test_a_leak_that_is_seen_fails_whatever_the_power():
    assert judge([rung(p=0.001, rate=0.0)])[0].verdict == "fail"


def test_an_attack_that_may_be_good_is_no_pass():
    near, far = judge([rung(auc=(0.51, 0.44, 0.58)), rung("far", auc=(0.55, 0.46, 0.64))])
    assert near.verdict == "pass" and far.verdict == "inconclusive" and "as high as 0.64" in far.reason
    assert Rung.from_dict(near.to_dict()) == near


def test_the_gate_opens_for_what_passed_or_was_accepted_by_name():
    rungs = judge([rung(), rung("weak", 0.9, 0.1), Rung("none")])
    assert gate(rungs, "", {}) == ["weak: inconclusive", "none: not tested"]
    assert gate(rungs, "", {"weak": "a pilot", "none": "no masks"}) == []
    assert gate(rungs, "unknown maker", {"weak": "a pilot", "none": "no masks"}) == ["lineage: unknown maker"]
    with pytest.raises(InputError, match="'week'; expected one of"):
        gate(rungs, "", {"week": "a"})
    with pytest.raises(InputError, match="none without a reason"):
        gate(rungs, "", {"none": " "})


def test_a_record_gives_the_rung_back():
    made = judge([rung(facts={"auc": 0.5})])[0]
    assert Rung.from_dict(made.to_dict()) == made

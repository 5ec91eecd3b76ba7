"""From a decision to words: which call, which sentence, and what is left unsaid."""

import numpy as np
import pytest

from synthrad.statistics.layouts import Layout, two_way
from synthrad.study.verdicts import Comparison, Decision, Endpoint, replacing_verdict_of, verdict_of

END = Endpoint("t", "n", "dice", smallest_relevant=0.02, margin=0.05)
REFERENCE = "real_only"


def layout(effect: float, seeds: int = 5, subjects: int = 40) -> Layout:
    return two_way(effect + np.random.default_rng(0).normal(0, 0.02, (seeds, subjects)))


def row(x: Layout, reference: str = REFERENCE, **more) -> Comparison:
    low, high = x.interval() or (None, None)
    plain = {"difference": x.value, "low": low, "high": high, "p_gain": None, "p_seeds_t": None, "seeds": x.seeds,
             "subjects": x.subjects}  # fmt: skip
    return Comparison("arm", reference, "dice", generalises_over="downstream seeds", task="t", net="n", **plain | more)


def judged(call: str, x: Layout, silence: str = "", **more):
    rows = {REFERENCE: row(x, **more), "copies": row(x, "copies", **more)}
    decision = Decision(call, "copies", 0.01, 0.02)
    return verdict_of("arm", decision, rows, dict.fromkeys(rows, x), END, REFERENCE, silence, arms=1)


@pytest.mark.parametrize(
    ("call", "effect", "found", "words"),
    [
        ("gain", 0.06, "gain", "over real_only and its control (least over copies), Holm p = 0.020: gain"),
        ("gain", 0.022, "gain", "it may be below the smallest relevant difference"),
        ("open", 0.0, "no relevant gain", "(0.02 is ruled out)"),
        ("open", 0.019, "no gain shown", ": no gain shown;"),
        ("harm", -0.06, "harm", "against real_only: harm (the whole interval is below 0)"),
    ],
)
def test_calls_and_their_words(call, effect, found, words):
    v = judged(call, layout(effect))
    assert v.call == found and words in v.words and "90 % power" in v.words
    assert v.detectable_80 < v.detectable_90


def test_a_one_sided_gain_beside_an_interval_that_reaches_0():
    assert "the two-sided interval reaches 0" in judged("gain", layout(0.03), low=-0.001, high=0.06).words


def test_silence_has_no_p_and_no_power():
    for v in (judged("gain", layout(0.06), "UNDERTRAINED, no verdict"),
              replacing_verdict_of(row(layout(0.0)), layout(0.0), None, None, END, "UNDERTRAINED, no verdict")):  # fmt: skip
        assert v.call == "no verdict" and v.p is None and v.p_holm is None and v.words.endswith(": UNDERTRAINED, no verdict")
        assert v.detectable_80 is None and v.detectable_90 is None


def test_why_there_is_no_verdict():
    assert "4 seeds, fewer than 5" in judged("none", layout(0.06, seeds=4)).words
    few = layout(0.06, subjects=9)
    assert "9 test subjects, fewer than 10" in judged("none", few).words and judged("none", few).detectable_90 is None


def test_replacing_arms():
    def call(x, p):
        return replacing_verdict_of(row(x), x, p, p, END, "")

    assert call(layout(0.0), 0.001).call == "as good as real" and "TOST p = 0.001" in call(layout(0.0), 0.001).words
    assert call(layout(-0.2), 0.9).call == "harm"
    assert call(layout(0.0), 0.2).call == "not shown as good as real"
    assert call(layout(0.0, seeds=4), None).call == "no verdict"


def test_a_difference_as_a_measurement_says_what_it_holds_for():
    m = row(layout(0.06), class_name="caries", external="clinic", note="odd").measurement()
    assert (m.metric, m.n, m.unit, m.subgroup) == ("dice_difference", 40, "subject", "external:clinic")
    assert m.note == "arm minus real_only; interval over test subjects and downstream seeds; odd"

"""The verdict section: one sentence for the study, and why an arm gets no verdict."""

from dataclasses import replace

import pytest

from synthrad.study.cards import cards, headline
from synthrad.study.verdicts import Comparison, Comparisons, Endpoint, Verdict

END = Endpoint("t", "n", "dice")


def verdict(arm: str, call: str, **more) -> Verdict:
    plain = {"difference": 0.1, "low": 0.0, "high": 0.2, "p_gain": None, "p_seeds_t": None, "seeds": 5, "subjects": 40,
             "generalises_over": "downstream seeds"}  # fmt: skip
    row = Comparison(arm, "real_only", "dice", **plain | more)
    return Verdict(arm, call, row, (row,), None, None, None, None, f"{arm}: numbers")


def study(*verdicts: Verdict, **more) -> Comparisons:
    return Comparisons(END, verdicts, "real_only", "downstream seeds", **{"undertrained": False, "mechanics": False} | more)


ARMS = [{"arm": "alone", "strategy": "SyntheticOnly"}, {"arm": "a", "strategy": "Matched"}, {"arm": "b", "strategy": "Matched"}]


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        ([("a", "gain"), ("b", "gain")], "Adding synthetic images helped in 2 of 2 arms (a, b)."),
        ([("a", "no gain shown"), ("b", "harm")], "Adding synthetic images was not shown to help in any of 2 arms, and did harm in 1 (b)."),
        ([("a", "no relevant gain"), ("alone", "as good as real")],
         "Adding synthetic images was not shown to help in the one arm; synthetic images alone were as good as the real ones (alone)."),
        ([("alone", "harm")], "Synthetic images alone were worse than the real ones (alone)."),
        ([], ""),
    ],
)  # fmt: skip
def test_headline(verdicts, words):
    assert headline(study(*(verdict(a, c) for a, c in verdicts)), ARMS, False) == words


def test_headline_where_nothing_is_judged():
    none = study(verdict("a", "no verdict"))
    assert headline(none, ARMS, True) == "1 arm with synthetic images ran from the data to the test; none is judged."
    assert "from twice the steps" in headline(replace(none, undertrained=True), ARMS, False)
    assert headline(replace(none, floor="no arm segments anything"), ARMS, False) == "No verdict on any arm: no arm segments anything."


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"seeds": 4}, "4 seeds, fewer than 5"),
        ({"subjects": 9, "low": None}, "9 test subjects, fewer than 10"),
        ({"low": None, "note": "12% of the resamples undefined: no interval"}, "12% of the resamples undefined: no interval"),
    ],
)
def test_a_card_says_why_there_is_no_verdict(more, why):
    found = study(verdict("a", "no verdict", **more))
    assert cards(found, ARMS[1:2], False)[0]["words"] == f"No verdict: {why}."
    assert why in headline(found, ARMS, False)

"""The three sentences: every claim with its number, and nothing safe that was not shown to be."""

from dataclasses import replace

from synthrad.measurements import Measurement
from synthrad.study.audits import SetAudit
from synthrad.study.sentences import helped, open_questions, shareable
from synthrad.study.verdicts import Comparison, Comparisons, Endpoint, Verdict

END = Endpoint("t", "n", "dice")


def comparison(arm, difference, reference="real_only") -> Comparison:
    return Comparison(arm, reference, "dice", difference, difference - 0.01, difference + 0.01, None, None, 5, 40, "downstream seeds", "t", "n")


def verdict(arm, call, difference, *controls) -> Verdict:
    rows = (comparison(arm, difference), *(comparison(arm, d, f"control{k}") for k, d in enumerate(controls)))
    hardest = min(rows, key=lambda c: c.difference)
    return Verdict(arm, call, hardest, rows, 0.01, 0.02, 0.01, 0.02, "")


def compared(*verdicts, **more) -> Comparisons:
    return Comparisons(END, tuple(verdicts), "real_only", "downstream seeds", **{"undertrained": False, "mechanics": False} | more)


def rung(name, verdict) -> dict:
    return {"name": name, "verdict": verdict, "p": None, "certain": "", "reason": "", "gap": "", "power": {}, "claims": [], "planted": 0, "facts": {},
            "auc": None, "adjusted": None}


def audit(source="gan", banner="", **verdicts) -> SetAudit:
    return SetAudit(source, 0, "synthrad audit", record={"rungs": [rung(k, v.replace("_", " ")) for k, v in verdicts.items()], "banner": banner, "images": 9})


def test_a_gain_is_told_by_its_hardest_comparison_and_a_harm_by_its_own():
    text = helped(compared(verdict("matched", "gain", 0.06, 0.05, 0.03), verdict("bad", "harm", -0.08)), [], False)
    assert text == ("Adding synthetic images helped in 1 of 2 arms (matched), and did harm in 1 (bad): matched by at least Dice +0.030 [0.020, 0.040] against "
                    "control1; bad Dice -0.080 [-0.090, -0.070] against real_only.")


def test_the_largest_of_several_is_said_to_be_that():
    found = compared(verdict("a", "no gain shown", 0.004), verdict("b", "no relevant gain", 0.002))
    assert helped(found, [], False).endswith("not shown to help in any of 2 arms: the largest of 2 differences is that of a, Dice +0.004 [-0.006, 0.014] against real_only.")


def test_where_nothing_is_judged_no_number_is_claimed():
    made = verdict("a", "no verdict", 0.3)
    assert "+0.3" not in helped(compared(made, mechanics=True), [], True) and "+0.3" not in helped(compared(made, undertrained=True), [], False)
    assert "was not asked" in helped(compared(), [], False)


def test_safe_is_said_only_where_all_was_passed():
    assert shareable([audit(copies="pass", membership="pass")], True) == (
        "These attacks found nothing, which is no proof that a patient cannot be recognised: the set gan passed all 2 rungs of its audit.")
    assert shareable([audit(copies="pass", membership="not_tested")], True) == (
        "Not shown: the set gan is not shown to be safe (1 of 2 rungs passed, 1 not tested).")
    assert shareable([audit(banner="trust me", copies="pass")], True).startswith("Not shown: ") and not audit(banner="trust me", copies="pass").passed
    assert not replace(audit(copies="pass"), same_data=False).passed
    mixed = shareable([audit("a", copies="pass"), SetAudit("b", 0, "x"), audit("c", copies="fail", masks="pass")], True)
    assert mixed == "No: the set c FAILED its audit (copies); the set b was not audited; the set a passed all 1 rungs of its audit."
    assert shareable([SetAudit("a", 0, "x"), SetAudit("b", 0, "x")], True) == "Unknown: the sets a, b were not audited."
    assert "anonymous" not in mixed
    near = shareable([audit(copies="pass"), SetAudit("b", 0, "x")], True, ["b"])
    assert near.startswith("Not as it looks, the set b holds near copies of training images: the set b was not audited; ")


def test_what_is_open_follows_from_what_was_done():
    rows = [Measurement("dice", 0.5, task="t", net="n", arm="a")]
    text = open_questions(rows, [audit(copies="pass", membership="not_tested"), SetAudit("b", 0, "x")], "downstream seeds", False)
    assert text.startswith("Images of another hospital; another network; another split or another training of the generator")
    assert "what these attacks on privacy would find: membership; the privacy of 1 synthetic set; any use" in text
    assert "the privacy of the synthetic set;" in open_questions(rows, [SetAudit("b", 0, "x")], "downstream seeds", False)
    more = [*rows, replace(rows[0], net="m"), replace(rows[0], subgroup="external:site")]
    text = open_questions(more, [], "pipeline", True)
    assert text == "Any effect of an arm, this being a mechanics run; any use for a reader or a patient."

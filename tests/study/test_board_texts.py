"""Answers, verdicts and audits as Markdown whose cells are text."""

from types import SimpleNamespace

import pytest

from synthrad.audit.rungs import Rung
from synthrad.study import sentences
from synthrad.study.audits import SetAudit
from synthrad.study.board_events import markdown_table
from synthrad.study.board_texts import audit_text, texts


def test_an_audit_is_a_table_of_rungs():
    rung = Rung("copies", 0.01, reason="3 of 5 | <b>", adjusted=0.02, verdict="fail")
    record = {"rungs": [rung.to_dict()], "banner": "", "set_digest": "x"}
    text = audit_text(SetAudit("gan", 1, "", record=record))
    assert text.startswith("The set gan, draw 1 FAILED its audit (copies).")
    assert "| copies | fail | 0.020 |" in text and "3 of 5 &#124; &lt;b&gt; |" in text
    assert markdown_table(("a_b", "c"), [("1", "2")]) == "| a\\_b | c |\n| --- | --- |\n| 1 | 2 |"


def facts(**more):
    verdict = SimpleNamespace(arm="matched_half", call="gain", words="Helped <b>")
    comparisons = SimpleNamespace(verdicts=(verdict,), why_silent="", mechanics=False, generalises_over="downstream seeds")
    comparisons.__dict__.update(more.pop("comparisons", {}))
    return SimpleNamespace(**{"mechanics": False, "comparisons": comparisons, "arms": [{"source": None}, {"source": "gan"}], "audits": (), "near_copies": (),
                              "measurements": (), "banners": ()} | more)


@pytest.fixture(autouse=True)
def headline(monkeypatch):
    """What helped is told elsewhere; here it says whether it was asked for mechanics."""
    monkeypatch.setattr(sentences, "helped", lambda comparisons, arms, mechanics: "only *mechanics*" if mechanics else "a_b helped")


def test_answers_name_what_helped_what_may_be_shared_and_what_is_open():
    said = texts(facts(banners=["lineage_unknown", "of <gan>"]))
    assert list(said) == ["1 answers", "2 verdicts"]
    helped, safe, open_, *banners = said["1 answers"].split("\n\n")
    assert helped == "**What helped?** a\\_b helped" and safe == "**Safe to share?** Not audited."
    assert open_.startswith("**Not tested** Images of another hospital; another split") and banners == ["lineage\\_unknown", "of &lt;gan&gt;"]
    assert "There is no synthetic set to share." in texts(facts(arms=[{"source": None}]))["1 answers"]


def test_verdicts_are_a_table_and_silence_has_its_reason():
    assert texts(facts())["2 verdicts"] == "| arm | verdict | in words |\n| --- | --- | --- |\n| matched\\_half | gain | Helped &lt;b&gt; |"
    silent = texts(facts(comparisons={"why_silent": "net_a learned nothing"}))["2 verdicts"]
    assert silent.startswith("No verdict: net\\_a learned nothing.\n\n| arm |")
    assert "2 verdicts" not in texts(facts(comparisons={"verdicts": ()}))


@pytest.mark.parametrize("where", ["facts", "comparisons"])
def test_mechanics_are_told_wherever_they_are_noted(where):
    said = texts(facts(mechanics=True) if where == "facts" else facts(comparisons={"mechanics": True}))["1 answers"]
    assert "only \\*mechanics\\*" in said and "this being a mechanics run" in said


def test_each_set_has_its_audit_and_notes_come_last():
    sets = [SetAudit("gan", 0, "synthrad audit it_now"), SetAudit("gan", 1, "synthrad audit again", refused="runs/a_b: changed")]
    said = texts(facts(audits=sets), ["curve of a_b: too few"])
    assert list(said) == ["1 answers", "2 verdicts", "audit/gan", "audit/gan, draw 1", "3 not shown"]
    assert said["3 not shown"] == "- curve of a\\_b: too few"
    assert said["audit/gan"] == "The set gan was not audited.\n\n\n\n    synthrad audit it_now"  # indented: a command is shown as it is typed
    assert said["audit/gan, draw 1"] == "The set gan, draw 1 has no audit that can be believed.\n\nruns/a\\_b: changed\n\n    synthrad audit again"

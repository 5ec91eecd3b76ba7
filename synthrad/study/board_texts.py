"""TensorBoard's text tab: the answers and verdicts of the report, and the audit of each synthetic set, rung by rung."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from synthrad.study import audits, sentences
from synthrad.study.audits import SetAudit
from synthrad.study.board_events import escaped, markdown_table
from synthrad.study.tables import printed

if TYPE_CHECKING:
    from synthrad.study.report import ReportFacts


def texts(facts: ReportFacts, notes: Sequence[str] = ()) -> dict[str, str]:
    """Tag -> Markdown.

    Args:
        notes: what TensorBoard does not show, and why.
    """
    found = {"1 answers": _answers(facts), "2 verdicts": _verdicts(facts)}
    found |= {f"audit/{a.where}": audit_text(a) for a in facts.audits}
    if notes:
        found["3 not shown"] = "\n".join(f"- {escaped(n)}" for n in notes)
    return {tag: text for tag, text in found.items() if text}


def _answers(facts: ReportFacts) -> str:
    mechanics = facts.mechanics or facts.comparisons.mechanics
    drawn = any(a.get("source") for a in facts.arms)
    said = {
        "What helped?": sentences.helped(facts.comparisons, facts.arms, mechanics),
        "Safe to share?": sentences.shareable(facts.audits, drawn, facts.near_copies),
        "Not tested": sentences.open_questions(facts.measurements, facts.audits, facts.comparisons.generalises_over, mechanics),
    }
    return "\n\n".join([*(f"**{head}** {escaped(text)}" for head, text in said.items()), *(escaped(b) for b in facts.banners)])


def _verdicts(facts: ReportFacts) -> str:
    judged = facts.comparisons.verdicts
    why = facts.comparisons.why_silent
    head = f"No verdict: {escaped(why)}.\n\n" if why else ""
    return head + markdown_table(("arm", "verdict", "in words"), [(v.arm, v.call, v.words) for v in judged]) if judged else ""


def audit_text(audit: SetAudit) -> str:
    """What the audit says of a set, and its ladder; without one, the command that makes it."""
    text = escaped(f"The set {audit.where} {audit.says}.")
    if audit.record is None:
        return f"{text}\n\n{escaped(audit.refused)}\n\n    {audit.command}"
    ladder = audits.ladder(audit)
    return f"{text}\n\n{markdown_table(ladder.columns, [[printed(cell) for cell in row] for row in ladder.rows])}"

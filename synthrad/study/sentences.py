"""The three sentences at the top of the report: what helped and by how much, whether it is safe to share, what was not tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthrad.measurements import Measurement
from synthrad.study.audits import SetAudit
from synthrad.study.cards import headline
from synthrad.study.verdicts import Comparison, Comparisons, Verdict

MOST = 3  # arms or sets that a sentence names; the rest is counted


def helped(comparisons: Comparisons, arms: Sequence[Mapping[str, Any]], mechanics: bool) -> str:
    """What helped, and by how much: the headline, with the differences behind each claim.

    A gain is told by the comparison that is hardest for it. Where nothing helped, the largest difference is told, and said to be that.
    """
    text = headline(comparisons, arms, mechanics)
    judged = comparisons.verdicts
    if not text:
        return "No arm of this study adds or replaces rows with synthetic ones, so whether they help was not asked."
    if mechanics or comparisons.why_silent or all(v.call == "no verdict" for v in judged):
        return text
    told = [f"{v.arm} by at least {_span(v.hardest)}" if len(v.comparisons) > 1 else f"{v.arm} by {_span(v.hardest)}" for v in judged if v.call == "gain"]
    told += [f"{v.arm} {_span(c)}" for v in judged if v.call in ("harm", "as good as real", "not shown as good as real")
             and (c := _against(v, comparisons.reference))]
    adding = [(c, v) for v in judged if v.call in ("no relevant gain", "no gain shown") and (c := _against(v, comparisons.reference))]
    if adding and not any(v.call == "gain" for v in judged):
        best, arm = max(adding, key=lambda pair: pair[0].difference)
        told.append(f"the largest of {len(adding)} differences is that of {arm.arm}, {_span(best)}" if len(adding) > 1 else f"{arm.arm} {_span(best)}")
    more = f" and {len(told) - MOST} more, see below" if len(told) > MOST else ""
    return f"{text.removesuffix('.')}: {'; '.join(told[:MOST])}{more}." if told else text


def shareable(audits: Sequence[SetAudit], drawn: bool, near_copies: Sequence[str] = ()) -> str:
    """Whether the synthetic sets may be shared, as far as audits tell; the worst first.

    Args:
        drawn: whether the study has synthetic sets at all. near_copies: sources that lie closer to training images than test patients do.
    """
    if not audits:
        return "Not audited." if drawn else "There is no synthetic set to share."
    worst = sorted(audits, key=_badness)
    said: dict[str, list[str]] = {}
    for a in worst:
        said.setdefault(a.says, []).append(a.where)
    told = [f"{_listed(names)} {words if len(names) == 1 else _plural(words)}" for words, names in said.items()]
    if any(a.of_verdict("fail") for a in audits):
        answer = "No"
    elif near_copies:
        answer = f"Not as it looks, {_listed(near_copies)} {'holds' if len(near_copies) == 1 else 'hold'} near copies of training images"
    elif all(a.passed for a in audits):
        answer = "These attacks found nothing, which is no proof that a patient cannot be recognised"
    elif all(a.record is None for a in audits):
        answer = "Unknown"
    else:
        answer = "Not shown"
    return f"{answer}: {'; '.join(told)}."


def open_questions(measurements: Sequence[Measurement], audits: Sequence[SetAudit], generalises_over: str, mechanics: bool) -> str:
    """What was not tested, in one sentence; the whole list stands at the end of the report."""
    open_ = ["any effect of an arm, this being a mechanics run"] if mechanics else []
    if not any(m.subgroup.startswith("external:") for m in measurements):
        open_.append("images of another hospital")
    nets: dict[str, set[str]] = {}
    for m in measurements:
        nets.setdefault(m.task, set()).add(m.net)
    if nets and all(len(n) == 1 for n in nets.values()):
        open_.append("another network")
    if generalises_over == "downstream seeds":
        open_.append("another split or another training of the generator")
    missing = list(dict.fromkeys(name for a in audits for name in a.of_verdict("not tested")))
    if missing:
        open_.append(f"what these attacks on privacy would find: {', '.join(missing)}")
    if any(a.record is None for a in audits):
        unaudited = sum(a.record is None for a in audits)
        which = "the" if len(audits) == 1 else "all" if unaudited == len(audits) else str(unaudited)
        open_.append(f"the privacy of {which} synthetic set{'' if unaudited == 1 else 's'}")
    open_.append("any use for a reader or a patient")
    text = "; ".join(open_)
    return f"{text[0].upper()}{text[1:]}."


def _span(c: Comparison) -> str:
    return c.words


def _against(v: Verdict, reference: str) -> Comparison | None:
    return next((c for c in v.comparisons if c.reference == reference), None)


def _badness(audit: SetAudit) -> int:
    return 0 if audit.of_verdict("fail") else 1 if audit.record is None else 2 if not audit.passed else 3


def _listed(names: Sequence[str]) -> str:
    shown = [f"the set {names[0]}"] if len(names) == 1 else [f"the sets {', '.join(names[:MOST])}"]
    return shown[0] + (f" and {len(names) - MOST} more" if len(names) > MOST else "")


def _plural(words: str) -> str:
    for one, many in (("was ", "were "), ("has no", "have no"), ("is ", "are "), ("its ", "their ")):
        words = words.replace(one, many)
    return words

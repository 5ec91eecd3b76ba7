"""The verdict section of the report: one sentence for the study, then a card for each arm that adds or replaces rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from synthrad.study.verdicts import Comparisons, Verdict, why_none
from synthrad.study.views import arm_name, role_of

CALLS = {  # Verdict.call -> look of its card
    "gain": "gain",
    "as good as real": "gain",
    "harm": "harm",
    "no relevant gain": "no_gain",
    "no gain shown": "no_gain",
    "not shown as good as real": "no_gain",
    "no verdict": "not_tested",
    "contaminated": "not_tested",
}


def headline(comparisons: Comparisons, arms: Sequence[Mapping[str, Any]], mechanics: bool) -> str:
    """What the study says as a whole, in one sentence; "" where no arm was compared."""
    judged = comparisons.verdicts
    if not judged:
        return ""
    if comparisons.contaminated:
        return f"No verdict on any arm: contaminated, {comparisons.contaminated}."
    if mechanics:
        return f"{_counted(len(judged), 'arm')} with synthetic images ran from the data to the test; none is judged."
    if comparisons.undertrained:
        return f"No verdict on any arm: {comparisons.reference} gains more than is relevant from twice the steps."
    if comparisons.floor:
        return f"No verdict on any arm: {comparisons.floor}."
    replacing = {arm_name(a) for a in arms if role_of(a) == "replacing"}
    adding = [v for v in judged if v.arm not in replacing]
    said = [_of_adding(adding)] if adding else []
    for call, words in ALONE.items():
        if names := [v.arm for v in judged if v.arm in replacing and v.call == call]:
            said.append(f"synthetic images alone {words} ({', '.join(names)})")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


ALONE = {  # Verdict.call of a replacing arm -> what the headline says
    "as good as real": "were as good as the real ones",
    "not shown as good as real": "were not shown to be as good as the real ones",
    "harm": "were worse than the real ones",
    "no verdict": "got no verdict",
}


def _of_adding(verdicts: Sequence[Verdict]) -> str:
    """Helped in so many of the arms, harmed in so many; each named."""
    by_call: dict[str, list[str]] = {}
    for v in verdicts:
        by_call.setdefault(v.call, []).append(v.arm)
    gain, harm, silent = (by_call.get(c, []) for c in ("gain", "harm", "no verdict"))
    many = _counted(len(verdicts), "arm")
    if len(silent) == len(verdicts):
        return f"no verdict on the {many} with added synthetic images ({why_none(verdicts[0].comparisons)})"
    text = f"adding synthetic images helped in {len(gain)} of {many}" + (f" ({', '.join(gain)})" if gain else "")
    if not gain:
        text = f"adding synthetic images was not shown to help in {'the one arm' if len(verdicts) == 1 else f'any of {many}'}"
    if harm:
        text += f", and did harm in {len(harm)} ({', '.join(harm)})"
    return text


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def cards(
    comparisons: Comparisons, arms: Sequence[Mapping[str, Any]], mechanics: bool
) -> list[dict[str, str]]:
    """One card an arm that adds or replaces rows: a plain sentence, then the numbers of `Verdict.words`."""
    rows = {arm_name(a): a for a in arms}
    out = []
    for v in comparisons.verdicts:
        call = "no verdict" if mechanics and not comparisons.contaminated else v.call
        state = (
            "undertrained" if comparisons.undertrained and not mechanics and not comparisons.contaminated else CALLS.get(call, "not_tested")
        )
        tag = "undertrained" if state == "undertrained" else call if comparisons.contaminated else "mechanics, not judged" if mechanics else call
        # facts stamped later than the comparisons: their sentence would hold p-values
        numbers = v.words if comparisons.mechanics or not mechanics else v.hardest.words
        sentence = _sentence(v, call, state, comparisons, rows.get(v.arm, {}), mechanics)
        out.append({"arm": v.arm, "state": state, "tag": tag, "words": sentence, "more": numbers})
    judged = {v.arm for v in comparisons.verdicts}
    for name, row in rows.items():
        if name in judged or role_of(row) not in ("adding", "replacing"):
            continue
        same = row.get("same_as")
        why = (
            f"Adds no row to these data, so it is the same as {same} and was not trained again."
            if same
            else "Not compared."
        )
        out.append({"arm": name, "state": "not_tested", "tag": "not tested", "words": why, "more": ""})
    return out


def _sentence(
    v: Verdict, call: str, state: str, comparisons: Comparisons, row: Mapping[str, Any], mechanics: bool
) -> str:
    """The verdict without a number that needs statistics to be read."""
    end, base = comparisons.endpoint, comparisons.reference
    added = f"{row['rows_added']} synthetic rows" if row.get("rows_added") else "synthetic rows"
    if comparisons.contaminated:
        return f"No verdict: contaminated, {comparisons.contaminated}."
    if mechanics:
        return "Every step ran. This study is not meant to judge the arm."
    if state == "undertrained":
        return f"No verdict: {base} gains more than {end.smallest_relevant:g} from twice the steps, so it is no fair reference yet."
    if comparisons.floor:
        return f"No verdict: {comparisons.floor}."
    held = len(v.comparisons) - 1
    controls = (
        f" and than each of its {held} controls" if held > 1 else " and than its control" if held else ""
    )
    known = {
        "gain": f"Adding {added} helped: better than the real images alone{controls}.",
        "harm": "Harm: worse than the real images alone.",
        "no relevant gain": f"No relevant gain: an improvement of {end.smallest_relevant:g} or more is ruled out.",
        "no gain shown": f"No gain shown: adding {added} was not better than the real images alone{controls}.",
        "as good as real": f"{added.capitalize()} alone were as good as the real images, within {end.margin:g}.",
        "not shown as good as real": f"{added.capitalize()} alone were not shown to be as good as the real images.",
    }
    return known.get(call, f"No verdict: {why_none(v.comparisons)}.")

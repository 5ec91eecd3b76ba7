"""What stands beside the verdicts, as tables of the report."""

from __future__ import annotations

from collections.abc import Sequence

from synthrad.study.beside import Beside
from synthrad.study.description import REFERENCE
from synthrad.study.evidence import Evidence
from synthrad.study.subgroups import FLAGS, MEAN, NAMES, Gap
from synthrad.study.tables import Table

LONGEST = 40  # gaps on the page; evidence/gaps.csv has all


def evidence_tables(evidence: Evidence) -> list[Table]:
    """Tables that have a row: subgroups, gaps, accept rates, other tests of the endpoint's differences, calibration."""
    made = [_values(evidence), _gaps(evidence), _accepted(evidence), _tests(evidence.beside), _calibration(evidence)]
    return [t for t in made if t.rows]


def interval(low: float | None, high: float | None) -> str:
    """`[low, high]`, a dash where there is none."""
    return "–" if low is None or high is None else f"[{_signless(low)}, {_signless(high)}]"


def _signless(value: float) -> str:
    text = f"{value:.3f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def _values(evidence: Evidence) -> Table:
    """The endpoint's metric: subgroups as rows, arms as columns."""
    end = evidence.endpoint
    mine = [v for v in evidence.subgroups.values if (v.task, v.net, v.external, v.metric) == (end.task, end.net, "", end.metric) and v.class_name == MEAN]
    mine = mine or [v for v in evidence.subgroups.values if (v.task, v.net, v.external, v.metric) == (end.task, end.net, "", end.metric)]
    arms = sorted(dict.fromkeys(v.arm for v in mine), key=lambda a: a != REFERENCE)
    groups = list(dict.fromkeys((v.class_name, v.attribute, v.group, v.subjects) for v in mine))
    value = {(v.class_name, v.attribute, v.group, v.arm): v.value for v in mine}
    return Table("subgroup_values", f"{NAMES.get(end.metric, end.metric)} in each subgroup, mean over seeds", ("class", "attribute", "subgroup", "test subjects", *arms),
                 [(c, a, g, n, *(value.get((c, a, g, arm)) for arm in arms)) for c, a, g, n in groups])


def _gaps(evidence: Evidence) -> Table:
    """Flagged ones first, then those of the endpoint's task and net."""
    end = evidence.endpoint
    found = sorted(evidence.subgroups.gaps, key=lambda g: (g.call not in FLAGS, (g.task, g.net) != (end.task, end.net), g.external != ""))
    return Table("gaps", "Gaps between subgroups before and after fusion",
                 ("task", "metric", "class", "attribute", "arm", "gap before", "gap after", "by chance up to", "change", "worst before", "worst after", "call"),
                 [_gap(g) for g in found[:LONGEST]])


def _gap(g: Gap) -> tuple[object, ...]:
    where = f"{g.task}, {g.net}" + (f", {g.external}" if g.external else "")
    return (where, NAMES.get(g.metric, g.metric), g.class_name, g.attribute, g.arm, g.before, g.after, g.by_chance, f"{_signless(g.change)} {interval(g.low, g.high)}",
            f"{g.worst_before} {_signless(g.value_worst_before)}", f"{g.worst_after} {_signless(g.value_worst_after)}", g.call)


def _accepted(evidence: Evidence) -> Table:
    return Table("accepted", "What filters kept of each subgroup (Wilson's interval)", ("source", "attribute", "subgroup", "kept", "drawn", "share", "interval", "note"),
                 [(a.source, a.attribute, a.group, a.kept, a.drawn, a.rate, interval(a.low, a.high), "below the best" if a.lowest else "") for a in evidence.accepted])


def _tests(found: Sequence[Beside]) -> Table:
    rows = []
    for b in found:
        mixed = "–" if b.mixed is None or b.mixed.value is None else f"{_signless(b.mixed.value)} {interval(b.mixed.low, b.mixed.high)}"
        effect = "–" if b.effect is None else f"{_signless(b.effect.g)} {interval(b.effect.g_low, b.effect.g_high)}"
        better = None if b.effect is None else b.effect.better
        rows.append((b.arm, b.reference, b.difference, b.p_both, mixed, effect, better, b.p_equivalent, b.note))
    return Table("beside", "Other looks at the differences of the primary endpoint",
                 ("arm", "against", "difference", "p, sign flips", "mixed model", "Hedges' g", "share of subjects better", "p, equivalence", "note"), rows)


def _calibration(evidence: Evidence) -> Table:
    return Table("calibration", "Expected calibration error, beside what right probabilities would show",
                 ("task", "net", "class", "arm", "error", "interval", "by chance up to", "too sure by", "change"),
                 [(c.task, f"{c.net}{', ' + c.external if c.external else ''}", c.class_name, c.arm, c.ece, interval(c.low, c.high), c.by_chance, c.too_sure,
                   f"{_signless(c.change)} {interval(c.change_low, c.change_high)}") for c in evidence.calibrations])

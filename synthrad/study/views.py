"""What the report prints, as plain rows: comparisons, measurements and logs turned into words and cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synthrad.measurements import Measurement
from synthrad.study.audits import SetAudit
from synthrad.study.plots import Effect
from synthrad.study.verdicts import METRIC_NAMES, Comparisons, Endpoint, Verdict

CONTROL_NAMES = {
    "RealOnly": "real only",
    "DuplicateReal": "duplicated real",
    "AugmentedReal": "augmented real",
}
DIFFERENCE = "_difference"  # a comparison written as a measurement: the arms table shows it
HARM = (
    "declared for each arm by itself, where its whole interval against the reference is below 0; not corrected for the number "
    "of arms. In simulations with four arms without any effect (benchmarks/results/inference.jsonl) one of them was called "
    "harm in 6 to 8.5 % of the studies: a warning, weaker evidence than a gain."
)
WHOLE = ("", "macro")  # class names of a value over all classes


@dataclass(frozen=True)
class ArmRow:
    """One line of the arms table.

    Args:
        effects: name of the reference -> difference of the arm against it.
        by_seed: seed -> the endpoint's metric.
        holm, seeds_only: printed as they are; "–" where there is none.
    """

    name: str
    strategy: str
    source: str
    role: str
    rows_real: int | str
    rows_added: int | str
    same_as: str | None = None
    by_seed: Mapping[int, float] = field(default_factory=dict)
    effects: Mapping[str, Effect] = field(default_factory=dict)
    holm: str = "–"
    detectable: float | None = None
    seeds_only: str = "–"

    @property
    def seeds(self) -> int:
        """Number of downstream seeds."""
        return len(self.by_seed)

    @property
    def mean(self) -> float | None:
        """Mean over seeds."""
        return float(np.mean(list(self.by_seed.values()))) if self.by_seed else None

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds (n - 1)."""
        return float(np.std(list(self.by_seed.values()), ddof=1)) if self.seeds > 1 else None


def arm_name(row: Mapping[str, Any]) -> str:
    """Name of an arm in its JSON."""
    return str(row.get("arm") or row.get("name"))


def role_of(row: Mapping[str, Any]) -> str:
    """reference, adding, replacing or control; from the strategy where the JSON does not say."""
    roles = {
        "RealOnly": "reference",
        "DuplicateReal": "control",
        "AugmentedReal": "control",
        "SyntheticOnly": "replacing",
    }
    return str(row.get("role") or roles.get(str(row.get("strategy")), "adding"))


def short_p(p: float | None) -> str:
    """A p-value as printed; never 0."""
    if p is None or not np.isfinite(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever is readable."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def cost_rows(costs: Mapping[str, float]) -> list[dict[str, Any]]:
    """Stages with their time and share of the longest."""
    longest = max(costs.values(), default=0.0) or 1.0
    return [{"stage": k, "time": duration(v), "share": 100 * v / longest} for k, v in costs.items()]


def references(arms: Sequence[ArmRow]) -> list[str]:
    """Columns of the arms table: real only first, then the controls."""
    names = {name for a in arms for name in a.effects}
    known = [n for n in CONTROL_NAMES.values() if n in names]
    return known + sorted(names - set(known))


def doses(arms: Sequence[ArmRow]) -> tuple[dict[str, list[tuple[float, float, float]]], float | None]:
    """Strategies that were tried at two or more doses: name -> (rows added per real row, mean, SD); and the base."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for a in arms:
        if a.role == "adding" and a.mean is not None and isinstance(a.rows_real, int) and a.rows_real:
            found.setdefault(f"{a.strategy} from {a.source}" if a.source else a.strategy, []).append(
                (float(a.rows_added) / a.rows_real, a.mean, a.sd or 0.0)
            )
    base = next((a.mean for a in arms if a.role == "reference"), None)
    return {k: v for k, v in found.items() if len({x for x, _, _ in v}) > 1}, base


def arm_facts(arms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Cells and log of each arm that has any."""
    out = []
    for row in arms:
        facts = {
            "rows added per cell": row.get("cells"),
            "log": row.get("log"),
            "controls": row.get("controls"),
        }
        facts = {k: v for k, v in facts.items() if v}
        if facts:
            out.append({"name": arm_name(row), "facts": facts})
    return out


def endpoint_fits(fits: Sequence[Mapping[str, Any]], endpoint: Endpoint) -> list[Mapping[str, Any]]:
    """Fits of the endpoint's task and net."""
    return [f for f in fits if f.get("task") == endpoint.task and f.get("net") == endpoint.net]


def training_length(comparisons: Comparisons) -> str:
    """What twice the steps did to the arm without added rows; "" where that was not trained, or nothing was learned."""
    longer, end = comparisons.longer, comparisons.endpoint
    if longer is None or comparisons.floor:
        return ""
    found = f"Twice the steps change {comparisons.reference} by {longer.words.removesuffix(f' against {longer.reference}')}"
    if comparisons.undertrained:
        return (f"{found}: more than the smallest relevant difference of {end.smallest_relevant:g}. Raise `steps` of task "
                f"{end.task} and run the study again; until then no arm gets a verdict.")
    if longer.high is not None and longer.high < end.smallest_relevant:
        return f"{found}: less than the smallest relevant difference of {end.smallest_relevant:g}, so its training was long enough."
    return (f"{found}: not above the smallest relevant difference of {end.smallest_relevant:g}, but the interval does not rule out "
            "that more training gains as much.")


def untested(lines: Sequence[str], mechanics: bool, audits: Sequence[SetAudit] = ()) -> list[str]:
    """What is open, with what no study of this kind can show; of privacy what the audits leave open."""
    left = [a.where for a in audits if a.record is None]
    privacy = [f"Whether the set{'' if len(left) == 1 else 's'} {', '.join(left)} may be shared: not audited (`synthrad audit`)."] if left else []
    privacy += [f"Of the set {a.where}: {', '.join(missing)}." for a in audits if (missing := a.of_verdict("not tested"))]
    fixed = [
        "Whether the result holds for another dataset, scanner or hospital than those named under Data.",
        *(privacy or ["Attacks on privacy beyond those of the audit."] if audits else ["Whether synthetic images are safe to share: a privacy audit is a separate step."]),
        "Whether a reader or a patient is better off: only the metrics above were measured.",
    ]
    return ([*lines, "Any effect of an arm: this is a mechanics run."] if mechanics else [*lines]) + fixed


def level(endpoint: Endpoint) -> str:
    """The confidence level as printed."""
    return f"{100 * (1 - endpoint.alpha):g} %"


def endpoint_name(endpoint: Endpoint) -> str:
    """The endpoint in words."""
    classes = ", ".join(endpoint.classes or ()) or "all classes"
    where = f" of layer {endpoint.layer}" if endpoint.layer else ""
    return f"{METRIC_NAMES[endpoint.metric]} over {classes}{where}, task {endpoint.task}, net {endpoint.net}"


def question(comparisons: Comparisons, mechanics: bool) -> list[tuple[str, str]]:
    """What was declared before the first fit, and what the study could see."""
    end = comparisons.endpoint
    rows = [
        ("Primary endpoint", endpoint_name(end)),
        ("Smallest relevant difference", f"{end.smallest_relevant:g}"),
    ]
    if not mechanics:
        rows.append(("Level", f"alpha = {end.alpha:g}, one-sided, Holm over the adding arms"))
        rows.append(("Harm", HARM))
        for power in (80, 90):
            found = [d for v in comparisons.verdicts if (d := getattr(v, f"detectable_{power}")) is not None]
            if found:
                span = f"{min(found):.3f}" + (
                    f" to {max(found):.3f}" if max(found) - min(found) > 5e-4 else ""
                )
                rows.append((f"Smallest detectable difference, {power} % power", f"{span} (by arm)"))
    tested = [c for v in comparisons.verdicts for c in v.comparisons]
    if tested:
        rows.append(
            ("Tested on", f"{tested[0].subjects} real test subjects, {tested[0].seeds} downstream seeds")
        )
    rows.append(("Intervals hold for", f"other test subjects and other {comparisons.generalises_over}"))
    return rows + [("Note", note) for note in comparisons.notes]


def arm_rows(
    comparisons: Comparisons, arms: Sequence[Mapping[str, Any]], measurements: Sequence[Measurement]
) -> list[ArmRow]:
    """The arms table; an arm that only the comparisons know gets a line too."""
    verdict = {v.arm: v for v in comparisons.verdicts}
    strategy = {arm_name(a): str(a.get("strategy", "")) for a in arms}
    known = [*arms, *({"arm": n, "rows_real": "–", "rows_added": "–"} for n in verdict if n not in strategy)]
    return [_arm_row(row, verdict.get(arm_name(row)), strategy, comparisons, measurements) for row in known]


def _arm_row(
    row: Mapping[str, Any],
    verdict: Verdict | None,
    strategy: Mapping[str, str],
    comparisons: Comparisons,
    measurements: Sequence[Measurement],
) -> ArmRow:
    name, effects, seeds_only = arm_name(row), {}, None
    if verdict is not None:
        for c in verdict.comparisons:
            kind = "RealOnly" if c.reference == comparisons.reference else strategy.get(c.reference, "")
            against = CONTROL_NAMES.get(kind, c.reference)
            effects[against] = Effect(name, against, c.difference, c.low, c.high)
        over_seeds = [c.p_seeds_t for c in verdict.comparisons]
        seeds_only = max(over_seeds) if over_seeds and None not in over_seeds else None
    return ArmRow(
        name=name,
        strategy=strategy.get(name, ""),
        source=str(row.get("source") or ""),
        role=role_of(row),
        rows_real=row.get("rows_real", "–"),
        rows_added=row.get("rows_added", "–"),
        same_as=row.get("same_as"),
        by_seed=_by_seed(measurements, name, comparisons.endpoint),
        effects=effects,
        holm=short_p(verdict.p_holm) if verdict else "–",
        detectable=verdict.detectable_90 if verdict else None,
        seeds_only=short_p(seeds_only),
    )


def _by_seed(measurements: Sequence[Measurement], arm: str, endpoint: Endpoint) -> dict[int, float]:
    """The endpoint's metric per seed: the macro value, or the mean over the endpoint's classes."""
    found: dict[int, list[float]] = {}
    whole = not endpoint.classes and not endpoint.layer
    for m in measurements:
        key = (m.task, m.net, m.arm, m.metric)
        if key != (endpoint.task, endpoint.net, arm, endpoint.metric) or m.value is None or m.seed is None:
            continue
        layer, _, name = m.class_name.rpartition("/")
        asked = (
            m.class_name in WHOLE
            if whole
            else (
                m.class_name not in (*WHOLE, "rare")
                and (not endpoint.layer or layer == endpoint.layer)
                and (not endpoint.classes or name in endpoint.classes)
            )
        )
        if asked and not m.subgroup and not m.subject:
            found.setdefault(m.seed, []).append(m.value)
    return {seed: float(np.mean(values)) for seed, values in sorted(found.items())}


def filter_views(filters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each source's filter kept, summed over draws and rounds; a log of another form is shown as it is.

    Args:
        filters: source -> logs of `synthrad filter` (one, or nested lists of them: draws, rounds).
    """
    shown = []
    for name, log in filters.items():
        rounds = _flat(log)
        if not rounds:
            continue
        if not all(isinstance(r, Mapping) and {"filter", "kept", "rejected", "why", "per_class"} <= set(r) for r in rounds):
            shown.append({"title": name, "facts": log})
            continue
        kept, rejected = (sum(r[k] for r in rounds) for k in ("kept", "rejected"))
        groups: dict[str, list[int]] = {}
        why: dict[str, int] = {}
        for r in rounds:
            for group, n in {**r["per_class"], **r.get("per_subgroup", {})}.items():
                have = groups.setdefault(group, [0, 0])
                groups[group] = [have[0] + n["kept"], have[1] + n["rejected"]]
            for reason, n in r["why"].items():
                why[reason] = why.get(reason, 0) + n
        rows = [{"group": g, "kept": k, "drawn": k + r, "share": f"{k / (k + r):.0%}" if k + r else "–"}
                for g, (k, r) in groups.items()]
        times = "1 round" if len(rounds) == 1 else f"{len(rounds)} rounds (pilots and top-ups included)"
        total = kept + rejected
        shown.append({"title": name, "filter": rounds[0]["filter"], "rows": rows,
                      "why": sorted(why.items(), key=lambda w: -w[1]),
                      "sentence": f"{rounds[0]['filter']} kept {kept} of {total} images ({kept / max(total, 1):.0%}) in {times}."})
    return shown


def _flat(log: Any) -> list[Any]:
    if isinstance(log, list):
        return [x for part in log for x in _flat(part)]
    return [log] if log else []

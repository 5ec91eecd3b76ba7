"""summary.jsonl: what a finished study found, in lines that stand alone and can be committed (benchmarks/export_study.py)."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from synthrad.files import write_durably
from synthrad.measurements import Measurement, without_nan
from synthrad.study.report import ReportFacts
from synthrad.study.verdicts import Verdict
from synthrad.study.views import DIFFERENCE, WHOLE


def summary_lines(facts: ReportFacts) -> list[dict[str, Any]]:
    """One line a task, net, arm, seed and metric, then one a judged arm (seed null).

    Every line has the fields of Measurement and `steps`, `config_hash`, `mechanics`, `versions`, `cpu`. The metrics are those
    over all classes, and on the endpoint's task those of the classes that the endpoint names. An arm's line holds the
    difference to the reference on the endpoint (`classes`, `layer`; empty for all) with its interval over `n` subjects and
    `seeds` seeds, the verdict in a word (and why there is none), Holm's p, the comparison that was hardest and the smallest
    detectable differences. A last line holds what twice the steps did to the reference, where that was trained.
    """
    fits = {(f["task"], f["net"], f["arm"], f["seed"]): f for f in facts.fits}
    steps = {key[:3]: f["steps"] for key, f in fits.items()}
    stamp = {"mechanics": facts.mechanics or facts.comparisons.mechanics, "versions": dict(facts.versions), "cpu": facts.cpu}
    lines = []
    for m in facts.measurements:
        if m.seed is not None and _asked(m, facts):
            fit = fits.get((m.task, m.net, m.arm, m.seed), {})
            run = {"steps": fit.get("steps"), "config_hash": fit.get("identity", "")}
            lines.append({**_plain(m, facts.study), **run, **stamp})
    for v in facts.comparisons.verdicts:
        key = (facts.endpoint.task, facts.endpoint.net, v.arm)
        run = {"steps": steps.get(key), "config_hash": facts.config_hash}
        lines.append({**_verdict(v, facts), **run, **stamp})
    if longer := facts.comparisons.longer:
        run = {"steps": 2 * steps[longer.task, longer.net, longer.reference], "config_hash": facts.config_hash}
        lines.append({**_plain(longer.measurement(), facts.study), "seeds": longer.seeds, **run, **stamp})
    return lines


def write_summary(run: Path, facts: ReportFacts) -> Path:
    """Write `run/summary.jsonl` durably and return its path."""
    path = Path(run) / "summary.jsonl"
    write_durably(path, "".join(json.dumps(line, allow_nan=False) + "\n" for line in summary_lines(facts)).encode())
    return path


def _asked(m: Measurement, facts: ReportFacts) -> bool:
    if m.subject or m.metric.endswith(DIFFERENCE):
        return False
    end = facts.endpoint
    layer, _, name = m.class_name.rpartition("/")
    named = m.class_name != "rare" and m.task == end.task and name in end.classes and end.layer in ("", layer)
    return m.class_name in WHOLE or named


def _verdict(v: Verdict, facts: ReportFacts) -> dict[str, Any]:
    end = facts.endpoint
    against = next(c for c in v.comparisons if c.reference == facts.comparisons.reference)
    hardest = {k: getattr(v.hardest, k) for k in ("reference", "difference", "low", "high")}
    return {
        **_plain(against.measurement(), facts.study),
        "classes": list(end.classes),
        "layer": end.layer,
        "reference": against.reference,
        "seeds": against.seeds,
        "verdict": v.call,
        "why_no_verdict": facts.comparisons.why_silent,
        "p_holm": v.p_holm,
        "hardest": without_nan(hardest),
        "detectable_80": v.detectable_80,
        "detectable_90": v.detectable_90,
    }


def _plain(m: Measurement, study: str) -> dict[str, Any]:
    return without_nan(asdict(replace(m, study=study)))

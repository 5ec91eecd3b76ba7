"""Metrics by class and exploratory differences, as the rows and cells that the report prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from synthrad.measurements import Measurement
from synthrad.study.verdicts import METRIC_NAMES, Comparison, Endpoint
from synthrad.study.views import DIFFERENCE, WHOLE


def metric_name(metric: str) -> str:
    """A metric in words."""
    return {**METRIC_NAMES, "ece": "ECE"}.get(metric, metric.replace("_", " "))


def of_endpoint(m: Measurement, endpoint: Endpoint) -> bool:
    """Whether it is the endpoint's metric on the own test set, of all classes or of those that the endpoint names."""
    layer, _, name = m.class_name.rpartition("/")
    return (
        (m.task, m.net, m.metric, m.subgroup) == (endpoint.task, endpoint.net, endpoint.metric, "")
        and (m.class_name in WHOLE or endpoint.layer in ("", layer))
        and m.class_name != "rare"
        and (not endpoint.classes or name in endpoint.classes)
    )


def class_tables(measurements: Sequence[Measurement], arms: Sequence[str]) -> list[dict[str, Any]]:
    """One table a task, net and subgroup: a row a class and metric, a column an arm; undefined cells with their counts.

    What is undefined in every arm has no row; `undefined` says it in one sentence, with the counts.
    """
    tables: dict[tuple[str, str, str], dict[tuple[str, str], dict[str, list[Measurement]]]] = {}
    for m in measurements:
        if not m.subject and not m.metric.endswith(DIFFERENCE):
            rows = tables.setdefault((m.task, m.net, m.subgroup), {})
            rows.setdefault((m.class_name, m.metric), {}).setdefault(m.arm, []).append(m)
    out = []
    for (task, net, subgroup), rows in tables.items():
        seen = {arm for cells in rows.values() for arm in cells}
        names = [a for a in arms if a in seen] + sorted(seen - set(arms))
        order = sorted(rows, key=lambda k: (k[0] not in WHOLE, k[0]))
        lines = [
            {
                "class_name": _class(c),
                "metric": metric_name(metric),
                "cells": [_cell(rows[c, metric].get(a, [])) for a in names],
            }
            for c, metric in order
            if any(m.value is not None for found in rows[c, metric].values() for m in found)
        ]
        title = f"{task}, {net}" + (f", {subgroup}" if subgroup else "")
        out.append({"title": title, "arms": names, "rows": lines, "undefined": _undefined(rows, order)})
    return out


def _undefined(rows: Mapping[tuple[str, str], Mapping[str, Sequence[Measurement]]], order: Sequence[tuple[str, str]]) -> str:
    """The rows without any value: classes that share a reason are told together; "" where there is none."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for c, metric in order:
        found = [m for mine in rows[c, metric].values() for m in mine]
        if all(m.value is None for m in found):
            why = found[0].note.removeprefix("undefined: ") or f"n = {found[0].n}"
            reasons.setdefault((_class(c), why), []).append(metric_name(metric))
    told = [f"{c}: {', '.join(metrics)} ({why})" for (c, why), metrics in reasons.items()]
    return f"Undefined in every arm: {'; '.join(told)}." if told else ""


def _class(name: str) -> str:
    return "all classes" if name in WHOLE else name


def _cell(found: Sequence[Measurement]) -> dict[str, Any]:
    """Mean ± SD over seeds with n; `undefined` with the counts that say why."""
    defined = [m for m in found if m.value is not None]
    if not found:
        return {"text": "–", "note": "", "undefined": True}
    if not defined:
        first = found[0]
        return {"text": "undefined", "note": first.note or f"n = {first.n}", "undefined": True}
    values = [float(m.value) for m in defined]
    text = f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")
    if len(values) == 1 and defined[0].low is not None and defined[0].high is not None:
        text += f" [{defined[0].low:.3f}, {defined[0].high:.3f}]"
    note = f"n = {defined[0].n}" if defined[0].n else defined[0].note
    if len(defined) < len(found):
        note += f"; undefined in {len(found) - len(defined)} of {len(found)} seeds"
    return {"text": text, "note": note, "undefined": False}


def explored(differences: Sequence[Comparison]) -> list[dict[str, Any]]:
    """The rows of the exploratory table; the keys are its columns."""

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:+.3f}"

    return [
        {
            "task": c.task,
            "net": c.net,
            "test set": c.external or "own",
            "metric": metric_name(c.metric),
            "class": c.class_name,
            "arm": c.arm,
            "difference": number(c.difference),
            "low": number(c.low),
            "high": number(c.high),
            "subjects": c.subjects,
        }
        for c in differences
    ]

"""Participant flow: from the prepared images over the splits to what every arm trained on and was tested on, with counts."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import pandas as pd

from synthrad.manifest_table import SPLITS
from synthrad.metrics import classification
from synthrad.records import Manifest
from synthrad.study.tables import Table
from synthrad.study.verdicts import Endpoint

USES = {"train": "generators and arms learn from it", "val": "chooses weights and thresholds", "audit": "trains judges only",
        "test": "seen by no fit before the test"}
WIDE, LINE, PAD, GAP = 960, 19, 10, 26  # pixels of the drawing
LETTER = 7.3  # pixels that a letter takes at 13 px, on the wide side


@dataclass(frozen=True)
class Flow:
    """Counts are (images, patients).

    Args:
        prepared: of the table. splits: split -> counts. sources: what was drawn, one line each.
        arms: (name, role, real rows, added rows, source, same as). tested: of the endpoint on the own test split.
        defined: patients with a value of the endpoint. excluded: (number, what, why), nobody left out in silence. external: test set -> counts.
    """

    prepared: tuple[int, int]
    splits: Mapping[str, tuple[int, int]]
    sources: Sequence[str]
    arms: Sequence[tuple[str, str, Any, Any, str, str]]
    tested: tuple[int, int]
    defined: int
    excluded: Sequence[tuple[int, str, str]] = ()
    external: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def table(self) -> Table:
        """The same as rows."""
        rows: list[tuple[Any, ...]] = [("prepared", "", *self.prepared, "")]
        rows += [("split", name, *counts, USES.get(name, "")) for name, counts in self.splits.items()]
        rows += [("source", said, None, None, "") for said in self.sources]
        rows += [("arm", name, rows_real if not same else None, None, f"same as {same}" if same else f"{rows_real} real + {added} {_kind(role)}")
                 for name, role, rows_real, added, _, same in self.arms]
        rows += [("tested", "own test split", *self.tested, f"{self.defined} patients with a value of the endpoint")]
        rows += [("tested", name, *counts, "external") for name, counts in self.external.items()]
        rows += [("left out", what, number, None, why) for number, what, why in self.excluded]
        return Table("flow", "Participant flow", ("step", "name", "images", "patients", "note"), rows)


def flow_of(manifest: Manifest, cases: pd.DataFrame, endpoint: Endpoint, arms: Sequence[Mapping[str, Any]], sources: Sequence[str],
            external: Mapping[str, Manifest], layers: Sequence[str], fewest: int) -> Flow:
    """Counts of a study.

    Args:
        cases: of every fit, the longer reference left out. arms: the arms/<arm>.json mappings. layers: mask layers of the endpoint's task, () for labels.
        fewest: test patients with, and without, a finding that a class needs.
    """
    real = manifest.where(source="real")
    splits = {s: _counts(part) for s in SPLITS if len(part := real.where(split=s))}
    mine = cases[(cases["task"] == endpoint.task) & (cases["net"] == endpoint.net)]
    own = mine[mine["external"] == ""]
    excluded = _without_answers(real, layers)
    held = real.where(split="test")
    tested = (own["image"].nunique(), own["subject"].nunique())
    if (missing := len(set(held.column("digest"))) - tested[0]) > 0:
        why = f"no mask of layer {', '.join(layers)} is known" if layers else "no label of the task is known"
        excluded.append((missing, "test images not tested", why))
    defined, more = _defined(own, endpoint, fewest)
    rows = [(str(a.get("arm") or a.get("name")), str(a.get("role", "")), a.get("rows_real", "–"), a.get("rows_added", "–"), str(a.get("source") or ""),
             str(a.get("same_as") or "")) for a in arms]
    others = {name: (part["image"].nunique(), part["subject"].nunique()) for name, part in mine.groupby("external") if name}
    return Flow(_counts(real), splits, sources, rows, tested, defined, [*excluded, *more], {k: others.get(k, _counts(v)) for k, v in external.items()})


def _counts(manifest: Manifest) -> tuple[int, int]:
    return len(manifest), len(set(manifest.column("subject")))


def _without_answers(real: Manifest, layers: Sequence[str]) -> list[tuple[int, str, str]]:
    """Training and validation images that a task learns nothing from."""
    found = []
    for split in ("train", "val"):
        part = real.where(split=split)
        for layer in layers:
            if number := int((part.column(f"mask:{layer}") == "").sum()):
                found.append((number, f"{split} images without a mask of layer {layer}", "kept; their pixels do not count in the loss"))
    return found


def _defined(own: pd.DataFrame, endpoint: Endpoint, fewest: int) -> tuple[int, list[tuple[int, str, str]]]:
    """Patients with a value of the endpoint, and who has none."""
    rows = own[own["seed"] == own["seed"].min()]
    rows = rows[rows["arm"] == rows["arm"].min()]
    if endpoint.classes:
        rows = rows[rows["class_name"].isin(list(endpoint.classes))]
    if endpoint.metric in classification.METRICS:
        known = rows[rows["target"].notna()]
        left = []
        for name, part in known.groupby("class_name"):
            people = [part[part["target"] == v]["subject"].nunique() for v in (1, 0)]
            if min(people) < fewest:
                left.append((len(part), f"answers for {name}", f"{people[0]} test patients with it and {people[1]} without, {fewest} of each needed"))
        return known["subject"].nunique(), left
    if endpoint.layer:
        rows = rows[rows["layer"] == endpoint.layer]
    pixels = (rows["tp"] + rows["fn"]).groupby(rows["subject"]).sum()
    empty = int((pixels == 0).sum())
    return int((pixels > 0).sum()), [(empty, "test patients without a reference pixel", "no Dice; what is painted there counts as false positive")] if empty else []


def _kind(role: str) -> str:
    return "repeated real" if role == "control" else "synthetic"


def draw_flow(flow: Flow) -> str:
    """The diagram as an inline SVG: its text can be read out, searched and copied; "" without images."""
    if not flow.prepared[0]:
        return ""
    parts: list[str] = []
    y = _box(parts, 0, 0, WIDE, [f"Prepared table: {_said(flow.prepared)}", "Who was considered and left out before this table, the authors must say."])
    wide = (WIDE - GAP * (len(flow.splits) - 1)) / max(len(flow.splits), 1)
    bottoms, top = {}, y + GAP
    for k, (name, counts) in enumerate(flow.splits.items()):
        x = k * (wide + GAP)
        _arrow(parts, x + wide / 2, y, top)
        bottoms[name] = (x + wide / 2, _box(parts, x, top, wide, [name, f"{counts[0]} images", f"{counts[1]} patients", *_wrap(USES[name], wide)], bold=True))
    y = max(b for _, b in bottoms.values())
    lines = [f"Synthetic images: {said}" for said in flow.sources]
    lines += [f"{name}: " + (f"adds no row, the same as {same}, not fitted again" if same else _arm_line(role, real, added, source))
              for name, role, real, added, source, same in flow.arms]
    beside = WIDE - (wide + GAP if "test" in bottoms and len(bottoms) > 1 else 0)  # the way of the test images stays free
    if "train" in bottoms:
        _arrow(parts, bottoms["train"][0], bottoms["train"][1], y + GAP)
    y = _box(parts, 0, y + GAP, beside, ["Training sets of the arms", *(w for line in lines for w in _wrap(line, beside))], bold=True)
    _arrow(parts, beside / 2, y, y + GAP)
    if "test" in bottoms:
        _arrow(parts, bottoms["test"][0], bottoms["test"][1], y + GAP)
    told = ["Tested, the same images under every arm and seed", f"{_said(flow.tested)}; {flow.defined} patients have a value of the endpoint"]
    told += [f"External test set {name}: {_said(counts)}" for name, counts in flow.external.items()]
    y = _box(parts, 0, y + GAP, WIDE, [w for line in told for w in _wrap(line, WIDE)], bold=True)
    left = [f"{number} {what}: {why}" for number, what, why in flow.excluded] or ["No image of the table was left out."]
    y = _box(parts, 0, y + GAP, WIDE, ["Left out", *(w for line in left for w in _wrap(line, WIDE))], dashed=True, bold=True)
    title = f"{_said(flow.prepared)} prepared; " + "; ".join(f"{k} {_said(v)}" for k, v in flow.splits.items()) + f"; tested {_said(flow.tested)}"
    return (f'<svg class="flow" viewBox="-1 -1 {WIDE + 2} {y + 2:.0f}" role="img" aria-label="{escape(f"Participant flow: {title}")}">'
            f"{''.join(parts)}</svg>")


def _said(counts: tuple[int, int]) -> str:
    return f"{counts[0]} images of {counts[1]} patients"


def _arm_line(role: str, real: Any, added: Any, source: str) -> str:
    if role == "reference":
        return f"{real} real"
    origin = f" from {source}" if source else ""
    return f"{added} synthetic{origin}, no real" if role == "replacing" else f"{real} real + {added} {_kind(role)}{origin}"


def _wrap(text: str, wide: float) -> list[str]:
    """Lines that fit into a box of that width."""
    return textwrap.wrap(text, max(12, int((wide - 2 * PAD) / LETTER))) or [""]


def _box(parts: list[str], x: float, y: float, wide: float, lines: Sequence[str], bold: bool = False, dashed: bool = False) -> float:
    """Append a box with its lines; returns its lower edge."""
    high = LINE * len(lines) + 2 * PAD - 4
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" rx="4" fill="#f8fafb" stroke="#9aa7b3"{dash}></rect>')
    for k, line in enumerate(lines):
        weight = ' font-weight="600"' if bold and k == 0 else ""
        parts.append(f'<text x="{x + PAD:.1f}" y="{y + PAD + LINE * k + 11:.1f}"{weight}>{escape(line)}</text>')
    return y + high


def _arrow(parts: list[str], x: float, top: float, bottom: float) -> None:
    parts.append(f'<path d="M{x:.1f} {top:.1f}V{bottom - 1:.1f}M{x - 4:.1f} {bottom - 7:.1f}L{x:.1f} {bottom - 1:.1f}L{x + 4:.1f} {bottom - 7:.1f}" '
                 'fill="none" stroke="#5c6b7a" stroke-width="1.4"></path>')

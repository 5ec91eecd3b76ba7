"""What the fingerprint speaks for: the size to train at, the cells to balance, the arms that would add rows, and a study to start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synthrad.dataset.integrity import kinds
from synthrad.errors import InputError
from synthrad.fusion import (
    Cells,
    ClassBalanced,
    FusionStrategy,
    GroupBalanced,
    Matched,
    MinimalBalanced,
    RealOnly,
    SyntheticOnly,
)
from synthrad.metrics.classification import FEWEST_POSITIVE
from synthrad.records import Manifest

SIDES = (64, 128, 256, 512)  # pixels of the shorter side that configs of generators are written for
SMALLEST = 16  # pixels that a structure must cover to be learned: 4 x 4
ASPECT = 0.1  # how far from square an image is drawn as a square
BALANCED = 10  # subjects that a class needs to be balanced (ClassBalanced)
INTERVAL, AUDIT = 10, 20  # test subjects that an interval, and that an audit needs
PREVALENCE = (0.02, 0.98)


@dataclass(frozen=True)
class Recommendation:
    """What to set, why, and what not to expect.

    Args:
        size: (height, width).
        reasons: a line each. cautions: what the set is too small or too uneven for.
        arms: arm -> (rows that it would add to the training images, a word on it).
        study: a study file as plain data.
    """

    size: tuple[int, int]
    reasons: list[str]
    cautions: list[str]
    arms: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    study: Mapping[str, Any] = field(default_factory=dict)


def recommend(manifest: Manifest, found: Mapping[str, Any]) -> Recommendation:
    """Recommendations for a real, split manifest.

    Args:
        manifest: checked. found: its fingerprint.
    """
    size, reasons = _size(found)
    cells, said = _cells(manifest, found)
    strategies = _strategies(found, cells)
    arms = {name: _rows(strategy, manifest) for name, strategy in strategies.items()}
    kept = {n: s for n, s in strategies.items() if arms[n][0] or n == "real_only"}
    reasons += [_resize(found), *_intensity(found), *said]
    return Recommendation(size, reasons, _cautions(found), arms, _study(manifest, size, cells, kept))


def _size(found: Mapping[str, Any]) -> tuple[tuple[int, int], list[str]]:
    sizes = found["sizes"]
    aspect = sizes["aspect"]["median"]
    stored = min(sizes["height"]["median"], sizes["width"]["median"])
    tall, wide = _ratio(aspect)
    areas = {n: f["area"]["0.1"] for n, f in found["findings"].items() if f.get("area")}
    most = max([s for s in SIDES if s <= stored] or [SIDES[0]])
    if not areas:
        side = min(256, most)
        reasons = [f"size: {side} px on the shorter side; no masks say how small the findings are: a finding of fewer than {SMALLEST} pixels at that size is lost"]
    else:
        name, least = min(areas.items(), key=lambda item: item[1])
        fits = [s for s in SIDES if s <= most and least * (s * tall) * (s * wide) >= SMALLEST]
        side = min(fits or [most])
        pixels = least * (side * tall) * (side * wide)
        reasons = [f"size: at {round(side * tall)} x {round(side * wide)} px the smallest structure, {name}, covers {pixels:.0f} pixels or more in 90 % of the images that have it"
                   + ("" if fits else f": fewer than the {SMALLEST} wanted, and the images hold no more; crop them around what matters")]
    return (round(side * tall), round(side * wide)), reasons


def _ratio(aspect: float) -> tuple[float, float]:
    """Height and width over the shorter side, in quarters: what a net halves twice."""
    if abs(aspect - 1) <= ASPECT:
        return 1.0, 1.0
    long = max(1.25, round(4 * max(aspect, 1 / aspect)) / 4)
    return (1.0, long) if aspect > 1 else (long, 1.0)


def _resize(found: Mapping[str, Any]) -> str:
    low, high = found["sizes"]["aspect_90"]
    shapes = f"width over height is {low:.2f} to {high:.2f} in 90 % of the images"
    if high / low > 1 + ASPECT:
        return f"resize: letterbox; {shapes}, and squeezing would bend anatomy by that much"
    return f"resize: letterbox or squeeze, nearly the same here: {shapes}"


def _intensity(found: Mapping[str, Any]) -> list[str]:
    reasons, wanted = [], []
    for name, facts in found["intensities"].items():
        wanted.append((facts["quantiles"]["0.005"], facts["quantiles"]["0.995"]))
        if facts["used"] < 0.5:
            reasons.append(f"intensity: 99 % of the pixels of channel {name} lie in {100 * facts['used']:.0f} % of the range "
                           f"{facts['range'][0]:g} to {facts['range'][1]:g}: contrast is given away")
        clipped = facts["below"] + facts["above"]
        if clipped > 0.05:
            reasons.append(f"intensity: {100 * clipped:.0f} % of the pixels of channel {name} lie outside of the range and are clipped")
    if reasons:
        reasons.append(f"intensity: prepare again with --intensity {min(a for a, _ in wanted)} {max(b for _, b in wanted)}")
    return reasons


def _cells(manifest: Manifest, found: Mapping[str, Any]) -> tuple[Cells, list[str]]:
    """Classes that an arm can balance: known and, with 10 subjects or more, present in 2 to 98 % of the training images."""
    def usable(name: str) -> bool:
        train = found["findings"][name]["splits"]["train"]
        return bool(train["known"]) and PREVALENCE[0] <= train["positive"] / train["known"] <= PREVALENCE[1] and train["positive_subjects"] >= BALANCED

    classes = [c for c in manifest.info.classes if usable(c)]
    structures = [] if classes else [n for n in found["findings"] if "/" in n and usable(n)]
    left = [c for c in manifest.info.classes if c not in classes]
    reasons = [f"cells: {', '.join([*classes, *structures]) or 'none'}"]
    if left:
        reasons.append(f"not balanced: {', '.join(left)} (fewer than {BALANCED} training subjects, or on nearly all or nearly no images)")
    sizes = {}
    if not classes and not structures:
        for name, facts in found["findings"].items():
            if facts.get("area") and facts["splits"]["train"]["positive_subjects"] >= 3 * BALANCED:
                areas = manifest.where(split="train").column(f"area:{name}")
                edges = np.quantile(areas[np.nan_to_num(areas) > 0], (1 / 3, 2 / 3))
                if 0 < edges[0] < edges[1] < 1:
                    sizes[name] = [float(f"{e:.2g}") for e in edges]
                    reasons.append(f"cells: thirds of the share of the picture that {name} covers, since all images have it")
                    break
    return Cells(classes, structures, [], sizes), reasons


def _strategies(found: Mapping[str, Any], cells: Cells) -> dict[str, FusionStrategy]:
    made: dict[str, FusionStrategy] = {"real_only": RealOnly(), "matched": Matched(cells=cells), "class_balanced": ClassBalanced(cells=cells)}
    if len(cells.classes) > 1:
        made["minimal_balanced"] = MinimalBalanced(cells=cells)
    by = [a for a, facts in found["attributes"].items() if 2 <= sum(v["subjects"] >= BALANCED for v in facts.get("counts", {}).values())]
    if by:
        made["group_balanced"] = GroupBalanced(by=by[:2])
    return {**made, "synthetic_only": SyntheticOnly(cells=cells)}


def _rows(strategy: FusionStrategy, manifest: Manifest) -> tuple[int, str]:
    """Synthetic rows that a strategy asks for, and what it says about them."""
    train = manifest.where(split="train", source="real")
    try:
        return strategy.needs(train).total(), "; ".join(kinds(list(strategy.log), 4))
    except InputError as e:
        return 0, f"{e.found}; expected {e.expected}"


def _cautions(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for split in ("train", "val", "audit", "test"):
        if not found["splits"][split]["subjects"]:
            lines.append(f"no subject in {split}: a study needs all four splits")
    test = found["splits"]["test"]["subjects"]
    if test < INTERVAL:
        lines.append(f"{test} test subjects: no interval is given for fewer than {INTERVAL}")
    if min(test, found["splits"]["train"]["subjects"]) < AUDIT:
        lines.append(f"fewer than {AUDIT} subjects in train or test: an audit of synthetic images says `not tested`")
    elif test:
        lines.append(f"audit: with {test} test subjects its smallest false-alarm rate is {100 / (test + 1):.1f} %")
    for name, facts in found["findings"].items():
        mine = facts["splits"]["test"]
        if mine["known_subjects"] and mine["positive_subjects"] < FEWEST_POSITIVE:
            lines.append(f"{name}: {mine['positive_subjects']} test subject(s) with it; its metrics are undefined below {FEWEST_POSITIVE}")
    for row in found["uneven"]:
        lines.append(f"{row['finding']}: {100 * row['prevalence']:.0f} % of the subjects of {row['split']}, {100 * row['elsewhere']:.0f} % of the others; splits are not alike")
    for name, facts in found["attributes"].items():
        lines += [f"attribute {name}: one value spelled in several ways: {', '.join(map(repr, v))}" for v in facts["spelled_twice"]]
    return lines


def _study(manifest: Manifest, size: tuple[int, int], cells: Cells, arms: Mapping[str, FusionStrategy]) -> dict[str, Any]:
    """A study file: what is recommended, with one task for masks and one for labels."""
    info = manifest.info
    side = min(size)
    generator = f"configs/generators/stylegan2_{side if side in (64, 256, 512) else 256}.yaml"
    wanted: dict[str, Any] = {}
    for name, strategy in arms.items():
        wanted[name] = {"strategy": type(strategy).__name__}
        if name == "group_balanced":
            wanted[name]["args"] = {"by": list(strategy.by)}
        if name != "real_only":
            wanted[name]["source"] = "gan"
    tasks: dict[str, Any] = {}
    common = {"steps": 2000, "batch_size": 16, "precision": "bf16-mixed"}
    if info.layers:
        net = {"class_path": "SmpNet", "init_args": {"arch": "Unet", "encoder": "resnet34"}}
        tasks["structures"] = {"kind": "segmentation", "layers": list(info.layers), **common, "nets": {"unet": net}}
    if info.classes:
        tasks["findings"] = {"kind": "classification", **common, "nets": {"resnet50": {"class_path": "TimmNet", "init_args": {"name": "resnet50"}}}}
    task, net, metric = ("structures", "unet", "dice") if info.layers else ("findings", "resnet50", "auroc")
    parts = {"classes": cells.classes, "structures": cells.structures, "size_bins": cells.size_bins}
    return {
        "name": "".join(c if c.isalnum() else "_" for c in info.name.lower()),
        "title": f"Does synthetic data help on {info.name}?",
        "manifest": str(info.roots["here"]),
        "size": list(size),
        "cells": {k: v for k, v in parts.items() if v},
        "sources": {"gan": {"generator": generator}},
        "arms": wanted,
        "tasks": tasks,
        "seeds": 5,
        **({"endpoint": {"task": task, "net": net, "metric": metric, "smallest_relevant": 0.02, "margin": 0.02}} if tasks else {}),
    }

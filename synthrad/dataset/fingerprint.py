"""The fingerprint of a dataset: plain numbers on sizes, intensities, findings, subgroups, gaps and splits.

Counts are of images and of subjects: a finding on 300 images of 4 patients is a finding of 4 patients.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np

from synthrad.dataset.integrity import Inspection
from synthrad.manifest_table import SPLITS
from synthrad.records import Manifest

QUANTILES = (0.005, 0.05, 0.5, 0.95, 0.995)
MOST = 20  # combinations of findings listed
MOST_VALUES = 20  # of an attribute, before it is described by its number alone
UNEVEN = 3.0  # standard errors that the prevalence of a split may lie from that of the others


def fingerprint(manifest: Manifest, seen: Inspection) -> dict[str, Any]:
    """All that the page shows and recommendations read, as plain data for JSON."""
    facts = findings(manifest)
    subjects = manifest.column("subject")
    per_subject = np.array(list(Counter(subjects).values()))
    return {
        "name": manifest.info.name,
        "digest": manifest.digest,
        "images": len(manifest),
        "subjects": len(per_subject),
        "images_per_subject": {"median": float(np.median(per_subject)), "most": int(per_subject.max())},
        "splits": {s: _counted(manifest, manifest.column("split") == s) for s in SPLITS},
        "sizes": _sizes(seen),
        "intensities": {c: _intensities(manifest, seen, k) for k, c in enumerate(manifest.info.channels)},
        "findings": {name: _finding(manifest, values, name) for name, values in facts.items()},
        "combinations": _combinations(manifest, facts),
        "together": _together(facts, subjects),
        "attributes": {a: _attribute(manifest, a) for a in manifest.info.attributes},
        "subgroups": _subgroups(manifest, facts),
        "missing": _missing(manifest),
        "uneven": _uneven(facts, subjects, manifest.column("split")),
    }


def findings(manifest: Manifest) -> dict[str, np.ndarray]:
    """Label or layer/structure -> [rows] 1, 0 or NaN (unknown); a structure is there where it covers any of the picture."""
    found = dict(zip(manifest.info.classes, manifest.labels.T, strict=True))
    for layer, structures in manifest.info.layers.items():
        for s in structures:
            area = manifest.column(f"area:{layer}/{s}")
            found[f"{layer}/{s}"] = np.where(np.isnan(area), np.nan, area > 0)
    return found


def per_subject(values: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """[subjects] 1 where any image of a subject has the finding, 0 where known images have none, NaN where nothing is known."""
    owner = np.unique(subjects, return_inverse=True)[1]
    out = np.full(owner.max(initial=-1) + 1, np.nan)
    for value in (0, 1):
        out[np.unique(owner[values == value])] = value
    return out


def _counted(manifest: Manifest, rows: np.ndarray) -> dict[str, int]:
    return {"images": int(rows.sum()), "subjects": len(set(manifest.column("subject")[rows]))}


def _sizes(seen: Inspection) -> dict[str, Any]:
    sizes = seen.sizes[seen.sizes[:, 0] > 0]
    if not len(sizes):
        return {}
    aspects = sizes[:, 1] / sizes[:, 0]
    spread = lambda v: {"least": float(np.min(v)), "median": float(np.median(v)), "most": float(np.max(v))}  # noqa: E731
    common = Counter(map(tuple, sizes.tolist())).most_common(5)
    return {"height": spread(sizes[:, 0]), "width": spread(sizes[:, 1]), "aspect": spread(aspects),
            "aspect_90": [float(q) for q in np.quantile(aspects, (0.05, 0.95))],
            "most_common": [{"width": w, "height": h, "images": n} for (h, w), n in common]}


def _intensities(manifest: Manifest, seen: Inspection, channel: int) -> dict[str, Any]:
    counts, values = seen.counts[channel], np.arange(seen.counts.shape[1])
    total = counts.sum()
    if not total:
        return {}
    mean = float((counts * values).sum() / total)
    low, high = manifest.info.intensity["low"], manifest.info.intensity["high"]
    running = np.cumsum(counts)
    return {
        "quantiles": {f"{q:g}": int(np.searchsorted(running, q * total)) for q in QUANTILES},
        "mean": mean,
        "deviation": float(np.sqrt((counts * (values - mean) ** 2).sum() / total)),
        "range": [low, high],
        "below": float(counts[values < low].sum() / total),
        "above": float(counts[values > high].sum() / total),
        "used": float((int(np.searchsorted(running, 0.995 * total)) - int(np.searchsorted(running, 0.005 * total))) / (high - low)),
    }


def _finding(manifest: Manifest, values: np.ndarray, name: str) -> dict[str, Any]:
    subjects, splits = manifest.column("subject"), manifest.column("split")
    by_split = {}
    for s in SPLITS:
        rows = splits == s
        of = per_subject(values[rows], subjects[rows])
        by_split[s] = {"positive": int((values[rows] == 1).sum()), "known": int((~np.isnan(values[rows])).sum()),
                       "positive_subjects": int((of == 1).sum()), "known_subjects": int((~np.isnan(of)).sum())}
    whole = per_subject(values, subjects)
    known = ~np.isnan(values)
    found: dict[str, Any] = {
        "positive": int((values == 1).sum()), "known": int(known.sum()),
        "positive_subjects": int((whole == 1).sum()), "known_subjects": int((~np.isnan(whole)).sum()),
        "prevalence": float((values[known] == 1).mean()) if known.any() else None, "splits": by_split,
    }
    if "/" in name and f"area:{name}" in manifest.table:
        areas = manifest.column(f"area:{name}")
        there = areas[np.nan_to_num(areas) > 0]
        found["area"] = {f"{q:g}": float(np.quantile(there, q)) for q in (0.1, 0.5, 0.9)} if there.size else None
    return found


def _combinations(manifest: Manifest, facts: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Sets of positive labels by number of images, most frequent first; rows without a known label are left out."""
    names = list(manifest.info.classes)
    if not names:
        return []
    table = np.array([facts[n] for n in names]).T
    subjects = manifest.column("subject")
    rows: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(table):
        if not np.isnan(row).all():
            rows.setdefault(tuple(n for n, v in zip(names, row, strict=True) if v == 1), []).append(i)
    ordered = sorted(rows.items(), key=lambda item: (-len(item[1]), item[0]))
    return [{"labels": list(key), "images": len(at), "subjects": len(set(subjects[at]))} for key, at in ordered[:MOST]]


def _together(facts: dict[str, np.ndarray], subjects: np.ndarray) -> list[dict[str, Any]]:
    """Pairs of findings of subjects: how many have both, and how many would if they had nothing to do with each other."""
    names = [n for n, v in facts.items() if 0 < np.nansum(v == 1) < (~np.isnan(v)).sum()][:40]
    whole = {n: per_subject(facts[n], subjects) for n in names}
    pairs = []
    for a, b in itertools.combinations(names, 2):
        known = ~np.isnan(whole[a]) & ~np.isnan(whole[b])
        x, y = whole[a][known], whole[b][known]
        expected = x.sum() * y.sum() / max(known.sum(), 1)
        if expected > 0:
            pairs.append({"a": a, "b": b, "subjects": int((x * y).sum()), "expected": float(expected)})
    return pairs


def _attribute(manifest: Manifest, name: str) -> dict[str, Any]:
    values, subjects = manifest.column(f"attribute:{name}"), manifest.column("subject")
    counts = Counter(values)
    blank = counts.pop("", 0)
    found: dict[str, Any] = {"values": len(counts), "blank": blank}
    if len(counts) <= MOST_VALUES:
        found["counts"] = {v: {"images": n, "subjects": len(set(subjects[values == v]))} for v, n in counts.most_common()}
    alike: dict[str, list[str]] = {}
    for v in counts:
        alike.setdefault("".join(v.casefold().split()), []).append(v)
    found["spelled_twice"] = [sorted(v) for v in alike.values() if len(v) > 1]
    return found


def _subgroups(manifest: Manifest, facts: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Prevalence of each finding in each value of each attribute that has few values."""
    rows = []
    for name in manifest.info.attributes:
        values = manifest.column(f"attribute:{name}")
        kept = [v for v, n in Counter(values).most_common(MOST_VALUES + 1) if v]
        if len(kept) > MOST_VALUES:
            continue
        for value, (finding, v) in itertools.product(sorted(kept), facts.items()):
            mine = v[(values == value) & ~np.isnan(v)]
            if mine.size:
                rows.append({"attribute": name, "value": value, "finding": finding, "positive": int(mine.sum()), "known": mine.size})
    return rows


def _missing(manifest: Manifest) -> dict[str, float]:
    """Column -> share of rows without a value, where there are any."""
    shares = {f"label {c}": float(np.isnan(v).mean()) for c, v in zip(manifest.info.classes, manifest.labels.T, strict=True)}
    shares |= {f"mask {layer}": float((manifest.column(f"mask:{layer}") == "").mean()) for layer in manifest.info.layers}
    shares |= {f"attribute {a}": float((manifest.column(f"attribute:{a}") == "").mean()) for a in manifest.info.attributes}
    return {k: v for k, v in shares.items() if v > 0}


def _uneven(facts: dict[str, np.ndarray], subjects: np.ndarray, splits: np.ndarray) -> list[dict[str, Any]]:
    """Findings whose prevalence (subjects) in a split differs from the other splits' by more than UNEVEN standard errors."""
    rows = []
    for (name, values), split in itertools.product(facts.items(), SPLITS):
        inside = splits == split
        a, b = per_subject(values[inside], subjects[inside]), per_subject(values[~inside], subjects[~inside])
        a, b = a[~np.isnan(a)], b[~np.isnan(b)]
        if not a.size or not b.size:
            continue
        whole = np.concatenate([a, b]).mean()
        error = np.sqrt(whole * (1 - whole) * (1 / a.size + 1 / b.size))
        if error > 0 and abs(a.mean() - b.mean()) > UNEVEN * error:
            rows.append({"finding": name, "split": split, "prevalence": float(a.mean()), "elsewhere": float(b.mean())})
    return rows

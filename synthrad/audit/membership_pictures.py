"""Real rows as a trained generator was told of its own training images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from synthrad.cases import Case
from synthrad.conditioning import Condition
from synthrad.data.cache import ImageCache
from synthrad.data.conditions import TEXT, complete, with_prompts
from synthrad.generators.familiarity import Pictures
from synthrad.progress import progress
from synthrad.records import Manifest


def masked_rows(rows: Manifest, spec: Mapping[str, Any]) -> np.ndarray:
    """bool [n]: rows that have a mask of every layer of a generator; it was trained on no others."""
    return np.all([rows.column(f"mask:{x}") != "" for x in spec["layers"]], axis=0) if spec["layers"] else np.ones(len(rows), bool)


def read_pictures(rows: Manifest, spec: Mapping[str, Any], where: str) -> Pictures:
    """Rows at the generator's size, with their own labels, attributes, masks and prompts as far as it was taught them.

    Args:
        rows: all with the masks of the generator's layers. spec: of the generator. where: its checkpoint, for messages.
    """
    info, cache = rows.info, ImageCache(rows, tuple(spec["size"]))
    at = [list(info.layers).index(x) for x in spec["layers"]]
    images = np.stack([cache.scaled(i) for i in progress(range(len(rows)), desc="reading for the generator", unit="image")])
    masks = np.stack([cache.masks(i)[at] for i in range(len(rows))]).astype(np.int64)
    known = rows.table.drop(columns=[TEXT], errors="ignore")
    for c in (f"label:{c}" for c in spec.get("untaught", ())):
        known[c] = np.nan
    for c in (f"label:{c}" for c in spec.get("absent", ())):  # a finding that no training image had: there is no way to tell it, in words neither
        known[c] = known[c].mask(known[c] == 1)
    table = complete(with_prompts(known, spec, info, where), info)
    labels = table[[f"label:{c}" for c in info.classes]].to_numpy(dtype=float)
    told = [{a: v if v in values else "" for a, values in spec["attributes"].items() for v in [str(r[f"attribute:{a}"])]} for _, r in table.iterrows()]
    one_hot = np.array([[float(row[a] == v) for a, values in spec["attributes"].items() for v in values] for row in told])
    tensor = lambda x: torch.from_numpy(np.ascontiguousarray(x))  # noqa: E731
    case = Case(tensor(images).float(), tensor(masks), tensor(labels).float(), torch.arange(len(rows)), tensor(one_hot.reshape(len(rows), -1)).float())
    return Pictures(case, Condition(labels=labels, attributes=told, masks=case.masks, text=list(table[TEXT]) if TEXT in table else None))

"""The images of a synthetic set and its rows: image k is drawn from a seed of its own, written, and described."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthrad.conditioning import Images
from synthrad.data.conditions import TEXT, condition_text
from synthrad.data.images import joined_digest, write_mask
from synthrad.data.mask_conditions import MaskConditions
from synthrad.data.start_images import StartImages
from synthrad.dataset_info import DatasetInfo
from synthrad.files import file_digest
from synthrad.manifest_table import empty_columns


def image_seed(seed: int, k: int) -> int:
    """Seed of image k of a set: sets of neighbouring seeds share no image."""
    return int(np.random.SeedSequence([seed, k]).generate_state(1, np.uint64)[0] >> 1)


def write_image(drawn: Images, i: int, k: int, out: Path, info: DatasetInfo, layers: Sequence[str]) -> dict[str, Any]:
    """Write image i of a batch as number k; returns its files with digests, and its areas."""
    from PIL import Image

    files, areas = {}, {}
    low, high = info.intensity["low"], info.intensity["high"]
    values = (drawn.image[i].double().cpu().numpy() + 1) / 2 * (high - low) + low
    dtype = np.uint16 if high > 255 else np.uint8
    for channel, array in zip(info.channels, values, strict=True):
        path = f"images/{channel}/{k:06d}.png"
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.round().clip(0, np.iinfo(dtype).max).astype(dtype)).save(out / path, format="PNG")
        files[path] = ""
    masks = [] if drawn.masks is None else drawn.masks[i].cpu().numpy()
    for layer, mask in zip(layers if len(masks) else [], masks, strict=True):
        path = f"masks/{layer}/{k:06d}.png"
        write_mask(out / path, mask.astype(np.uint8))
        files[path] = ""
        areas |= {f"{layer}/{s}": float((mask == j + 1).mean()) for j, s in enumerate(info.layers[layer])}
    for path in files:
        with open(out / path, "rb") as f:
            try:
                os.fsync(f.fileno())
            except OSError as e:
                e.filename = str(out / path)  # a full disk: say where
                raise
        files[path] = file_digest(out / path)
    return {"files": files, "areas": areas}


def set_table(blocks: Sequence[Mapping[str, Any]], conditions: pd.DataFrame, seed: int, info: DatasetInfo,
           masks: MaskConditions | None, starts: StartImages | None) -> pd.DataFrame:
    """The rows of the synthetic manifest; origin:mask is the digest of the mask drawn from, or joint, origin:start of the image."""
    columns = empty_columns(info, len(blocks))
    columns |= {c: conditions[c].to_numpy() for c in conditions if c != TEXT}
    columns["split"][:], columns["source"][:] = "train", "synthetic"
    columns |= {f"origin:{x}": np.full(len(blocks), "", dtype=object) for x in ("seed", "condition", "mask")}
    if starts is not None:
        columns["origin:start"] = np.array(starts.digests, dtype=object)
    if TEXT in conditions:  # a report of a patient is not repeated: its hash tells equal prompts
        columns["origin:prompt"] = np.array([hashlib.sha256(p.encode()).hexdigest()[:16] if p else "" for p in conditions[TEXT]], dtype=object)
    for k, block in enumerate(blocks):
        paths = {tuple(Path(p).parts[:2]): p for p in block["files"]}
        columns["subject"][k] = f"synthetic-{k:06d}"
        columns["origin:seed"][k] = str(image_seed(seed, k))
        columns["origin:condition"][k] = condition_text(conditions.iloc[k])
        for channel in info.channels:
            columns[f"channel:{channel}"][k] = paths["images", channel]
        for layer in info.layers:
            columns[f"mask:{layer}"][k] = paths.get(("masks", layer), "")
            if ("masks", layer) in paths:
                columns["origin:mask"][k] = "joint" if masks is None else masks.digests[k]
        columns["digest"][k] = joined_digest([block["files"][columns[f"channel:{c}"][k]] for c in info.channels])
        columns["mask_digest"][k] = joined_digest([block["files"].get(columns[f"mask:{x}"][k], "") for x in info.layers])
        for name, area in block["areas"].items():
            columns[f"area:{name}"][k] = area
    return pd.DataFrame(columns)

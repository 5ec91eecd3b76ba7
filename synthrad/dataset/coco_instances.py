"""Masks as COCO instances: run lengths by pycocotools, one JSON file a split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from synthrad.data.images import image_size, read_mask
from synthrad.dataset.plain_copy import PlainCopy, splits_of, write_plain
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.files import write_durably
from synthrad.records import Manifest


def export(manifest: Manifest, out: Path | str, parts: bool = False) -> list[Path]:
    """Write images, masks, records.csv and annotations/instances_<split>.json; returns the JSON files.

    COCO cannot say that a mask is unknown: an image without annotations is one where nothing is. Images of which no layer is known are left
    out of the JSON (and counted in its `info`); of an image with some layers known, `unknown_layers` names the others, which most
    programs do not read: to them the structures of such a layer are absent there. Export sets of such layers one layer at a time.

    Args:
        manifest: with mask layers; of several channels the first is the image of the annotations.
        out: a new folder. parts: each connected part of a structure is an instance (8 neighbours), not the structure.

    Raises:
        InputError: a set without mask layers, or without a known mask.
    """
    if not manifest.info.layers:
        raise InputError(manifest.info.name, "no mask layer", "masks: COCO describes instances", "export it as croissant")
    if without_masks(manifest) == len(manifest):
        raise InputError(manifest.info.name, "no known mask of any image", "masks: COCO describes instances", "export it as croissant")
    copy = write_plain(manifest, out)
    written = []
    for split, rows in splits_of(copy).items():
        path = copy.folder / "annotations" / f"instances_{split}.json"
        write_durably(path, json.dumps(_instances(copy, manifest.info, rows, parts)).encode())
        written.append(path)
    return written


def without_masks(manifest: Manifest) -> int:
    """Images of which no layer is known."""
    return int((manifest.table[[f"mask:{layer}" for layer in manifest.info.layers]] == "").all(axis=1).sum())


def _instances(copy: PlainCopy, info: DatasetInfo, rows: np.ndarray, parts: bool) -> dict[str, Any]:
    names = [(layer, k + 1, s) for layer, structures in info.layers.items() for k, s in enumerate(structures)]
    categories = [{"id": n, "name": s, "supercategory": layer} for n, (layer, _, s) in enumerate(names, 1)]
    images, annotations = [], []
    for row in rows:
        unknown = [layer for layer in info.layers if not copy.table[f"mask:{layer}"][row]]
        if len(unknown) == len(info.layers):
            continue
        file = copy.table[f"image:{info.channels[0]}"][row]
        height, width = image_size(copy.folder / file)
        images.append({"id": int(row) + 1, "file_name": file, "height": height, "width": width, **({"unknown_layers": unknown} if unknown else {})})
        masks = {layer: read_mask(copy.folder / p) for layer in info.layers if (p := copy.table[f"mask:{layer}"][row])}
        for number, (layer, value, _) in enumerate(names, 1):
            if layer in masks:
                for region in _regions(masks[layer] == value, parts):
                    annotations.append(_annotation(len(annotations) + 1, int(row) + 1, number, region))
    licences = [{"id": 1, "name": info.licence, "url": ""}] if info.licence else []
    about = {"description": info.name, "version": "1.0", "images_of_unknown_masks_left_out": len(rows) - len(images)}
    return {"info": about, "licenses": licences, "images": images, "annotations": annotations, "categories": categories}


def _regions(mask: np.ndarray, parts: bool) -> list[np.ndarray]:
    if not mask.any():
        return []
    if not parts:
        return [mask]
    labels, number = ndimage.label(mask, structure=np.ones((3, 3)))
    return [labels == k for k in range(1, number + 1)]


def _annotation(number: int, image: int, category: int, region: np.ndarray) -> dict[str, Any]:
    from pycocotools import mask as coco

    run = coco.encode(np.asfortranarray(region.astype(np.uint8)))
    return {"id": number, "image_id": image, "category_id": category, "iscrowd": 0, "area": int(coco.area(run)),
            "bbox": [float(v) for v in coco.toBbox(run)], "segmentation": {"size": [int(v) for v in run["size"]], "counts": run["counts"].decode()}}

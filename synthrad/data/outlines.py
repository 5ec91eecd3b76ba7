"""Outlines of COCO-like annotations drawn into mask layers, on pictures that may have been shrunk after they were annotated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from synthrad.errors import InputError, InputErrors

SLACK = 2.0  # pixels that an outline may pass the edge by rounding
Names = dict[str, Callable[[dict[str, Any]], str | None]]  # layer -> the structure of an annotation, None = of no category


@dataclass
class Picture:
    """One image of the JSON and its annotations."""

    path: Path
    stated: tuple[float, float] | None  # width, height in the JSON
    marks: list[dict[str, Any]] = field(default_factory=list)


def draw_masks(picture: Picture, shape: tuple[int, int], layers: Mapping[str, tuple[str, ...]], names: Names, boxes: bool = False,
               annotated: list[int] | None = None) -> dict[str, np.ndarray]:
    """The layers in `names` of one image, drawn from large to small so that a small structure stays on top of a large one.

    Args:
        shape: (height, width) of the image file. layers: layer -> structures; pixel k is structure k - 1.
        boxes: draw boxes instead of outlines. annotated: (width, height) of the picture that was annotated; None = as stated, or as the file.

    Returns:
        layer -> [H, W] uint8.

    Raises:
        InputErrors: annotations of no category. InputError: no outline, or outlines that fit no size that is known.
    """
    height, width = shape
    drawn = {layer: Image.new("L", (width, height)) for layer in names}
    outlines = [(m, _outlines(m, picture.path, boxes)) for m in picture.marks]
    scale = _scale(picture, shape, [p for _, parts in outlines for p in parts], annotated)
    faults = []
    for mark, parts in sorted(outlines, key=lambda o: -sum(np.ptp(p, axis=0).prod() for p in o[1])):
        called = {layer: name(mark) for layer, name in names.items()}
        if None in called.values():
            found = {k: v for k, v in mark.items() if k.startswith("category_id")}
            faults.append(f"{picture.path}: annotation {mark.get('id')}: found {found}, expected ids of the file's categories")
            continue
        for points in parts:
            line = [tuple(p) for p in (points * scale)]
            for layer, name in called.items():
                ImageDraw.Draw(drawn[layer]).polygon(line, fill=layers[layer].index(name) + 1)
    if faults:
        raise InputErrors(str(picture.path), faults)
    return {k: np.array(v) for k, v in drawn.items()}


def _outlines(mark: dict[str, Any], path: Path, boxes: bool) -> list[np.ndarray]:
    """Polygons [n, 2] of (x, y), as annotated."""
    parts = mark.get("segmentation")
    if boxes or not parts:
        if len(mark.get("bbox") or []) != 4:
            raise InputError(str(path), f"annotation {mark.get('id')} without bbox", "a bbox of four numbers")
        x, y, w, h = mark["bbox"]
        return [np.array([[x, y], [x + w - 1, y], [x + w - 1, y + h - 1], [x, y + h - 1]], dtype=float)]
    if not isinstance(parts, list) or any(len(p) < 6 or len(p) % 2 for p in parts):
        raise InputError(
            str(path),
            f"annotation {mark.get('id')} whose segmentation is no list of outlines",
            "lists of x, y, x, y ... of three points or more",
            "use --boxes",
        )
    return [np.array(p, dtype=float).reshape(-1, 2) for p in parts]


def _scale(
    picture: Picture, shape: tuple[int, int], outlines: list[np.ndarray], annotated: list[int] | None
) -> np.ndarray:
    """(x, y) factors from annotated to stored pixels.

    A shrunk copy of a dataset often keeps the JSON: then outlines lie outside the picture and the JSON may state either size.

    Raises:
        InputError: outlines that fit neither the picture nor a size that is known.
    """
    size = np.array([shape[1], shape[0]], dtype=float)
    if not outlines:
        return np.ones(2)
    reach = np.max([p.max(axis=0) for p in outlines], axis=0)
    known = [
        np.array(s, dtype=float)
        for s in ([annotated] if annotated else [picture.stated, size])
        if s is not None
    ]
    for candidate in known:
        if (reach <= candidate + SLACK).all():
            return size / candidate
    found = f"outlines up to x = {reach[0]:g}, y = {reach[1]:g}"
    expected = " or ".join(dict.fromkeys(f"inside {c[0]:g} x {c[1]:g}" for c in known))
    raise InputError(
        str(picture.path),
        found,
        expected,
        "the image was shrunk after it was annotated: give --annotation-size W H "
        f"(at least {int(np.ceil(reach[0]))} x {int(np.ceil(reach[1]))})",
    )

"""DENTEX (Hamamci et al., arXiv 2305.19112): COCO-like JSON with quadrant, tooth number and disease of each box.

`category_id_1` is the quadrant, `_2` the tooth in it, `_3` the disease. Only teeth that the JSON annotates are in the
masks: the disease file of DENTEX lists diseased teeth only, so there an image's other teeth are background.
The JSON names no patients: each image is its own subject.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from synthrad.data.coco_files import read_coco
from synthrad.data.writing import Draft, add_options, describe
from synthrad.errors import InputError, InputErrors
from synthrad.records import Manifest, check_inside

DESCRIPTION = "DENTEX: panoramic radiographs, JSON with quadrant, tooth number and disease"
TEETH = tuple(str(10 * q + t) for q in (1, 2, 3, 4) for t in range(1, 9))  # FDI two-digit notation
SLACK = 2.0  # pixels that an outline may pass the edge by rounding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `synthrad prepare dentex`."""
    parser.add_argument("root", metavar="ROOT", help="folder with the JSON and the images (any depth)")
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument(
        "--annotations",
        metavar="JSON",
        help="which JSON file (default: the one with diseases, else the only one)",
    )
    parser.add_argument("--boxes", action="store_true", help="draw boxes instead of outlines")
    parser.add_argument(
        "--annotation-size",
        nargs=2,
        type=int,
        metavar=("W", "H"),
        help="size of the pictures that were annotated, where the images were shrunk afterwards",
    )
    add_options(parser)


@dataclass
class Picture:
    """One image of the JSON and its annotations."""

    path: Path
    stated: tuple[float, float] | None  # width, height in the JSON
    marks: list[dict[str, Any]] = field(default_factory=list)


def read(root: Path | str, out: Path | str, args: argparse.Namespace) -> Manifest:
    """Read the JSON, draw a tooth layer and (where diseases are given) an abnormality layer.

    Raises:
        InputErrors: all faults at once: missing images, unknown categories, outlines beyond the picture.
    """
    root = Path(root)
    where = Path(args.annotations) if args.annotations else _find_json(root)
    data = _load(where)
    diseases = {c["id"]: c["name"].strip().lower().replace(" ", "_") for c in data.get("categories_3") or []}
    teeth = _teeth(data, where)
    pictures = _pictures(data, root, where)
    layers = {"tooth": TEETH} | ({"abnormality": tuple(diseases.values())} if diseases else {})
    info = describe(args, root, classes=tuple(diseases.values()), layers=layers, licence="CC BY-NC-SA 4.0")
    with Draft(Path(out), root, info, len(pictures), str(where)) as draft:
        stems = [p.path.stem for p in pictures]
        if len(set(stems)) < len(stems):  # the same file name in two folders
            stems = ["_".join(p.path.relative_to(root).with_suffix("").parts) for p in pictures]
        draft.columns["subject"][:] = stems

        def one(row: int) -> None:
            picture = pictures[row]
            shape = draft.add_image(row, [picture.path.relative_to(root).as_posix()])
            draft.add_masks(row, stems[row], _masks(picture, shape, teeth, diseases, args))
            present = {diseases[m["category_id_3"]] for m in picture.marks} if diseases else set()
            for name in diseases.values():
                draft.columns[f"label:{name}"][row] = float(name in present)

        draft.each(one, "reading images", line=False)
        return draft.finish(args)


def _find_json(root: Path) -> Path:
    if not root.is_dir():
        raise InputError(str(root), "no such folder", "the folder of a DENTEX download")
    found = sorted(p for p in root.rglob("*.json") if p.is_file() and not p.name.startswith("."))
    if len(found) > 1:  # the download has a file for quadrants, one for teeth and one with diseases
        diseased = [p for p in found if '"category_id_3"' in p.read_text(errors="replace")]
        found = diseased or found
    if len(found) != 1:
        names = ", ".join(p.relative_to(root).as_posix() for p in found) or "no JSON file"
        raise InputError(str(root), names, "one JSON file with annotations", "name it with --annotations")
    check_inside(found[0], root)
    return found[0]


def _load(where: Path) -> dict[str, Any]:
    return read_coco(where, ("categories_1", "categories_2"), "JSON with images, annotations, categories_1 (quadrants) and categories_2 (teeth)")


def _teeth(data: dict[str, Any], where: Path) -> dict[tuple[int, int], str]:
    """(category_id_1, category_id_2) -> FDI number."""
    teeth = {
        (q["id"], t["id"]): f"{q['name']}{t['name']}"
        for q in data["categories_1"]
        for t in data["categories_2"]
    }
    if foreign := sorted(set(teeth.values()) - set(TEETH)):
        raise InputError(
            str(where), f"categories_1 and _2 that make {', '.join(foreign)}", "quadrants 1-4 and teeth 1-8"
        )
    return teeth


def _pictures(data: dict[str, Any], root: Path, where: Path) -> list[Picture]:
    """Images of the JSON with their files and annotations; a file is looked for by its name, the nearest to the JSON first."""
    files: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
            files.setdefault(path.name, []).append(path)
    faults, pictures = [], {}
    for entry in data["images"]:
        name = Path(entry["file_name"]).name
        options = files.get(name, [])
        near = [p for p in options if where.parent in p.parents] or options
        if len(near) != 1:
            faults.append(f"image {name!r}: found {len(near)} files of that name under {root}, expected 1")
            continue
        stated = (entry["width"], entry["height"]) if entry.get("width") and entry.get("height") else None
        pictures[entry["id"]] = Picture(near[0], stated)
    for mark in data["annotations"]:
        if mark.get("image_id") in pictures:
            pictures[mark["image_id"]].marks.append(mark)
        elif not faults:
            faults.append(
                f"annotation {mark.get('id')}: image_id {mark.get('image_id')!r} is not among the images"
            )
    if faults:
        raise InputErrors(str(where), faults)
    return list(pictures.values())


def _masks(
    picture: Picture, shape: tuple[int, int], teeth: dict, diseases: dict, args: argparse.Namespace
) -> dict[str, np.ndarray]:
    """Layers of one image, drawn from large to small so that a small structure stays on top of a large one."""
    height, width = shape
    layers = {"tooth": Image.new("L", (width, height))} | (
        {"abnormality": Image.new("L", (width, height))} if diseases else {}
    )
    names = list(diseases.values())
    outlines = [(m, _outlines(m, picture.path, args.boxes)) for m in picture.marks]
    scale = _scale(picture, shape, [p for _, parts in outlines for p in parts], args.annotation_size)
    faults = []
    for mark, parts in sorted(outlines, key=lambda o: -sum(np.ptp(p, axis=0).prod() for p in o[1])):
        tooth = teeth.get((mark.get("category_id_1"), mark.get("category_id_2")))
        disease = diseases.get(mark.get("category_id_3"))
        if tooth is None or (diseases and disease is None):
            found = {k: v for k, v in mark.items() if k.startswith("category_id")}
            faults.append(
                f"{picture.path}: annotation {mark.get('id')}: found {found}, expected ids of categories_1, _2"
                + ", _3" * bool(diseases)
            )
            continue
        for points in parts:
            line = [tuple(p) for p in (points * scale)]
            ImageDraw.Draw(layers["tooth"]).polygon(line, fill=TEETH.index(tooth) + 1)
            if diseases:
                ImageDraw.Draw(layers["abnormality"]).polygon(line, fill=names.index(disease) + 1)
    if faults:
        raise InputErrors(str(picture.path), faults)
    return {k: np.array(v) for k, v in layers.items()}


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

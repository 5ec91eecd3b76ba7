"""Any COCO instances JSON (Lin et al., arXiv 1405.0312): polygons and run lengths become mask layers, categories their structures.

Where two annotations of a layer overlap the smaller one stays on top. Crowd regions (iscrowd 1) are drawn as their category, because a
layer says what a pixel shows and not how many objects: `--crowd skip` leaves them out, and then they are background. An image without
annotations has an empty mask; `--unannotated unknown` gives it none.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from synthrad.data.coco_files import read_lists
from synthrad.data.coco_regions import region_of
from synthrad.data.images import fit
from synthrad.data.inside import inside
from synthrad.data.subject_names import subject_names
from synthrad.data.writing import Draft, add_options, describe
from synthrad.errors import InputError, InputErrors, near
from synthrad.records import Manifest

LONGEST = 16384  # pixels of a side, of what the JSON states
LARGEST = 2**30  # bytes of the JSON: that of COCO train 2017 has 450 MB
DESCRIPTION = "any COCO JSON with polygons or run lengths"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `synthrad prepare coco`."""
    parser.add_argument("root", metavar="ROOT", help="folder that file names in the JSON start from")
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument("--annotations", metavar="JSON", help="which JSON file, anywhere (default: the only one under ROOT)")
    parser.add_argument("--layers", nargs="+", default=[], metavar="LAYER:CATEGORIES", help="which categories are drawn, and where: lung:Lung, or "
                        "tooth:incisor,molar finding:caries for two layers (default: all in one layer named object)")
    parser.add_argument("--labels", action="store_true", help="categories are labels, too: 1 where an image has one of its regions")
    parser.add_argument("--boxes", action="store_true", help="draw boxes instead of outlines")
    parser.add_argument("--crowd", choices=("draw", "skip"), default="draw", help="regions of many objects (default: draw)")
    parser.add_argument("--unannotated", choices=("empty", "unknown"), default="empty", help="the masks of images without annotations (default: empty)")
    parser.add_argument("--resized", action="store_true", help="images were resized after they were annotated; the JSON states the annotated sizes")
    parser.add_argument("--annotation-size", nargs=2, type=int, metavar=("W", "H"), help="as --resized, where the JSON does not state that size")
    parser.add_argument("--subject-pattern", dest="subject", metavar="REGEX", help="its first group, searched for in the file name, is the "
                        "subject (default: each image its own)")
    add_options(parser)


@dataclass
class Picture:
    """One image of the JSON and its annotations."""

    name: str
    size: tuple[int, int] | None  # height, width in the JSON
    marks: list[Mapping[str, Any]] = field(default_factory=list)


def read(root: Path | str, out: Path | str, args: argparse.Namespace) -> Manifest:
    """Read the JSON, draw the layers.

    Raises:
        InputErrors: all faults at once: names that leave ROOT, missing images, ids twice or of nothing, regions that are none.
    """
    root = Path(root)
    where = Path(args.annotations) if args.annotations else _find_json(root)
    data = read_lists(where, ("images", "annotations", "categories"), "JSON with lists of images, annotations and categories", largest=LARGEST)
    layers, place = _layers(_categories(data, where), args.layers, where)
    pictures = _pictures(data, root, where)
    structures = [s for names in layers.values() for s in names]
    info = describe(args, root, layers={k: tuple(v) for k, v in layers.items()}, classes=tuple(structures) if args.labels else ())
    with Draft(Path(out), root, info, len(pictures), str(where), args=args) as draft:
        names = [p.name for p in pictures]
        draft.columns["subject"][:] = subject_names(names, args.subject, str(where))
        stems = _stems(names)

        def one(row: int) -> None:
            picture = pictures[row]
            shape = draft.add_image(row, [picture.name])
            unknown = not picture.marks and args.unannotated == "unknown"
            draft.add_masks(row, stems[row], {n: None for n in layers} if unknown else _masks(picture, shape, layers, place, args))
            present = {layers[k][s - 1] for k, s in (place[m["category_id"]] for m in picture.marks if m["category_id"] in place)}
            for name in info.classes:
                draft.columns[f"label:{name}"][row] = np.nan if unknown else float(name in present)

        draft.each(one, "reading images", line=False)
        return draft.finish(args)


def _find_json(root: Path) -> Path:
    if not root.is_dir():
        raise InputError(str(root), "no such folder", "the folder of the images")
    found = sorted(p for p in root.rglob("*.json") if not p.name.startswith("."))
    if len(found) != 1:
        names = ", ".join(p.relative_to(root).as_posix() for p in found[:10]) or "no JSON file"
        raise InputError(str(root), names, "one JSON file with annotations", "name it with --annotations")
    return found[0]


def _categories(data: dict[str, Any], where: Path) -> dict[int, str]:
    """id -> name."""
    found: dict[int, str] = {}
    names: set[str] = set()
    faults = []
    for entry in data["categories"]:
        number, name = entry.get("id"), _word(entry.get("name"))
        if not _is_id(number) or not name:
            faults.append(f"category {number!r}: found the name {entry.get('name')!r}, expected a whole number and a name")
        elif number in found or name in names:
            faults.append(f"category {number} {name!r}: its id or name is there twice")
        else:
            found[number] = name
            names.add(name)
    if not found and not faults:
        faults.append("no category, expected one at least; `synthrad prepare dentex` reads category_id_1, _2 and _3")
    if faults:
        raise InputErrors(str(where), faults)
    return found


def _layers(categories: dict[int, str], specs: list[str], where: Path) -> tuple[dict[str, list[str]], dict[int, tuple[str, int]]]:
    """Layer -> structures; and category -> (layer, structure number)."""
    layers: dict[str, list[str]] = {} if specs else {"object": list(categories.values())}
    for spec in specs:
        layer, colon, names = spec.partition(":")
        wanted = [_word(n) for n in names.split(",")]
        if not colon or not re.fullmatch(r"[\w.-]+", layer) or layer in layers:
            raise InputError("--layers", repr(spec), "LAYER:CATEGORY,CATEGORY, each layer once", "e.g. lung:Lung")
        if foreign := [n for n in wanted if n not in categories.values()]:
            known = list(categories.values())
            raise InputError("--layers", repr(foreign[0]), f"categories of {where}: {', '.join(known[:40])}", near(foreign[0], known))
        layers[layer] = wanted
    every = [s for names in layers.values() for s in names]
    if len(set(every)) < len(every) or max(map(len, layers.values())) > 254:
        raise InputError("--layers", f"{len(every)} categories, {len(set(every))} different ones", "each once, and at most 254 in a layer",
                         "choose or divide them: --layers LAYER:CATEGORY,CATEGORY")
    ids = {name: number for number, name in categories.items()}
    return layers, {ids[name]: (layer, k + 1) for layer, names in layers.items() for k, name in enumerate(names)}


def _pictures(data: dict[str, Any], root: Path, where: Path) -> list[Picture]:
    """Images with their annotations, every id and file name once."""
    faults: list[str] = []
    pictures: dict[int, Picture] = {}
    names: dict[str, int] = {}
    for entry in data["images"]:
        number, name = entry.get("id"), entry.get("file_name")
        try:
            if not _is_id(number) or not isinstance(name, str):
                raise InputError(f"image {number!r}", f"file_name {name!r}", "a whole number as id and a name")
            if number in pictures or name in names:
                raise InputError(f"image {number}", f"{name!r}: its id or file is there twice", "each once", "merge the entries")
            inside(root, name, f"image {number}")
            size = tuple(entry.get(k) for k in ("height", "width"))
            if any(s is not None and (not _is_id(s) or not 0 < s <= LONGEST) for s in size):
                raise InputError(f"image {number}", f"height and width {size}", f"whole numbers from 1 to {LONGEST}")
        except InputError as e:
            faults.append(str(e))
            continue
        names[name] = number
        pictures[number] = Picture(name, None if None in size else size)
    listed, seen, known = {e.get("id") for e in data["images"] if _is_id(e.get("id"))}, set(), {c.get("id") for c in data["categories"]}
    for mark in data["annotations"]:
        number, image, category = mark.get("id"), mark.get("image_id"), mark.get("category_id")
        if not _is_id(image) or image not in listed:
            faults.append(f"annotation {number!r}: image_id {image!r} is not among the images")
        elif not _is_id(category) or category not in known:
            faults.append(f"annotation {number!r}: category_id {category!r} is not among the categories")
        elif number is not None and (not _is_id(number) or number in seen):
            faults.append(f"annotation {number!r}: its id is there twice, or is no whole number")
        elif image in pictures:
            seen.add(number)
            pictures[image].marks.append(mark)
    if faults:
        raise InputErrors(str(where), faults)
    return list(pictures.values())


def _masks(picture: Picture, shape: tuple[int, int], layers: Mapping[str, list[str]], place: Mapping[int, tuple[str, int]],
           args: argparse.Namespace) -> dict[str, np.ndarray]:
    """Layers of one image, drawn from large to small, on the grid that was annotated; then as large as the image."""
    drawn_on = _annotated(picture, shape, args)
    faults, regions = [], []
    for mark in picture.marks:
        if mark["category_id"] not in place or (mark.get("iscrowd") and args.crowd == "skip"):
            continue
        try:
            regions.append((region_of(mark, drawn_on, f"{picture.name}, annotation {mark.get('id')}", args.boxes), *place[mark["category_id"]]))
        except InputError as e:
            faults.append(str(e))
    if faults:
        raise InputErrors(picture.name, faults)
    masks = {layer: np.zeros(drawn_on, np.uint8) for layer in layers}
    for region, layer, structure in sorted(regions, key=lambda r: -r[0].area):
        masks[layer][region.mask()] = structure
    return masks if drawn_on == shape else {k: fit(m, shape, "squeeze", nearest=True) for k, m in masks.items()}


def _annotated(picture: Picture, shape: tuple[int, int], args: argparse.Namespace) -> tuple[int, int]:
    """(height, width) of the picture that was annotated."""
    if args.annotation_size:
        return tuple(args.annotation_size[::-1])
    if picture.size in (None, shape):
        return shape
    if not args.resized:
        raise InputError(picture.name, f"{shape[1]} x {shape[0]} pixels", f"{picture.size[1]} x {picture.size[0]}, as the JSON states",
                         "add --resized if the images were resized after they were annotated (nothing turned or cut off)")
    return picture.size


def _stems(names: list[str]) -> list[str]:
    plain = [Path(n).stem for n in names]
    return plain if len({p.lower() for p in plain}) == len(plain) else ["_".join(Path(n).parts) for n in names]


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _word(name: Any) -> str:
    return re.sub(r"[\s/]+", "_", name.strip()).lower() if isinstance(name, str) else ""

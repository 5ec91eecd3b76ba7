"""DENTEX (Hamamci et al., arXiv 2305.19112): COCO-like JSON with quadrant, tooth number and disease of each box.

`category_id_1` is the quadrant, `_2` the tooth in it, `_3` the disease. Only teeth that the JSON annotates are in the
masks: the disease file of DENTEX lists diseased teeth only, so there an image's other teeth are background.
The JSON names no patients: each image is its own subject.

With --levels the parts of the download become one set, a layer a level: outlines of quadrants (693 images), all teeth (634),
diseases and the teeth they affect (705 and 50), and images without any (1,571). What a part does not annotate is unknown to its
images. File names repeat among the parts for other pictures, and pictures under other names: equal files are joined to one row.
Categories go by their names: id 0 of the quadrants' file is quadrant 2. The labels of test_data are codes of treatment, not
diagnoses, and are not read.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthrad.data.coco_files import read_coco
from synthrad.data.outlines import Names, Picture, draw_masks
from synthrad.data.published_splits import add_official_split, divide
from synthrad.data.writing import Draft, add_options, describe
from synthrad.documents import read_json
from synthrad.errors import InputError, InputErrors
from synthrad.files import check_inside, file_digest
from synthrad.records import Manifest

DESCRIPTION = "DENTEX: panoramic radiographs, JSON with quadrant, tooth number and disease"
TEETH = tuple(str(10 * q + t) for q in (1, 2, 3, 4) for t in range(1, 9))  # FDI two-digit notation
QUADRANTS = ("1", "2", "3", "4")
LEVELS = ("diagnosis", "enumeration", "quadrant", "unlabelled")  # a row's file is that of the first that has it
VALIDATION = "validation"  # how the file of the published validation part begins
LICENCE = "CC BY-NC-SA 4.0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `synthrad prepare dentex`."""
    parser.add_argument("root", metavar="ROOT", help="folder with the JSON and the images (any depth)")
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument(
        "--annotations",
        metavar="JSON",
        help="which JSON file (default: the one with diseases, else the only one)",
    )
    parser.add_argument(
        "--levels",
        nargs="+",
        choices=LEVELS,
        metavar="LEVEL",
        help=f"several parts of the download as one set, of {', '.join(LEVELS)} (default: one JSON file)",
    )
    add_official_split(parser, "with --levels, the images of validation_triple.json")
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
class Part:
    """One JSON file: its level, the layers that it fills, its images."""

    level: str
    where: Path
    names: Names
    diseases: dict[int, str]
    pictures: list[Picture]


def read(root: Path | str, out: Path | str, args: argparse.Namespace) -> Manifest:
    """Read the JSON, draw a tooth layer and (where diseases are given) an abnormality layer.

    Raises:
        InputErrors: all faults at once: missing images, unknown categories, outlines beyond the picture.
    """
    root = Path(root)
    _check_flags(args)
    if args.levels:
        return _read_levels(root, Path(out), args)
    where = Path(args.annotations) if args.annotations else _find_json(root)
    data = _load(where)
    with _as_published(where):
        diseases, teeth = _diseases(data), _teeth(data, where)
        pictures = _pictures(data, _images(root), root, where)
    names: Names = {"tooth": lambda m: teeth.get((m.get("category_id_1"), m.get("category_id_2")))}
    layers = {"tooth": TEETH}
    if diseases:
        names["abnormality"] = lambda m: diseases.get(m.get("category_id_3"))
        layers["abnormality"] = tuple(diseases.values())
    info = describe(args, root, classes=tuple(diseases.values()), layers=layers, licence=LICENCE)
    with Draft(Path(out), root, info, len(pictures), str(where), args=args) as draft:
        stems = [p.path.stem for p in pictures]
        if len(set(stems)) < len(stems):  # the same file name in two folders
            stems = ["_".join(p.path.relative_to(root).with_suffix("").parts) for p in pictures]
        draft.columns["subject"][:] = stems

        def one(row: int) -> None:
            picture = pictures[row]
            shape = draft.add_image(row, [picture.path.relative_to(root).as_posix()])
            with _as_published(picture.path):
                draft.add_masks(row, stems[row], draw_masks(picture, shape, layers, names, args.boxes, args.annotation_size))
            present = {diseases[m["category_id_3"]] for m in picture.marks} if diseases else set()
            for name in diseases.values():
                draft.columns[f"label:{name}"][row] = float(name in present)

        draft.each(one, "reading images", line=False)
        return draft.finish(args)


def _read_levels(root: Path, out: Path, args: argparse.Namespace) -> Manifest:
    """Rows of all levels asked for, equal files joined; what a level does not annotate is unknown to its rows."""
    files = _images(root)
    parts = _parts(root, files, set(args.levels) - {"unlabelled"})
    bare = _unlabelled(files, root) if "unlabelled" in args.levels else []
    rows = _joined(parts, bare)
    diseases = tuple(dict.fromkeys(name for part in parts for name in part.diseases.values()))
    structures = {"quadrant": QUADRANTS, "tooth": TEETH, "affected_tooth": TEETH, "abnormality": diseases}
    layers = {layer: s for layer, s in structures.items() if any(layer in part.names for part in parts)}
    info = describe(args, root, classes=diseases, layers=layers, licence=LICENCE)
    with Draft(out, root, info, len(rows), str(root), args=args) as draft:
        columns, paths = draft.columns, [found[min(found, key=LEVELS.index)][1].path for found in rows]
        stems = ["_".join(p.relative_to(root).with_suffix("").parts) for p in paths]
        columns["subject"][:] = stems
        columns["origin:level"] = np.array([",".join(sorted(found, key=LEVELS.index)) for found in rows], dtype=object)
        if args.official_split:
            columns["split"][:] = ["test" if _is_validation(found) else "" for found in rows]

        def one(row: int) -> None:
            shape, masks = draft.add_image(row, [paths[row].relative_to(root).as_posix()]), {}
            for part, picture in rows[row].values():
                if part:
                    with _as_published(picture.path):
                        masks |= draw_masks(picture, shape, layers, part.names, args.boxes, args.annotation_size)
                    present = {part.diseases.get(m.get("category_id_3")) for m in picture.marks}
                    for name in part.diseases.values():
                        columns[f"label:{name}"][row] = float(name in present)
            draft.add_masks(row, stems[row], masks)

        draft.each(one, line=False)
        divide(draft, args, [np.array([level in found for found in rows], float) for level in args.levels])
        manifest = draft.finish(args)
    told = [f"{level} {sum(level in found for found in rows)}" for level in LEVELS if level in args.levels]
    used = {picture.path for part in parts for picture in part.pictures} | set(bare)
    twice = sum(len(part.pictures) for part in parts) + len(bare) - sum(len(found) for found in rows)
    print(f"  images of each level: {', '.join(told)}; {sum(len(found) > 1 for found in rows)} are of several, {twice} twice in one "
          f"(equal files: the first counts)\n  {sum(len(f) for f in files.values()) - len(used)} image files belong to no level asked for")
    return manifest


Found = dict[str, tuple["Part | None", Picture]]  # level -> the part that annotates a picture at it; None for unlabelled


def _is_validation(found: Found) -> bool:
    return any(part and part.where.name.startswith(VALIDATION) for part, _ in found.values())


def _parts(root: Path, files: Mapping[str, list[Path]], levels: set[str]) -> list[Part]:
    """The JSON files of the levels asked for, known by their categories."""
    parts = []
    for where in _jsons(root):
        with _as_published(where):
            if (level := _level(read_json(where, "annotations of DENTEX"))) in levels:
                data = read_coco(where, ("categories",) if level == "quadrant" else ("categories_1", "categories_2"))
                parts.append(_part(level, data, files, root, where))
    if missing := levels - {part.level for part in parts}:
        raise InputError(str(root), f"no annotations of {', '.join(sorted(missing))}", "the JSON files of a DENTEX download, at any depth",
                         "unpack training_data.zip there, or leave the level out")
    return parts


def _part(level: str, data: dict[str, Any], files: Mapping[str, list[Path]], root: Path, where: Path) -> Part:
    pictures, diseases = _pictures(data, files, root, where), _diseases(data) if level == "diagnosis" else {}
    if level == "quadrant":
        quadrants = {c["id"]: str(c["name"]) for c in data["categories"]}
        return Part(level, where, {"quadrant": lambda m: quadrants.get(m.get("category_id"))}, diseases, pictures)
    teeth = _teeth(data, where)
    layer = "tooth" if level == "enumeration" else "affected_tooth"
    names: Names = {layer: lambda m: teeth.get((m.get("category_id_1"), m.get("category_id_2")))}
    if level == "diagnosis":
        names["abnormality"] = lambda m: diseases.get(m.get("category_id_3"))
    return Part(level, where, names, diseases, pictures)


def _level(data: Any) -> str:
    """The level of a file's categories; "" for other JSON, such as the codes of treatment in test_data."""
    if not (isinstance(data, dict) and data.get("images") and isinstance(data.get("annotations"), list)):
        return ""
    if data.get("categories_1") and data.get("categories_2"):
        return "diagnosis" if data.get("categories_3") else "enumeration"
    names = {str(c.get("name")) for c in data.get("categories") or []}
    return "quadrant" if names and names <= set(QUADRANTS) else ""


def _unlabelled(files: Mapping[str, list[Path]], root: Path) -> list[Path]:
    found = sorted(p for paths in files.values() for p in paths
                   if any(part.lower().startswith("unlabel") for part in p.relative_to(root).parts[:-1]))
    if not found:
        raise InputError(str(root), "no image below a folder `unlabelled`", "training_data/unlabelled/xrays", "leave the level out")
    return found


def _joined(parts: list[Part], unlabelled: list[Path]) -> list[Found]:
    """Pictures by the digest of their files, in order of paths; annotated twice at one level, validation counts, else the first."""
    rows: dict[str, Found] = {}
    for part in sorted(parts, key=lambda p: not p.where.name.startswith(VALIDATION)):
        for picture in part.pictures:
            rows.setdefault(file_digest(picture.path), {}).setdefault(part.level, (part, picture))
    for path in unlabelled:
        rows.setdefault(file_digest(path), {}).setdefault("unlabelled", (None, Picture(path, None)))
    return sorted(rows.values(), key=lambda found: found[min(found, key=LEVELS.index)][1].path)


def _check_flags(args: argparse.Namespace) -> None:
    if args.levels and args.annotations:
        raise InputError("--levels, --annotations", "both", "one of them", "drop --annotations: the levels' files are found")
    if args.official_split and not args.levels:
        raise InputError("--official-split", "given without --levels", "both", "add --levels diagnosis")


def _find_json(root: Path) -> Path:
    found = _jsons(root)
    if len(found) > 1:  # the download has a file for quadrants, one for teeth and one with diseases
        diseased = [p for p in found if '"category_id_3"' in p.read_text(errors="replace")]
        found = diseased or found
    if len(found) != 1:
        names = ", ".join(p.relative_to(root).as_posix() for p in found) or "no JSON file"
        raise InputError(str(root), names, "one JSON file with annotations", "name it with --annotations")
    check_inside(found[0], root)
    return found[0]


def _jsons(root: Path) -> list[Path]:
    if not root.is_dir():
        raise InputError(str(root), "no such folder", "the folder of a DENTEX download")
    return [p for p in sorted(root.rglob("*.json")) if p.is_file() and _plain(p, root)]


def _plain(path: Path, root: Path) -> bool:
    """Not in a hidden folder: the download holds copies in .ipynb_checkpoints."""
    return not any(part.startswith(".") for part in path.relative_to(root).parts)


def _images(root: Path) -> dict[str, list[Path]]:
    """Image files under root by their names."""
    files: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in (".png", ".jpg", ".jpeg") and _plain(path, root):
            files.setdefault(path.name, []).append(path)
    return files


@contextmanager
def _as_published(where: Path) -> Iterator[None]:
    """What goes wrong because JSON holds other things than the published files is one InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as e:
        found = f"annotations that are not as expected ({type(e).__name__}: {str(e)[:200]})"
        raise InputError(str(where), found, "those of a DENTEX download", "unpack it again") from e


def _load(where: Path) -> dict[str, Any]:
    return read_coco(where, ("categories_1", "categories_2"), "JSON with images, annotations, categories_1 (quadrants) and categories_2 (teeth)")


def _diseases(data: dict[str, Any]) -> dict[int, str]:
    return {c["id"]: c["name"].strip().lower().replace(" ", "_") for c in data.get("categories_3") or []}


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


def _pictures(data: dict[str, Any], files: Mapping[str, list[Path]], root: Path, where: Path) -> list[Picture]:
    """Images of the JSON with their files and annotations; a file is looked for by its name, the nearest to the JSON first."""
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

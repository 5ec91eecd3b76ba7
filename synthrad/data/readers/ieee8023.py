"""ieee8023/covid-chestxray-dataset (Cohen et al., arXiv 2003.11597, 2006.11988): images/ and metadata.csv of 29 columns.

A finding is a path, `Pneumonia/Viral/COVID-19`: every level is a label. Levels below the one that a row names are unknown to it,
all others are absent; `todo` and `Unknown` know none. Lung masks lie elsewhere: outlines of v7labs/covid-19-xray-dataset (COCO
JSON; they include the lung behind the heart), crops of GeneralBlockchain/covid-19-chest-xray-segmentations-dataset (structure.csv
places each by Top, Left and Resolution; they leave the heart out), and the masks in annotations/lungVAE-masks, drawn by a network.
Each image has a licence of its own.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from synthrad.data.ages import add_age_bands, note_ages
from synthrad.data.coco_files import read_coco
from synthrad.data.images import read_image
from synthrad.data.inside import inside
from synthrad.data.tables import need_columns, read_table
from synthrad.data.writing import Draft, add_options, describe
from synthrad.errors import InputError, InputErrors
from synthrad.records import Manifest

if TYPE_CHECKING:
    import pandas as pd

DESCRIPTION = "ieee8023 covid-chestxray-dataset: metadata.csv, images/, lung masks of three sources"
COURSE = ("survival", "intubated", "intubation_present", "went_icu", "in_icu", "needed_supplemental_O2", "extubated")
COLUMNS = ("patientid", "sex", "age", "finding", *COURSE, "view", "modality", "folder", "filename", "license")
X_RAY = "X-ray"  # the modality that is read; CT slices and volumes are counted
UNTOLD = ("", "todo", "unknown")  # findings that say nothing
SIDES = {"pa": "frontal", "ap": "frontal", "ap supine": "frontal", "ap erect": "frontal", "aps": "frontal", "l": "lateral"}
LUNGS = ("Left Lung", "Right Lung")  # templates of structure.csv
CROP_COLUMNS = ("Template Name", "Filename", "Mask", "Resolution", "Top", "Left", "Width", "Height")
Masks = dict[str, Callable[[tuple[int, int]], np.ndarray]]  # image -> its lungs [H, W] bool, of the size of the picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `synthrad prepare ieee8023`."""
    parser.add_argument("root", metavar="ROOT", help="folder with metadata.csv and images/")
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument("--view", choices=("frontal", "lateral", "all"), default="frontal",
                        help="frontal is PA, AP, AP Supine and AP Erect, lateral is L (default: frontal)")
    parser.add_argument("--v7", metavar="JSON", help="lung outlines of v7labs, COCO JSON")
    parser.add_argument("--generalblockchain", metavar="FOLDER", help="lung masks: the folder that holds structure.csv and masks/")
    parser.add_argument("--lungvae", action="store_true", help="lung masks of ROOT/annotations/lungVAE-masks, which a network drew")
    parser.add_argument("--skip-missing", action="store_true", help="leave out rows whose image is not there, and count them")
    add_age_bands(parser)
    add_options(parser)


def read(root: Path | str, out: Path | str, args: argparse.Namespace) -> Manifest:
    """Read the X-rays of the table and the lungs asked for; where an image has several masks, the first named source counts.

    Raises:
        InputErrors: all faults at once.
    """
    root = Path(root)
    where = root / "metadata.csv"
    table, said = _chosen(root, where, args)
    sources = _sources(root, args)
    paths, classes = findings(table["finding"])
    attributes = ("sex", "age", *["age_band"] * bool(args.age_bands), "view", *COURSE, "license", *["mask_source"] * bool(sources))
    layers = {"lung": ("lung",)} if sources else {}
    info = describe(args, root, classes=tuple(classes.values()), layers=layers, attributes=attributes, licence="of each image: attribute license")
    info = replace(info, id=args.id or "ieee8023_covid_chestxray")
    with Draft(Path(out), root, info, len(table), str(where), [int(i) + 2 for i in table.index], args=args) as draft:
        said += _fill(draft, table, paths, classes, args)
        files = [f"{f}/{n}" for f, n in zip(table["folder"], table["filename"], strict=True)]

        def one(row: int) -> None:
            shape, name = draft.add_image(row, [files[row]]), Path(files[row]).name
            for source, masks in sources.items():
                if name in masks:
                    draft.columns["attribute:mask_source"][row] = source
                    draft.add_masks(row, f"{row:05d}_{Path(name).stem}", {"lung": masks[name](shape).astype(np.uint8)})
                    return

        draft.each(one)
        manifest = draft.finish(args)
    print("\n".join(said))
    return manifest


def _chosen(root: Path, where: Path, args: argparse.Namespace) -> tuple[pd.DataFrame, list[str]]:
    """X-rays of the view asked for whose file is there, and what to print of the others."""
    if not root.is_dir():
        raise InputError(str(root), "no such folder", "a clone of ieee8023/covid-chestxray-dataset")
    table = read_table(where).map(str.strip)
    need_columns(table, COLUMNS, where)
    others = Counter(m or "(blank)" for m in table["modality"] if m.lower() != X_RAY.lower())
    said = [f"  modality {m}: {n} of {len(table)} rows left out" for m, n in sorted(others.items())]
    table = table[table["modality"].str.lower() == X_RAY.lower()]
    if args.view != "all":
        sides = table["view"].str.lower().map(SIDES)
        said.append(f"  --view {args.view}: {(sides != args.view).sum()} of {len(table)} X-rays left out")
        table = table[sides == args.view]
    if args.skip_missing:
        there = np.array([(root / f / n).is_file() for f, n in zip(table["folder"], table["filename"], strict=True)], bool)
        said.append(f"  --skip-missing: {(~there).sum()} of {len(table)} rows without an image left out")
        table = table[there]
    leaving = [f"row {int(i) + 2}: found the path {f}/{n}, expected one inside ROOT" for i, f, n in
               zip(table.index, table["folder"], table["filename"], strict=True) if f.startswith("/") or ".." in f"{f}/{n}".split("/")]
    if leaving:
        raise InputErrors(str(where), leaving)
    if not len(table):
        raise InputError(str(where), f"no {args.view} X-ray that is there", "at least one", "choose another --view")
    return table, said


def findings(texts: Sequence[str]) -> tuple[list[list[tuple[str, ...]]], dict[tuple[str, ...], str]]:
    """Paths of each row, and the name of each level: its last word, or the whole path where two paths end alike.

    A name that stands alone and is a level of exactly one path elsewhere is that level: older rows say COVID-19 only.
    """
    rows = [[tuple(p.strip() for p in part.split("/")) for part in text.split(",") if part.strip().lower() not in UNTOLD] for text in texts]
    levels = {path[: k + 1] for paths in rows for path in paths for k in range(len(path))}
    deep = {name: [p for p in levels if len(p) > 1 and p[-1] == name] for name in {p[-1] for p in levels}}
    rows = [[deep[p[0]][0] if len(p) == 1 and len(deep[p[0]]) == 1 else p for p in paths] for paths in rows]
    levels = sorted({path[: k + 1] for paths in rows for path in paths for k in range(len(path))})
    ends = Counter(p[-1] for p in levels)
    return rows, {p: (p[-1] if ends[p[-1]] == 1 else "_".join(p)).replace(" ", "_") for p in levels}


def level_labels(paths: Sequence[tuple[str, ...]], levels: Sequence[tuple[str, ...]]) -> list[float]:
    """1 for the levels that the paths pass, NaN for those below their ends and where there is no path, else 0."""
    values = []
    for level in levels:
        passed = any(p[: len(level)] == level for p in paths)
        below = any(level[: len(p)] == p for p in paths)
        values.append(1.0 if passed else np.nan if below or not paths else 0.0)
    return values


def _fill(draft: Draft, table: pd.DataFrame, paths: list[list[tuple[str, ...]]], classes: dict[tuple[str, ...], str],
          args: argparse.Namespace) -> list[str]:
    columns = draft.columns
    for row, (patient, name) in enumerate(zip(table["patientid"], table["filename"], strict=True)):
        columns["subject"][row] = patient
        if not patient or not name:
            draft.fault(row, f"found patientid {patient!r} and filename {name!r}, expected both")
    for row, mine in enumerate(paths):
        for name, value in zip(classes.values(), level_labels(mine, list(classes)), strict=True):
            columns[f"label:{name}"][row] = value
    for name in ("sex", "view", "license", *COURSE):
        columns[f"attribute:{name}"][:] = table[name]
    errors = note_ages(draft, table["age"], args.age_bands)
    return [f"  {errors} ages are no number: unknown"] * bool(errors)


def _sources(root: Path, args: argparse.Namespace) -> dict[str, Masks]:
    """Masks of each source asked for, those drawn by people first."""
    sources: dict[str, Masks] = {}
    if args.v7:
        sources["v7"] = _outlines(Path(args.v7))
    if args.generalblockchain:
        sources["generalblockchain"] = _crops(Path(args.generalblockchain))
    if args.lungvae:
        folder = root / "annotations" / "lungVAE-masks"
        masks = {p.name.removesuffix("_mask.png"): inside(root, p.relative_to(root)) for p in sorted(folder.glob("*_mask.png"))}
        if not masks:
            raise InputError(str(folder), "no *_mask.png", "the masks of the download", "drop --lungvae")
        sources["lungvae"] = {p.name: _whole(masks[p.stem]) for p in sorted((root / "images").iterdir()) if p.stem in masks}
    return sources


def _whole(path: Path) -> Callable[[tuple[int, int]], np.ndarray]:
    def draw(shape: tuple[int, int]) -> np.ndarray:
        mask = read_image(path)
        _check_size(str(path), mask.shape[::-1], shape)
        return mask > 127

    return draw


def _check_size(where: str, size: tuple[int, int], shape: tuple[int, int]) -> None:
    if tuple(size) != (shape[1], shape[0]):
        raise InputError(where, f"a mask of {size[0]} x {size[1]} pixels", f"{shape[1]} x {shape[0]}, the size of its image",
                         "take images and masks of the same release, neither resized")


def _outlines(path: Path) -> Masks:
    """Lungs of a COCO JSON as v7 exports it: file_name is the name in images/."""
    data = read_coco(path, expected="COCO JSON with outlines of the category Lung", option="--v7")
    lungs = {c["id"] for c in data["categories"] if c["name"] == "Lung"}
    images: dict[int | str, dict[str, Any]] = {i["id"]: i for i in data["images"]}
    parts: dict[int | str, list[np.ndarray]] = {}
    faults = []
    for mark in data["annotations"]:
        outlines, image = mark.get("segmentation"), images.get(mark["image_id"], {})
        if mark.get("category_id") not in lungs:
            continue
        if not isinstance(outlines, list) or not all(len(p) > 5 and len(p) % 2 == 0 for p in outlines):
            faults.append(f"annotation {mark.get('id')} is no outline: expected lists x, y, x, y ... of three points or more")
        elif not image.get("width") or not image.get("height"):
            faults.append(f"annotation {mark.get('id')}: image {mark['image_id']!r} is not among the images, or without width and height")
        else:
            parts.setdefault(mark["image_id"], []).extend(np.array(p, dtype=float).reshape(-1, 2) for p in outlines)
    if faults:
        raise InputErrors(str(path), faults)
    named = {Path(images[i]["file_name"]).name: (images[i], found) for i, found in parts.items()}
    sizes = {name: (int(image["width"]), int(image["height"])) for name, (image, _) in named.items()}
    if not named:
        raise InputError(str(path), "no outline of the category Lung", "at least one", "name the right file with --v7")

    def drawer(name: str) -> Callable[[tuple[int, int]], np.ndarray]:
        def draw(shape: tuple[int, int]) -> np.ndarray:
            _check_size(f"{path}, {name}", sizes[name], shape)
            lungs = np.zeros(shape, bool)
            for points in named[name][1]:
                picture = Image.new("L", sizes[name])
                ImageDraw.Draw(picture).polygon([tuple(p) for p in points], fill=1)
                if not (lung := np.array(picture) > 0).any():
                    raise InputError(f"{path}, {name}", f"an outline from {points.min(0).tolist()} to {points.max(0).tolist()}, wholly outside the picture",
                                     f"one inside {shape[1]} x {shape[0]} pixels", "take images and outlines of the same release")
                lungs |= lung
            return lungs

        return draw

    return {name: drawer(name) for name in named}


def _crops(folder: Path) -> Masks:
    """Lungs of structure.csv: coloured crops on black, both lungs of an image or none."""
    table = read_table(folder / "structure.csv")
    need_columns(table, CROP_COLUMNS, folder / "structure.csv")
    rows: dict[str, dict[str, tuple[int, pd.Series]]] = {}
    for line, row in table[table["Template Name"].isin(LUNGS) & (table["Mask"] != "")].iterrows():
        rows.setdefault(Path(row["Filename"]).name, {})[row["Template Name"]] = (int(line) + 2, row)

    def drawer(name: str) -> Callable[[tuple[int, int]], np.ndarray]:
        def draw(shape: tuple[int, int]) -> np.ndarray:
            lungs = np.zeros(shape, bool)
            for line, row in rows[name].values():
                _paste(folder, row, f"{folder / 'structure.csv'}, row {line}", lungs)
            return lungs

        return draw

    return {name: drawer(name) for name, found in rows.items() if len(found) == len(LUNGS)}


def _paste(folder: Path, row: pd.Series, where: str, lungs: np.ndarray) -> None:
    """Add a crop at its Top and Left."""
    try:
        size = tuple(int(v) for v in row["Resolution"].split("x"))
        top, left, width, height = (int(row[c]) for c in ("Top", "Left", "Width", "Height"))
    except ValueError as e:
        raise InputError(where, f"a place that is no number ({e})", "Resolution as 790x631, Top, Left, Width and Height in pixels") from e
    _check_size(where, size, lungs.shape)
    crop = read_image(inside(folder, row["Mask"], where)) > 0
    if crop.shape != (height, width) or min(top, left) < 0 or top + height > lungs.shape[0] or left + width > lungs.shape[1]:
        found = f"a crop of {crop.shape[1]} x {crop.shape[0]} pixels at {left}, {top}"
        raise InputError(where, found, f"{width} x {height}, inside {size[0]} x {size[1]}")
    lungs[top : top + height, left : left + width] |= crop

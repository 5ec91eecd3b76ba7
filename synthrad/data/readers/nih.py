"""NIH ChestX-ray14 (Wang et al., CVPR 2017, arXiv 1705.02315): Data_Entry_2017.csv and 1024 x 1024 PNGs.

Labels are joined with `|`. The header's `OriginalImage[Width,Height]` and `OriginalImagePixelSpacing[x,y]` hold commas without
quotes, so they are four columns, and most copies end each line with a comma. Ages are numbers or, in older copies, `058Y`;
some are errors (414). The labels were mined from reports. BBox_List_2017.csv has boxes of eight findings on 880 images, in
pixels of 1024 x 1024.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthrad.data.ages import add_age_bands, note_ages
from synthrad.data.published_splits import add_official_split, divide
from synthrad.data.tables import need_columns, read_table
from synthrad.data.writing import Draft, add_options, describe
from synthrad.errors import InputError, InputErrors, near
from synthrad.records import Manifest

if TYPE_CHECKING:
    import pandas as pd

DESCRIPTION = "NIH ChestX-ray14: Data_Entry_2017.csv with 14 findings, images in images/ or images_001/images/ ..."
FINDINGS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia", "Infiltration", "Mass",
            "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax")
CLASSES = (*FINDINGS, "No_Finding")
COLUMNS = ("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "View Position")
SEXES = ("Patient Gender", "Patient Sex")  # of 2017 and of 2020
BOXED = {"Infiltrate": "Infiltration"}  # names in BBox_List_2017.csv that differ
BOX_COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
SIDE = 1024  # pixels of the published images, and of the boxes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `synthrad prepare nih`."""
    parser.add_argument("root", metavar="ROOT", help="folder with Data_Entry_2017*.csv and, at any depth, the images")
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument("--entries", metavar="CSV", help="which table, where ROOT has several (a file name)")
    parser.add_argument("--boxes", action="store_true",
                        help="boxes of BBox_List_2017.csv as masks, one layer a finding; images without a box have no known mask")
    parser.add_argument("--skip-missing", action="store_true", help="leave out rows whose image is not there, and count them")
    add_official_split(parser, "the images of test_list.txt")
    add_age_bands(parser)
    add_options(parser)


def read(root: Path | str, out: Path | str, args: argparse.Namespace) -> Manifest:
    """Read the table, find the images, draw boxes where asked; print what was left out or unknown.

    Raises:
        InputErrors: all faults at once, with row, column, value and repair.
    """
    root = Path(root)
    where = _entries(root, args.entries)
    table = read_table(where)
    need_columns(table, (*COLUMNS, next((c for c in SEXES if c in table), SEXES[0])), where)
    table, files, said = _with_images(root, table, where, args.skip_missing)
    boxes = _boxes(root) if args.boxes else {}
    attributes = ("sex", "age", *["age_band"] * bool(args.age_bands), "view", "follow_up")
    layers = {f"{f}_box": (f,) for f in sorted({f for found in boxes.values() for f, _ in found})}
    info = describe(args, root, classes=CLASSES, layers=layers, attributes=attributes, licence="NIH Clinical Center: free use with citation")
    info = replace(info, id=args.id or "nih_chestxray14")
    lines = [int(i) + 2 for i in table.index]
    names = [n.strip() for n in table["Image Index"]]
    with Draft(Path(out), root, info, len(table), str(where), lines, args=args) as draft:
        said += _fill(draft, table, names, args)
        if args.official_split:
            _published(draft, root, names)

        def one(row: int) -> None:
            shape = draft.add_image(row, [files[names[row]].relative_to(root).as_posix()])
            if found := boxes.get(names[row]):
                labels = {f: draft.columns[f"label:{f}"][row] for f in FINDINGS}
                draft.add_masks(row, Path(names[row]).stem, _masks(found, shape, labels, layers))

        draft.each(one)
        divide(draft, args)
        manifest = draft.finish(args)
    print("\n".join(said))
    return manifest


def _entries(root: Path, name: str | None) -> Path:
    if not root.is_dir():
        raise InputError(str(root), "no such folder", "the folder of a ChestX-ray14 download")
    found = [root / name] if name else sorted(root.glob("Data_Entry_2017*.csv"))
    if len(found) != 1:
        raise InputError(str(root), ", ".join(p.name for p in found) or "no Data_Entry_2017*.csv", "one table of that name",
                         "give the folder that holds it, or name one with --entries")
    return found[0]


def _with_images(root: Path, table: pd.DataFrame, where: Path, skip: bool) -> tuple[pd.DataFrame, dict[str, Path], list[str]]:
    """The rows whose image is there, the file of each name, and what to print."""
    files: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.png")):
        files.setdefault(path.name, []).append(path)
    counts = np.array([len(files.get(n.strip(), [])) for n in table["Image Index"]])
    faults = []
    for row in np.flatnonzero(counts != 1):
        if counts[row] or not skip:
            faults.append(f"row {int(table.index[row]) + 2}, column 'Image Index': {table['Image Index'].iat[row]!r}: found {counts[row]} "
                          f"files of that name under {root}, expected 1" + "; --skip-missing leaves such rows out" * (not counts[row]))
    if faults:
        raise InputErrors(str(where), faults)
    if not counts.any():
        raise InputError(str(root), "no image of the table", "images/ or images_001/images/ ... with 00000001_000.png", "unpack them there")
    said = [f"  --skip-missing: {(counts == 0).sum()} of {len(table)} rows without an image left out"] * skip
    return table[counts == 1], {name: paths[0] for name, paths in files.items()}, said


def _fill(draft: Draft, table: pd.DataFrame, names: list[str], args: argparse.Namespace) -> list[str]:
    """Labels, subjects and attributes; returns what to print."""
    columns = draft.columns
    for row, (name, patient) in enumerate(zip(names, table["Patient ID"].str.strip(), strict=True)):
        said = re.match(r"(\d{8})_\d+\.png$", name)
        if not patient.isdigit() or (said and int(said[1]) != int(patient)):
            draft.fault(row, f"column 'Patient ID': found {patient!r} for {name}, expected the number that the image's name starts with")
        else:
            columns["subject"][row] = str(int(patient))
    for row, text in enumerate(table["Finding Labels"]):
        _note_labels(draft, row, [part.strip().replace(" ", "_") for part in text.split("|") if part.strip()])
    sex = next(c for c in SEXES if c in table)
    columns["attribute:sex"][:] = table[sex].str.strip()
    columns["attribute:view"][:] = table["View Position"].str.strip()
    columns["attribute:follow_up"][:] = table["Follow-up #"].str.strip()
    errors = note_ages(draft, table["Patient Age"], args.age_bands)
    return [f"  {errors} ages are none (over 120 years, or no number): unknown"] * bool(errors)


def _note_labels(draft: Draft, row: int, found: list[str]) -> None:
    if not found:
        return  # unknown
    for name in set(found) - set(CLASSES):
        draft.fault(row, f"column 'Finding Labels': found {name!r}, expected findings of {', '.join(CLASSES)}; {near(name, CLASSES)}")
    if "No_Finding" in found and len(set(found)) > 1:
        draft.fault(row, f"column 'Finding Labels': found {'|'.join(found)}, expected No Finding alone or findings without it")
    for name in CLASSES:
        draft.columns[f"label:{name}"][row] = float(name in found)


def _published(draft: Draft, root: Path, names: list[str]) -> None:
    """Note the rows of test_list.txt as test; a fault of each row that is in neither list, or whose patient is in both."""
    lists = {}
    for name in ("train_val_list.txt", "test_list.txt"):
        found = sorted(root.rglob(name))
        if len(found) != 1:
            raise InputError(str(root), f"{len(found)} files {name}", "one, for --official-split", "put it beside the table, or drop the option")
        lists[name] = set(found[0].read_text(errors="replace").split())
    test = np.array([n in lists["test_list.txt"] for n in names])
    both = set(draft.columns["subject"][test]) & set(draft.columns["subject"][~test])
    for row, name in enumerate(names):
        if test[row] == (name in lists["train_val_list.txt"]):
            draft.fault(row, f"{name}: in {'both' if test[row] else 'neither'} of train_val_list.txt and test_list.txt, expected in one")
        elif test[row] and draft.columns["subject"][row] in both:
            draft.fault(row, f"{name}: its patient {draft.columns['subject'][row]} is in train_val_list.txt, too; a patient belongs to one list")
    draft.columns["split"][test] = "test"


def _boxes(root: Path) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Image -> (finding, [x, y, w, h] in pixels of 1024 x 1024) of BBox_List_2017.csv."""
    found = sorted(root.rglob("BBox_List_2017.csv"))
    if len(found) != 1:
        raise InputError(str(root), f"{len(found)} files BBox_List_2017.csv", "one, for --boxes", "put it beside the table, or drop the option")
    table = read_table(found[0])
    need_columns(table, BOX_COLUMNS, found[0])
    boxes: dict[str, list[tuple[str, np.ndarray]]] = {}
    faults = []
    for line, (name, finding, *numbers) in zip(table.index, table[list(BOX_COLUMNS)].to_numpy(), strict=True):
        finding = BOXED.get(finding.strip(), finding.strip())
        try:
            box = np.array([float(n) for n in numbers])
        except ValueError:
            box = np.full(4, np.nan)
        inside = (box[:2] >= -1).all() and (box[2:] > 0).all() and (box[:2] + box[2:] <= SIDE + 1).all()
        if finding not in FINDINGS or not inside:
            faults.append(f"row {int(line) + 2}: found {finding} {' '.join(numbers)}, expected a finding and x, y, w, h inside {SIDE} x {SIDE}")
        boxes.setdefault(name.strip(), []).append((finding, box))
    if faults:
        raise InputErrors(str(found[0]), faults)
    return boxes


def _masks(found: list[tuple[str, np.ndarray]], shape: tuple[int, int], labels: dict[str, float],
           layers: dict[str, tuple[str, ...]]) -> dict[str, np.ndarray | None]:
    """Boxes of an image that has some; a finding without a box is empty where its label is 0 and unknown where it is 1."""
    masks: dict[str, np.ndarray | None] = {}
    for layer, (finding,) in layers.items():
        mine = [box for name, box in found if name == finding]
        if not mine and labels[finding] != 0:
            masks[layer] = None
            continue
        mask = np.zeros(shape, np.uint8)
        for box in mine:
            left, top = box[:2] * (shape[1], shape[0]) / SIDE
            right, bottom = (box[:2] + box[2:]) * (shape[1], shape[0]) / SIDE
            mask[max(0, round(top)) : max(1, round(bottom)), max(0, round(left)) : max(1, round(right))] = 1
        masks[layer] = mask
    return masks

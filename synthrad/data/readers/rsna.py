"""RSNA pneumonia detection (Shih et al., 10.1148/ryai.2019180041): DICOM and boxes.

As published: `stage_2_train_labels.csv` with `patientId,x,y,width,height,Target`, one row a box, so several for one image, or one
row without numbers where Target is 0; `stage_2_detailed_class_info.csv` with `patientId,class` (Normal, No Lung Opacity / Not
Normal, Lung Opacity); `stage_2_train_images/<patientId>.dcm`, JPEG of 8 bit, 1024 x 1024. x and y are the upper left
corner in pixels. patientId is one an image, not a patient: the images are from NIH ChestX-ray14, which has several of one
patient, and RSNA publishes whose they are: `pneumonia-challenge-dataset-mappings_2018.json`, entries with `subset_img_id`
(patientId) and `img_id` (the NIH file name, 00000005_001.png, patient 00000005). Target 1 is an opacity that may be a pneumonia.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from synthrad.data.dicom_files import (
    Listed,
    add_table_options,
    attribute_names,
    files_under,
    find_table,
    intensity,
    listed_pictures,
    read_columns,
    stem,
    store_picture,
)
from synthrad.data.writing import Draft, describe
from synthrad.documents import read_json
from synthrad.errors import InputError, InputErrors
from synthrad.records import Manifest

DESCRIPTION = "RSNA pneumonia detection: DICOM, boxes of stage_2_train_labels.csv"
OPACITY, NORMAL = "lung_opacity", "normal"
LABELS, CLASSES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"
SLACK = 1.0  # pixels that a box may pass the edge by rounding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `synthrad prepare rsna`."""
    parser.add_argument(
        "--boxes", choices=("none", "masks"), default="none", help="masks: each box, filled, as a mask of the layer lung_opacity (default: none)"
    )
    parser.add_argument(
        "--nih-mapping", metavar="JSON", help="pneumonia-challenge-dataset-mappings_2018.json of RSNA: which images are of one patient"
    )
    add_table_options(parser)
    parser.set_defaults(id="rsna_pneumonia")


@dataclass
class Study:
    """One image of the tables; a box is (line, x, y, width, height)."""

    line: int
    target: str
    boxes: list[tuple[int, float, float, float, float]] = field(default_factory=list)


def read(root: Path | str, out: Path | str, args: argparse.Namespace) -> Manifest:
    """Read boxes and classes; labels lung_opacity and, where the classes are there, normal.

    Raises:
        InputErrors: all faults at once: rows without an image, boxes beyond it, a Target that its boxes contradict.
    """
    root = Path(root)
    files = files_under(root)
    where = find_table(files, (LABELS,), root)
    studies = _studies(where)
    kinds = _kinds(find_table(files, (CLASSES,), root), studies) if any(p.name.lower() == CLASSES for p in files) else {}
    listed = listed_pictures({i: s.line for i, s in studies.items()}, files, args, str(where), "patientId")
    nih = _nih_names(Path(args.nih_mapping), listed.ids) if args.nih_mapping else None
    args = intensity(listed.facts, args, str(root))
    layers = {OPACITY: (OPACITY,)} if args.boxes == "masks" else {}
    info = describe(args, root, classes=(OPACITY, *[NORMAL] * bool(kinds)), layers=layers, attributes=attribute_names(args))
    with Draft(Path(out), root, info, len(listed.ids), str(where), listed.lines, args=args) as draft:
        draft.columns["subject"][:] = draft.hashed([n.split("_")[0] for n in nih] if nih else listed.ids)
        if nih:
            draft.columns["origin:nih_chestxray14"] = np.array(nih, dtype=object)

        def one(row: int) -> None:
            study = studies[listed.ids[row]]
            shape = store_picture(draft, row, listed.paths[row], listed.facts[row], args)
            draft.columns[f"label:{OPACITY}"][row] = float(study.target)
            if kinds:
                draft.columns[f"label:{NORMAL}"][row] = float(kinds[listed.ids[row]] == "Normal")
            mask = _filled(study, shape)
            draft.add_masks(row, stem(row), {OPACITY: mask} if layers else {})

        draft.each(one, "decoding images", line=False)
        manifest = draft.finish(args)
    for line in _notes(listed, files, nih is None):
        print(line)
    return manifest


def _notes(listed: Listed, files: Sequence[Path], unmapped: bool) -> list[str]:
    lines = list(listed.notes)
    if others := sum(p.suffix.lower() == ".dcm" for p in files) - len(listed.paths):
        lines.append(f"  left out: {others} DICOM files without a row (the test images have none)")
    if unmapped:
        lines.append("  warning: each image counts as a patient of its own, but some are of one NIH patient; --nih-mapping tells which")
    return lines


def _studies(where: Path) -> dict[str, Study]:
    """patientId -> its boxes and Target."""
    table = read_columns(where, ("patientId", "x", "y", "width", "height", "Target"))
    studies: dict[str, Study] = {}
    faults = []
    for index, *cells in table.itertuples():
        line, (image, *box, target) = int(index) + 2, cells
        target = {"0": "0", "1": "1", "0.0": "0", "1.0": "1"}.get(target)
        study = studies.setdefault(image, Study(line, target or ""))
        if target is None:
            faults.append(f"row {line}, column 'Target': found no 0 or 1, expected one")
        elif target != study.target:
            faults.append(f"row {line}, column 'Target': found {target}, expected {study.target}, as in row {study.line} of the same image")
        elif bool("".join(box)) != (target == "1"):
            faults.append(f"row {line}, columns x, y, width, height: found Target {target} {'with' if target == '0' else 'without'} a box, "
                          "expected a box where Target is 1 and none where it is 0")
        elif target == "1":
            try:
                numbers = tuple(float(v) for v in box)
            except ValueError:
                numbers = (float("nan"),)
            if not np.isfinite(numbers).all() or min(numbers[2:]) <= 0:
                faults.append(f"row {line}, columns x, y, width, height: found no box, expected four numbers, the last two above 0")
            else:
                study.boxes.append((line, *numbers))
    if faults:
        raise InputErrors(str(where), faults)
    return studies


def _kinds(where: Path, studies: dict[str, Study]) -> dict[str, str]:
    """patientId -> its detailed class."""
    known = {"Normal": "0", "No Lung Opacity / Not Normal": "0", "Lung Opacity": "1"}
    table = read_columns(where, ("patientId", "class"))
    kinds: dict[str, str] = {}
    faults = []
    for line, image, kind in zip(table.index + 2, table["patientId"], table["class"], strict=True):
        if kind not in known:
            faults.append(f"row {line}, column 'class': found another class, expected one of {', '.join(known)}")
        elif kinds.setdefault(image, kind) != kind or (image in studies and studies[image].target != known[kind]):
            faults.append(f"row {line}, column 'class': found a class that another row of the same image, or its Target in {LABELS}, contradicts")
    faults += [f"row {s.line} of {LABELS}: its patientId has no row here, expected its class" for i, s in studies.items() if i not in kinds]
    if faults:
        raise InputErrors(str(where), faults)
    return kinds


def _nih_names(where: Path, ids: Sequence[str]) -> list[str]:
    """The NIH file name of each image."""
    entries = read_json(where, "pneumonia-challenge-dataset-mappings_2018.json of RSNA")
    try:
        names = {e["subset_img_id"]: e["img_id"] for e in entries}
        found = [names[i] for i in ids]
        if not all(isinstance(n, str) and n.split("_")[0].isdigit() for n in found):
            raise ValueError("img_id")
    except (ValueError, KeyError, TypeError) as e:
        found = "no entry for some image" if isinstance(e, KeyError) else f"a file that is not as expected ({type(e).__name__})"
        raise InputError(str(where), found, "JSON entries with subset_img_id and img_id for every image",
                         "get pneumonia-challenge-dataset-mappings_2018.json from RSNA's page of the challenge") from None
    return found


def _filled(study: Study, shape: tuple[int, int]) -> np.ndarray:
    """[H, W] uint8, 1 in the boxes.

    Raises:
        InputError: a box beyond the picture.
    """
    mask = np.zeros(shape, dtype=np.uint8)
    for line, x, y, width, height in study.boxes:
        if min(x, y) < -SLACK or x + width > shape[1] + SLACK or y + height > shape[0] + SLACK:
            raise InputError(f"row {line}, columns x, y, width, height", f"a box up to x = {x + width:g}, y = {y + height:g}",
                             f"one inside {shape[1]} x {shape[0]} pixels", "boxes hold for the published pictures: give those")
        mask[max(0, round(y)) : round(y + height), max(0, round(x)) : round(x + width)] = 1
    return mask

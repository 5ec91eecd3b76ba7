"""SIIM-ACR pneumothorax segmentation (2019): DICOM and run lengths.

As published: `train-rle.csv` with the columns `ImageId` and ` EncodedPixels` (a blank before the name and before each value), one
row a region, so several for one image; `dicom-images-train/<study>/<series>/<ImageId>.dcm`, JPEG of 8 bit, 1024 x 1024. The run
lengths are relative and run down the columns, -1 is an image without pneumothorax. `stage_2_train.csv` has the same
columns without the blanks. Images that the table does not name (the test images, and some of the training folder) have no
labels. The images are from NIH ChestX-ray14: keep a set of one from testing a net of the other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from synthrad.data.dicom_files import (
    add_table_options,
    attribute_names,
    files_under,
    fill_attributes,
    find_pictures,
    find_table,
    intensity,
    listed_pictures,
    read_columns,
    stem,
    store_picture,
)
from synthrad.data.run_lengths import EMPTY, decode
from synthrad.data.writing import Draft, describe
from synthrad.errors import InputErrors
from synthrad.records import Manifest

DESCRIPTION = "SIIM-ACR pneumothorax: DICOM, run lengths of train-rle.csv"
FINDING = "pneumothorax"
TABLES = ("train-rle.csv", "stage_2_train.csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `synthrad prepare siim`."""
    parser.add_argument("--annotations", metavar="CSV", help=f"the table (default: the one {' or '.join(TABLES)} under ROOT)")
    parser.add_argument(
        "--unlabelled", action="store_true", help="take images that the table does not name, too, without label and mask (default: left out)"
    )
    add_table_options(parser)
    parser.set_defaults(id="siim_acr_pneumothorax")


def read(root: Path | str, out: Path | str, args: argparse.Namespace) -> Manifest:
    """Unite the regions of each image into one mask.

    Raises:
        InputErrors: all faults at once: rows without an image, run lengths beyond it, an image with and without pneumothorax.
    """
    root = Path(root)
    files = files_under(root)
    where = Path(args.annotations) if args.annotations else find_table(files, TABLES, root)
    regions = _regions(where)
    listed = listed_pictures({i: rows[0][0] for i, rows in regions.items()}, files, args, str(where), "ImageId")
    others = find_pictures([p for p in files if p not in set(listed.paths)], args) if args.unlabelled else None
    paths = listed.paths + (others.paths if others else [])
    facts = listed.facts + (others.facts if others else [])
    args = intensity(facts, args, str(root))
    info = describe(args, root, classes=(FINDING,), layers={FINDING: (FINDING,)}, attributes=attribute_names(args))
    with Draft(Path(out), root, info, len(paths), str(where), args=args) as draft:
        draft.columns["subject"][:] = draft.hashed([f.patient or p.stem for f, p in zip(facts, paths, strict=True)], [f"{p}: " for p in paths])

        def one(row: int) -> None:
            shape = store_picture(draft, row, paths[row], args)
            fill_attributes(draft, row, facts[row], args)
            if row < len(listed.ids):
                mask = _united(regions[listed.ids[row]], shape)
                draft.columns[f"label:{FINDING}"][row] = float(mask.any())
                draft.add_masks(row, stem(row), {FINDING: mask.astype(np.uint8)})

        draft.each(one, "decoding images", line=False)
        manifest = draft.finish(args)
    for line in listed.notes + ([f"  {len(others.paths)} images without a row have no label"] if others else []):
        print(line)
    return manifest


def _regions(where: Path) -> dict[str, list[tuple[int, str]]]:
    """Image -> (line, run lengths) of each of its rows."""
    table = read_columns(where, ("ImageId", "EncodedPixels"))
    regions: dict[str, list[tuple[int, str]]] = {}
    for line, image, text in zip(table.index + 2, table["ImageId"], table["EncodedPixels"], strict=True):
        regions.setdefault(image, []).append((int(line), text))
    faults = []
    for rows in regions.values():
        empty = [text == EMPTY for _, text in rows]
        if any(empty) and not all(empty):
            faults.append(f"row {rows[empty.index(True)][0]}, column 'EncodedPixels': found -1, which says no pneumothorax, "
                          f"and run lengths in row {rows[empty.index(False)][0]} of the same image; remove one")
    if faults:
        raise InputErrors(str(where), faults)
    return regions


def _united(rows: list[tuple[int, str]], shape: tuple[int, int]) -> np.ndarray:
    """[H, W] bool: all regions of an image."""
    parts = [decode(text, shape, "relative", f"row {line}, column 'EncodedPixels'") for line, text in rows]
    return np.logical_or.reduce(parts)

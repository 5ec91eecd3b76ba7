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
    find_pictures,
    find_table,
    intensity,
    listed_pictures,
    read_columns,
    stem,
    store_picture,
)
from synthrad.data.run_lengths import Region, contradiction, united
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
    lines, regions = _regions(where)
    listed = listed_pictures(lines, files, args, str(where), "ImageId")
    others = find_pictures([p for p in files if p not in set(listed.paths)], args) if args.unlabelled else None
    paths = listed.paths + (others.paths if others else [])
    facts = listed.facts + (others.facts if others else [])
    args = intensity(facts, args, str(root))
    info = describe(args, root, classes=(FINDING,), layers={FINDING: (FINDING,)}, attributes=attribute_names(args))
    with Draft(Path(out), root, info, len(paths), str(where), args=args) as draft:
        draft.columns["subject"][:] = draft.hashed([f.patient or p.stem for f, p in zip(facts, paths, strict=True)], [f"{p}: " for p in paths])

        def one(row: int) -> None:
            shape = store_picture(draft, row, paths[row], facts[row], args)
            if row < len(listed.ids):
                mask = united(regions[listed.ids[row]], shape, "relative")
                draft.columns[f"label:{FINDING}"][row] = float(mask.any())
                draft.add_masks(row, stem(row), {FINDING: mask.astype(np.uint8)})

        draft.each(one, "decoding images", line=False)
        manifest = draft.finish(args)
    for line in listed.notes + ([f"  {len(others.paths)} images without a row have no label"] if others else []):
        print(line)
    return manifest


def _regions(where: Path) -> tuple[dict[str, int], dict[str, list[Region]]]:
    """Image -> its first line; image -> the run lengths of each of its rows."""
    lines: dict[str, int] = {}
    regions: dict[str, list[Region]] = {}
    for index, image, text in read_columns(where, ("ImageId", "EncodedPixels")).itertuples():
        line = int(index) + 2
        lines.setdefault(image, line)
        regions.setdefault(image, []).append((f"row {line}, column 'EncodedPixels'", text))
    if faults := [fault for rows in regions.values() for fault in contradiction(rows)]:
        raise InputErrors(str(where), faults)
    return lines, regions

"""CANDID-PTX (Feng et al., 10.1148/ryai.2021210136): DICOM, run lengths of pneumothorax, rib fracture and chest tube, reports.

The set is given out under an agreement, so this layout was put together from public programs that read it, which agree:
DICOM files without an ending, named by SOPInstanceUID, in one folder (`dataset`, or as unpacked); `Pneumothorax_reports.csv`
with SOPInstanceUID, EncodedPixels (-1: none; several rows where there are several regions), Report and filename
(`P<patient>_<date>...`: the patient is what stands before the first _); `chest_tube.csv` and `Rib_fracture_mask_rle.csv` (also
seen as `acute_rib_fracture.csv`) with anon_SOPUID and mask_rle, of images that have one. The run lengths are relative, as those of
SIIM-ACR; --run-lengths is there because none of the set's own files was at hand. An image that the table gives to two
patients is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from synthrad.data.dicom_files import (
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
from synthrad.data.run_lengths import FORMS, Region, contradiction, united
from synthrad.data.writing import Draft, describe
from synthrad.errors import InputErrors
from synthrad.records import Manifest

DESCRIPTION = "CANDID-PTX: DICOM, run lengths of pneumothorax, rib fracture and chest tube, reports"
REPORTS = "Pneumothorax_reports.csv"
PNEUMOTHORAX = "pneumothorax"
OTHERS = {"rib_fracture": ("Rib_fracture_mask_rle.csv", "acute_rib_fracture.csv"), "chest_tube": ("chest_tube.csv",)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `synthrad prepare candid`."""
    parser.add_argument(
        "--findings",
        nargs="+",
        choices=(PNEUMOTHORAX, *OTHERS),
        default=[PNEUMOTHORAX, *OTHERS],
        help="which become a label and a layer of their own (default: all)",
    )
    parser.add_argument(
        "--unlisted",
        choices=("absent", "unknown"),
        default="absent",
        help="what an image is that the table of rib fractures or chest tubes does not name (default: absent)",
    )
    parser.add_argument("--run-lengths", choices=FORMS, default="relative", help="how the masks are written (default: relative)")
    parser.add_argument(
        "--reports", action="store_true", help="add the attribute report: free text, which may tell who the patient is (default: left out)"
    )
    add_table_options(parser)
    parser.set_defaults(id="candid_ptx")


@dataclass
class Study:
    """One image of the tables; `regions`: finding -> (table and line, run lengths) of each of its rows."""

    line: int
    patient: str
    report: str
    regions: dict[str, list[Region]] = field(default_factory=dict)


def read(root: Path | str, out: Path | str, args: argparse.Namespace) -> Manifest:
    """Unite the regions of each finding of an image into one mask.

    Raises:
        InputErrors: all faults at once: rows without an image, run lengths beyond it.
    """
    root = Path(root)
    files = files_under(root)
    where = find_table(files, (REPORTS,), root)
    studies, notes = _studies(where, args)
    for finding in [f for f in args.findings if f in OTHERS]:
        notes += _add_regions(studies, find_table(files, OTHERS[finding], root), finding)
    listed = listed_pictures({i: s.line for i, s in studies.items()}, files, args, str(where), "SOPInstanceUID")
    args = intensity(listed.facts, args, str(root))
    findings = tuple(dict.fromkeys(args.findings))
    attributes = (*attribute_names(args), *["report"] * args.reports)
    info = describe(args, root, classes=findings, layers={f: (f,) for f in findings}, attributes=attributes)
    with Draft(Path(out), root, info, len(listed.ids), str(where), listed.lines, args=args) as draft:
        draft.columns["subject"][:] = draft.hashed([studies[i].patient for i in listed.ids])
        if args.reports:
            draft.columns["attribute:report"][:] = [" ".join(studies[i].report.split()) for i in listed.ids]

        def one(row: int) -> None:
            study = studies[listed.ids[row]]
            shape = store_picture(draft, row, listed.paths[row], listed.facts[row], args)
            masks = {f: _mask(study.regions.get(f), shape, f, args) for f in findings}
            for finding, mask in masks.items():
                draft.columns[f"label:{finding}"][row] = np.nan if mask is None else float(mask.any())
            draft.add_masks(row, stem(row), {f: None if m is None else m.astype(np.uint8) for f, m in masks.items()})

        draft.each(one, "decoding images", line=False)
        manifest = draft.finish(args)
    if args.reports:
        notes.append("  warning: the attribute report is free text and may tell who a patient is; leave it out of what you share")
    for line in notes + listed.notes:
        print(line)
    return manifest


def _studies(where: Path, args: argparse.Namespace) -> tuple[dict[str, Study], list[str]]:
    """SOPInstanceUID -> its patient, report and regions of pneumothorax; images of two patients are left out."""
    columns = ("SOPInstanceUID", "EncodedPixels", "filename", *["Report"] * args.reports)
    studies: dict[str, Study] = {}
    shared, faults = set(), []
    for index, image, text, name, *report in read_columns(where, columns).itertuples():
        line, patient = int(index) + 2, name.split("_")[0]
        if not patient or not image:
            faults.append(f"row {line}, columns 'SOPInstanceUID', 'filename': found a blank, expected an image and its P<patient>_<date>")
            continue
        study = studies.setdefault(image, Study(line, patient, "".join(report)))
        if study.patient != patient:
            shared.add(image)
        if text:
            study.regions.setdefault(PNEUMOTHORAX, []).append((f"row {line}, column 'EncodedPixels'", text))
    faults += [fault for s in studies.values() for fault in contradiction(s.regions.get(PNEUMOTHORAX, []))]
    if faults:
        raise InputErrors(str(where), faults)
    kept = {i: s for i, s in studies.items() if i not in shared}
    return kept, [f"  left out: {len(shared)} image(s) that the table gives to two patients"] * bool(shared)


def _add_regions(studies: dict[str, Study], where: Path, finding: str) -> list[str]:
    """Note the regions of a further finding; returns a line on those of images that the reports do not name."""
    others = set()
    for index, image, text in read_columns(where, ("anon_SOPUID", "mask_rle")).itertuples():
        if image not in studies:
            others.add(image)
        elif text:
            studies[image].regions.setdefault(finding, []).append((f"{where.name}: row {int(index) + 2}, column 'mask_rle'", text))
    if faults := [fault for s in studies.values() for fault in contradiction(s.regions.get(finding, []))]:
        raise InputErrors(str(where), faults)
    return [f"  {len(others)} image(s) of {where.name} are not in {REPORTS}"] * bool(others)


def _mask(rows: Sequence[Region] | None, shape: tuple[int, int], finding: str, args: argparse.Namespace) -> np.ndarray | None:
    """[H, W] bool: all regions of a finding; None where nobody looked."""
    if rows:
        return united(rows, shape, args.run_lengths)
    return np.zeros(shape, dtype=bool) if finding in OTHERS and args.unlisted == "absent" else None

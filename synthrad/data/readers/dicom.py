"""Any tree of DICOM files: each picture a row, patients by PatientID.

Files are found by what they hold, with or without an ending. Reports, presentation states, segmentations and a DICOMDIR are
counted and left out; the tree is walked, so no path that a DICOMDIR names is ever opened. Pictures of several frames and pixels
that may hold text are refused, see data/dicom.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from synthrad.data.dicom_files import (
    Pictures,
    add_dicom_options,
    attribute_names,
    files_under,
    find_pictures,
    intensity,
    store_picture,
)
from synthrad.data.writing import Draft, describe
from synthrad.errors import InputError
from synthrad.records import Manifest

DESCRIPTION = "any folder of DICOM pictures: patients by PatientID (kept as a keyed hash), pixels as plain PNGs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `synthrad prepare dicom`."""
    parser.add_argument("root", metavar="ROOT", help="folder of DICOM files (any depth, any ending)")
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument(
        "--subject",
        choices=("patient", "folder"),
        default="patient",
        help="what tells patients apart: PatientID, or the folder that a file lies in (default: patient)",
    )
    add_dicom_options(parser)


def read(root: Path | str, out: Path | str, args: argparse.Namespace) -> Manifest:
    """Read the headers, then decode every picture into OUT.

    Raises:
        InputErrors: all faults of all files at once. InputError: no picture, no PatientID, or several ranges of grey levels.
    """
    root = Path(root)
    pictures = find_pictures(files_under(root), args)
    if not pictures.paths:
        raise InputError(str(root), f"no DICOM picture{pictures.said().replace('  left out:', ';')}", "one or more", "name the folder that holds them")
    args = intensity(pictures.facts, args, str(root))
    info = describe(args, root, attributes=attribute_names(args))
    with Draft(Path(out), root, info, len(pictures.paths), str(root), args=args) as draft:
        draft.columns["subject"][:] = draft.hashed(_patients(pictures, root, args.subject), [f"{p}: " for p in pictures.paths])

        def one(row: int) -> None:
            store_picture(draft, row, pictures.paths[row], pictures.facts[row], args)

        draft.each(one, "decoding images", line=False)
        manifest = draft.finish(args)
    if line := pictures.said():
        print(line)
    return manifest


def _patients(pictures: Pictures, root: Path, subject: str) -> list[str]:
    if subject == "folder":
        return [p.parent.relative_to(root).as_posix() for p in pictures.paths]
    patients = [f.patient for f in pictures.facts]
    if blank := patients.count(""):
        raise InputError(str(root), f"{blank} of {len(patients)} pictures without a PatientID (first {pictures.paths[patients.index('')].relative_to(root)})", "one in each",
                         "if each patient has a folder, add --subject folder")
    return patients

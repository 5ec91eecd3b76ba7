"""CheXpert (Irvin et al., AAAI 2019, arXiv 1901.07031) and CheXpert Plus (Chambon et al., arXiv 2405.19538).

CheXpert: train.csv and valid.csv with Path, Sex, Age, Frontal/Lateral, AP/PA and 14 labels: 1, 0, -1 (uncertain) or blank
(not mentioned). CheXpert Plus: df_chexpert_plus_240401.csv with path_to_image, frontal_lateral, ap_pa, demographics, report
sections and split; its labels are JSON lines, one file a part of the report (chexbert_labels/impression_fixed.json ...).
A patient is the folder patient00001 of the path, in both; so both have the id `chexpert` and share their patients.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthrad.data.ages import add_age_bands, note_ages
from synthrad.data.published_splits import add_official_split, divide
from synthrad.data.tables import need_columns, read_table
from synthrad.data.writing import Draft, add_options, describe
from synthrad.documents import read_json_lines
from synthrad.errors import InputError, InputErrors
from synthrad.records import Manifest

if TYPE_CHECKING:
    import pandas as pd

DESCRIPTION = "CheXpert (train.csv, valid.csv) or CheXpert Plus (df_chexpert_plus_*.csv): chest radiographs with 14 labels"
LABELS = ("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
          "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices")
CLASSES = tuple(name.replace(" ", "_") for name in LABELS)
COLUMNS = {"Path": "path", "Sex": "sex", "Age": "age", "Frontal/Lateral": "side", "AP/PA": "projection"}
PLUS_COLUMNS = {"path_to_image": "path", "sex": "sex", "age": "age", "frontal_lateral": "side", "ap_pa": "projection", "split": "split"}
DEMOGRAPHICS = ("race", "ethnicity", "interpreter_needed", "insurance_type", "recent_bmi", "deceased")
SECTIONS = ("narrative", "clinical_history", "history", "comparison", "technique", "procedure_comments", "findings", "impression",
            "end_of_impression", "summary")
SMOOTH = (0.55, 0.85)  # the range of U-Ones with label smoothing (Pham et al., Neurocomputing 2021, arXiv 1911.06475)
_VALUES = {"": None, "1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "-1": -1.0, "-1.0": -1.0}
_VIEW = re.compile(r"(patient\d+)/(study\d+)/(view\d+_[a-z]+)\.(?:jpe?g|png)$", re.IGNORECASE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `synthrad prepare chexpert`."""
    parser.add_argument("root", metavar="ROOT", help="folder with the CSV and, at any depth, the images")
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument(
        "--uncertain", choices=("ones", "zeros", "ignore", "smoothed"), default="ignore",
        help="what -1 is in training rows: 1, 0, unknown, or 1 with a soft label drawn from 0.55 to 0.85 that classifiers are "
        "trained towards (by --seed and path). In val, audit and test it is unknown (default: ignore)",
    )
    parser.add_argument("--blank", choices=("unknown", "zeros"), default="unknown",
                        help="what a finding is that a report does not mention (default: unknown)")
    parser.add_argument("--view", choices=("frontal", "lateral", "all"), default="frontal", help="which images (default: frontal)")
    parser.add_argument("--labels", choices=("impression", "findings", "report", "none"),
                        help="CheXpert Plus: the part of the report that its labels were taken from (default: impression)")
    parser.add_argument("--demographics", nargs="*", choices=DEMOGRAPHICS, metavar="COLUMN",
                        help=f"CheXpert Plus: attributes beside sex, age and view, of {', '.join(DEMOGRAPHICS)} (default: race ethnicity)")
    parser.add_argument("--sections", nargs="*", choices=SECTIONS, metavar="SECTION",
                        help=f"CheXpert Plus: sections of the report to keep as attributes, of {', '.join(SECTIONS)} (default: none)")
    parser.add_argument("--skip-missing", action="store_true", help="leave out rows whose image is not there, and count them")
    add_official_split(parser, "the rows of valid.csv (or of split valid)")
    add_age_bands(parser)
    add_options(parser)


@dataclass
class Rows:
    """The rows of one or two tables: columns path, sex, age, side, projection, split, the 14 labels and attributes, all str."""

    table: pd.DataFrame
    lines: list[str]
    where: str
    attributes: tuple[str, ...] = ()
    classes: tuple[str, ...] = CLASSES


def read(root: Path | str, out: Path | str, args: argparse.Namespace) -> Manifest:
    """Read the tables, choose views, apply the policies of uncertain and blank labels, print what they did.

    Raises:
        InputErrors: all faults at once: columns, values and images that are missing or strange.
    """
    root = Path(root)
    rows = _rows(root, args)
    files = _files(root)
    said = _choose(rows, files, args)
    attributes = ("sex", "age", *["age_band"] * bool(args.age_bands), "view", *rows.attributes)
    info = describe(args, root, classes=rows.classes, attributes=attributes, licence="Stanford University Dataset Research Use Agreement")
    info = replace(info, id=args.id or "chexpert")
    with Draft(Path(out), root, info, len(rows.table), rows.where, rows.lines, args=args) as draft:
        labels = _labels(draft, rows)
        said += _facts(draft, rows, args)
        names = [_key(p) for p in rows.table["path"]]
        draft.each(lambda row: draft.add_image(row, [files[names[row]][0].relative_to(root).as_posix()]))
        for k, name in enumerate(rows.classes):
            draft.columns[f"label:{name}"][:] = np.where(labels[:, k] < 0, np.nan, labels[:, k])
        divide(draft, args)
        said += _policies(draft, labels, names, args)
        manifest = draft.finish(args)
    print("\n".join(said))
    return manifest


def _rows(root: Path, args: argparse.Namespace) -> Rows:
    if not root.is_dir():
        raise InputError(str(root), "no such folder", "the folder of a CheXpert download")
    folders = [root, *sorted(p for p in root.iterdir() if p.is_dir())]
    plus = [p for f in folders for p in sorted(f.glob("df_chexpert_plus_*.csv"))]
    if plus:
        return _plus_rows(root, plus[0], args)
    found = [f for f in folders if (f / "train.csv").is_file()]
    if len(found) != 1:
        raise InputError(str(root), f"{len(found)} files train.csv and no df_chexpert_plus_*.csv, here and one folder below",
                         "one of them", "give the folder CheXpert-v1.0-small, or that of CheXpert Plus")
    for name in ("labels", "demographics", "sections"):
        if getattr(args, name) is not None:
            raise InputError(f"--{name}", f"given for {found[0] / 'train.csv'}", "it left out: it is for CheXpert Plus")
    return _plain_rows(found[0])


def _plain_rows(folder: Path) -> Rows:
    import pandas as pd

    parts, lines, paths = [], [], [p for p in (folder / "train.csv", folder / "valid.csv") if p.is_file()]
    for path in paths:
        table = read_table(path)
        need_columns(table, [*COLUMNS, *LABELS], path)
        parts.append(table.rename(columns=COLUMNS).assign(split=path.stem))
        lines += [f"{int(i) + 2} of {path.name}" if len(paths) > 1 else str(int(i) + 2) for i in table.index]
    return Rows(pd.concat(parts, ignore_index=True), lines, ", ".join(map(str, paths)))


def _plus_rows(root: Path, path: Path, args: argparse.Namespace) -> Rows:
    table, demographics = read_table(path), ["race", "ethnicity"] if args.demographics is None else args.demographics
    attributes = (*demographics, *[f"section_{s}" for s in args.sections or ()])
    need_columns(table, [*PLUS_COLUMNS, *attributes], path)
    lines = [str(int(i) + 2) for i in table.index]
    table = table[[*PLUS_COLUMNS, *attributes]].rename(columns=PLUS_COLUMNS).reset_index(drop=True)
    for name in attributes:
        table[name] = [" ".join(v.split()) for v in table[name]]
    if args.labels == "none":
        return Rows(table, lines, str(path), attributes, ())
    name = f"{args.labels or 'impression'}_fixed.json"
    found = sorted(root.rglob(name))
    if len(found) != 1:
        raise InputError(str(root), f"{len(found)} files {name}", "one, as chexbert_labels.zip holds it",
                         "unpack it there, choose another with --labels, or none")
    told = _read_lines(found[0])
    if missing := [p for p in table["path"] if p not in told]:
        raise InputError(str(found[0]), f"no labels of {len(missing)} images of {path.name}, {missing[0]!r} among them",
                         "one line an image", "take the labels of the same release")
    for label in LABELS:
        table[label] = [told[p][label] for p in table["path"]]
    return Rows(table, lines, str(path), attributes)


def _read_lines(path: Path) -> dict[str, dict[str, str]]:
    """path_to_image -> label -> text, of a file with a JSON object a line."""
    told, expected = {}, "JSON with path_to_image and the 14 labels, numbers or null"
    for number, entry in read_json_lines(path, expected):
        try:
            told[entry["path_to_image"]] = {n: "" if entry[n] is None else f"{entry[n]:g}" for n in LABELS}
        except (ValueError, KeyError, TypeError) as e:
            raise InputError(f"{path}, line {number}", f"no labels ({type(e).__name__}: {str(e)[:200]})", expected, "unpack chexbert_labels.zip again") from e
    return told


def _files(root: Path) -> dict[str, list[Path]]:
    """patient00001/study1/view1_frontal -> files of that name under root: Plus names .jpg in its table and ships .png."""
    files: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("patient*/study*/view*")):
        if key := _key(path.as_posix()):
            files.setdefault(key, []).append(path)
    return files


def _key(path: str) -> str:
    match = _VIEW.search(path)
    return "/".join(match.groups()[:3]) if match else ""


def _choose(rows: Rows, files: Mapping[str, list[Path]], args: argparse.Namespace) -> list[str]:
    """Keep the rows of the view asked for whose image is there; returns what to print."""
    table, faults = rows.table, []
    strange = sorted(set(table["side"].str.lower()) - {"frontal", "lateral"})
    if strange:
        raise InputError(rows.where, f"views {strange}", "Frontal or Lateral")
    keep = np.ones(len(table), bool) if args.view == "all" else (table["side"].str.lower() == args.view).to_numpy(copy=True)
    said = [f"  --view {args.view}: {(~keep).sum()} of {len(table)} images left out"]
    missing = 0
    for row in np.flatnonzero(keep):
        path = table["path"].iat[row]
        found = files.get(key, []) if (key := _key(path)) else None
        if found is None:
            faults.append(f"row {rows.lines[row]}, path: found {path!r}, expected .../patient00001/study1/view1_frontal.jpg")
        elif not found and args.skip_missing:
            keep[row], missing = False, missing + 1
        elif len(found) != 1:
            repair = "--skip-missing leaves such rows out" if not found else "give a ROOT with one copy of each image"
            faults.append(f"row {rows.lines[row]}, path: {path!r}: found {len(found)} files of that patient, study and view; {repair}")
    if faults:
        raise InputErrors(rows.where, faults)
    if not keep.any():
        raise InputError(rows.where, f"no {args.view} image that is there", "at least one", "choose another --view, or unpack the images")
    rows.lines = [line for line, k in zip(rows.lines, keep, strict=True) if k]
    rows.table = table[keep].reset_index(drop=True)
    return said + [f"  --skip-missing: {missing} rows without an image left out"] * bool(missing)


def _labels(draft: Draft, rows: Rows) -> np.ndarray:
    """[rows, classes]: 1, 0, -1 uncertain, NaN not mentioned; a fault of each other value."""
    names = [n for n, c in zip(LABELS, CLASSES, strict=True) if c in rows.classes]
    labels = np.full((len(rows.table), len(names)), np.nan)
    for k, name in enumerate(names):
        for row, value in enumerate(rows.table[name].str.strip()):
            if value not in _VALUES:
                draft.fault(row, f"column {name!r}: found {value!r}, expected 1, 0, -1 or blank")
            elif value:
                labels[row, k] = _VALUES[value]
    return labels


def _facts(draft: Draft, rows: Rows, args: argparse.Namespace) -> list[str]:
    """Subjects, published splits and attributes; returns what to print."""
    columns, table = draft.columns, rows.table
    columns["subject"][:] = [_key(p).split("/")[0] for p in table["path"]]
    if args.official_split:
        columns["split"][:] = ["test" if s.lower().startswith("valid") else "" for s in table["split"]]
        if not (columns["split"] == "test").any():
            raise InputError(rows.where, "no row of the split valid", "some, for --official-split", "put valid.csv beside train.csv")
    columns["attribute:sex"][:] = [{"male": "M", "female": "F"}.get(s.strip().lower(), "") for s in table["sex"]]
    sides = zip(table["side"].str.lower(), table["projection"].str.strip(), strict=True)
    columns["attribute:view"][:] = [p if p and s == "frontal" else s for s, p in sides]
    for name in rows.attributes:
        columns[f"attribute:{name}"][:] = table[name]
    ages = ["" if a.strip() in ("0", "0.0") else a for a in table["age"]]  # adults only: 0 stands for an unknown age
    errors = note_ages(draft, ages, args.age_bands)
    return [f"  {errors} ages that are none are unknown"] * bool(errors)


def _policies(draft: Draft, labels: np.ndarray, names: list[str], args: argparse.Namespace) -> list[str]:
    """Apply --uncertain to training rows and --blank to all; returns what to print."""
    columns, train = draft.columns, draft.columns["split"] == "train"
    doubtful, blank = (labels == -1) & train[:, None], np.isnan(labels)
    for k, name in enumerate(draft.info.classes):
        column = columns[f"label:{name}"]
        if args.blank == "zeros":
            column[blank[:, k]] = 0.0
        if args.uncertain == "ignore":
            continue
        value = column[doubtful[:, k]] = 0.0 if args.uncertain == "zeros" else 1.0
        soft = columns[f"soft:{name}"] = np.full(len(column), np.nan)  # marks labels that are a policy's, not the source's
        for row in np.flatnonzero(doubtful[:, k]):
            soft[row] = soft_label(args.seed, names[row], name) if args.uncertain == "smoothed" else value
    if not draft.info.classes:
        return []
    kept = int((labels == -1).sum() - doubtful.sum())
    said = {"ones": "are 1", "zeros": "are 0", "ignore": "are unknown",
            "smoothed": f"are 1 with a soft label from {SMOOTH[0]} to {SMOOTH[1]}"}[args.uncertain]
    return [f"  --uncertain {args.uncertain}: {doubtful.sum()} uncertain labels of training rows {said}, "
            f"{kept} of val, audit and test are unknown",
            f"  --blank {args.blank}: {blank.sum()} labels of findings not mentioned are {'0' if args.blank == 'zeros' else 'unknown'}"]


def soft_label(seed: int, path: str, name: str) -> float:
    """A share drawn uniformly from 0.55 to 0.85, the same for the same seed, image and class."""
    drawn = int.from_bytes(hashlib.sha256(f"{seed}\n{path}\n{name}".encode()).digest()[:8], "big") / 2**64
    return round(SMOOTH[0] + (SMOOTH[1] - SMOOTH[0]) * drawn, 6)

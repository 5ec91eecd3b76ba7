"""Any table of images: CSV or Parquet, one row an image; columns are named by flags."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthrad.conditioning import size_attribute, size_bins
from synthrad.data.ages import add_age_bands, age_band
from synthrad.data.pixel_values import Layer, read_layer
from synthrad.data.table_masks import add_mask_arguments, mask_layers, size_edges
from synthrad.data.tables import read_table
from synthrad.data.writing import Draft, add_options, check_splits, describe
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import Fault, InputError, InputErrors, near
from synthrad.lineage import Fitted, Lineage, hash_subjects, key_id, project_key
from synthrad.records import Manifest

if TYPE_CHECKING:
    import pandas as pd

DESCRIPTION = "any CSV or Parquet table with one row an image; also imports synthetic sets made elsewhere"
_NUMBERS = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `synthrad prepare table`."""
    parser.add_argument("root", metavar="TABLE", help="CSV (comma, semicolon or tab) or Parquet file")
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument("--root", dest="folder", help="folder that image paths start from (default: the table's)")
    parser.add_argument(
        "--image",
        nargs="+",
        default=["image"],
        metavar="COLUMN",
        help="column of image files; several are channels of one picture (default: image)",
    )
    parser.add_argument("--channel-names", nargs="+", metavar="NAME", help="default: image, or the names of the columns")
    parser.add_argument("--subject", metavar="COLUMN", help="patient: never crosses a split (default: each row its own)")
    add_mask_arguments(parser)
    parser.add_argument("--labels", nargs="+", default=[], metavar="COLUMN", help="classes: 0, 1 or blank (unknown)")
    parser.add_argument("--unknown", nargs="+", default=[], metavar="VALUE", help="further values that mean unknown, e.g. -1 NA")
    parser.add_argument("--attributes", nargs="+", default=[], metavar="COLUMN", help="sex, age, view ...")
    add_age_bands(parser, " from the column age")
    parser.add_argument("--split", metavar="COLUMN", help="column with train, val, audit, test (instead of --fractions)")
    parser.add_argument("--synthetic", action="store_true", help="the images are synthetic, made elsewhere (all go to train)")
    parser.add_argument(
        "--trained-on",
        metavar="MANIFEST",
        help="with --synthetic: the manifest whose train split its generator learned from, or unknown",
    )
    parser.add_argument(
        "--like",
        metavar="MANIFEST",
        help="take classes, layers, channels, intensity and resize policy from it; "
        "without --mask-classes mask pixels are its structure numbers",
    )
    add_options(parser)


def read(root: Path | str, out: Path | str, args: argparse.Namespace) -> Manifest:
    """Read a table, check every row, write masks and manifest to `out`.

    Raises:
        InputErrors: all faults of the table at once, with row, column, value and repair.
    """
    path = Path(root)
    table = read_table(path)
    folder = Path(args.folder) if args.folder else path.parent
    _check_flags(args)
    like = Manifest.read(args.like).info if args.like else None
    layers = mask_layers(args, like)
    _check_columns(table, args, like, str(path))
    info = _info(args, folder, layers, like)
    sizes = size_edges(args.size_bins, info)
    info = replace(info, attributes=(*info.attributes, *map(size_attribute, sizes)))
    lines = [int(i) + 2 for i in table.index]
    with Draft(Path(out), folder, info, len(table), str(path), lines, args, searched=False) as draft:
        _fill_columns(draft, table, args)
        stems = _stems(table[args.image[0]])
        cells = {c: table[c].tolist() for c in {*args.image, *(layer.column for layer in layers)}}
        draft.each(lambda row: _read_row(draft, row, cells, args, layers, folder, stems[row]))
        for structure, edges in sizes.items():
            draft.columns[f"attribute:{size_attribute(structure)}"][:] = size_bins(draft.columns[f"area:{structure}"], edges)
        return draft.finish(args)


def _check_flags(args: argparse.Namespace) -> None:
    if args.synthetic != bool(args.trained_on):
        raise InputError(
            "--synthetic, --trained-on",
            "one without the other",
            "both or neither",
            "a synthetic set says what its generator was trained on: a manifest, or unknown",
        )
    if args.split and args.fractions:
        raise InputError("--split, --fractions", "both", "one of them", "drop --fractions to keep the column's splits")
    if args.synthetic and (args.split or args.fractions):
        raise InputError("--synthetic", "--split or --fractions", "neither: synthetic images are for training only")
    if args.channel_names and len(args.channel_names) != len(args.image):
        raise InputError("--channel-names", f"{len(args.channel_names)} names", f"{len(args.image)}, one an --image column")


def _check_columns(table: pd.DataFrame, args: argparse.Namespace, like: DatasetInfo | None, where: str) -> None:
    flags = {
        "--image": args.image,
        "--mask": args.mask,
        "--labels": args.labels,
        "--attributes": args.attributes,
        "--subject": [args.subject] * bool(args.subject),
        "--split": [args.split] * bool(args.split),
        "--age-bands": ["age"] * bool(args.age_bands),
    }
    names = list(table.columns)
    faults = []
    for flag, columns in flags.items():
        if flag != "--mask" and len(set(columns)) < len(columns):
            faults.append(f"{flag} {' '.join(columns)}: the same column twice; name it once")
        for c in dict.fromkeys(columns):
            if c not in names:
                guess = near(c, names) or "check the header"
                faults.append(f"column {c!r} ({flag}): missing; the table has {', '.join(names)}; {guess}")
            elif names.count(c) > 1:
                faults.append(f"column {c!r} ({flag}): twice in the header; rename one of them")
    if like and (foreign := [c for c in args.labels if c not in like.classes]):
        faults.append(f"--labels {' '.join(foreign)}: not classes of {args.like}, which has {', '.join(like.classes)}")
    if faults:
        raise InputErrors(where, faults)


def _info(args: argparse.Namespace, folder: Path, layers: list[Layer], like: DatasetInfo | None) -> DatasetInfo:
    channels = tuple(args.channel_names or (args.image if len(args.image) > 1 else ["image"]))
    attributes = tuple(args.attributes) + ("age_band",) * bool(args.age_bands)
    if like:
        if len(channels) != len(like.channels):
            raise InputError("--image", f"{len(channels)} channel(s)", f"{len(like.channels)}, as {args.like} has")
        info = describe(args, folder, classes=like.classes, layers=like.layers, channels=like.channels, attributes=attributes)
        info = replace(info, intensity=info.intensity if args.intensity else like.intensity, resize=args.resize or like.resize)
    else:
        info = describe(
            args,
            folder,
            classes=tuple(args.labels),
            layers={n.name: n.structures for n in layers},
            channels=channels,
            attributes=attributes,
        )
    return replace(info, lineage=_lineage(args)) if args.synthetic else info


def _lineage(args: argparse.Namespace) -> Lineage:
    if args.trained_on == "unknown":
        return Lineage((Fitted("generator", origin="unknown", notes="a set made elsewhere"),))
    manifest = Manifest.read(args.trained_on)
    train = manifest.where(split="train", source="real")
    return Lineage(
        (
            Fitted(
                "generator",
                origin="declared",
                trained_on=hash_subjects(manifest.info.id, train.column("subject"), project_key()),
                fingerprints=frozenset(train.column("digest")) - {""},
                key_id=key_id(project_key()),
                datasets=frozenset({manifest.info.id}),
                notes=f"a set made elsewhere, said to be trained on the train split of {manifest.info.name}",
            ),
        )
    )


def _fill_columns(draft: Draft, table: pd.DataFrame, args: argparse.Namespace) -> None:
    """All columns that need no file: subject, split, labels, attributes."""
    unknown = {"", *args.unknown}
    columns = draft.columns
    columns["source"][:] = "synthetic" if args.synthetic else "real"
    columns["subject"][:] = table[args.subject].str.strip() if args.subject else table[args.image[0]]
    for row in np.flatnonzero(columns["subject"] == ""):
        draft.fault(row, f"column {args.subject!r}: blank, expected a subject; fill it in (one name a patient)")
    if args.synthetic:
        columns["split"][:] = "train"
    elif args.split:
        columns["split"][:] = table[args.split].str.strip()
        for row, text in check_splits(columns["split"]):
            draft.fault(row, f"column {args.split!r}: {text}")
        draft.join_spellings(args)
        _check_crossing(draft)
    for c in args.labels:
        columns[f"label:{c}"][:] = [_label(draft, row, c, v, unknown) for row, v in enumerate(table[c].str.strip())]
    for a in args.attributes:
        columns[f"attribute:{a}"][:] = ["" if v in unknown else v for v in table[a].str.strip()]
    if args.age_bands:
        _fill_age_bands(draft, table["age"].str.strip(), unknown, args.age_bands)


def _label(draft: Draft, row: int, column: str, value: str, unknown: set[str]) -> float:
    """0, 1 or NaN (unknown); notes a fault for any other value."""
    if value not in unknown and value not in _NUMBERS:
        number = value.replace(".", "", 1).isdigit()
        repair = "make a column of 0 and 1 for each grade that matters, or " if number else ""
        repair += f"add --unknown={value} if it means unknown"
        draft.fault(row, f"column {column!r}: found {value!r}, expected 0, 1 or blank; {repair}")
    return np.nan if value in unknown else _NUMBERS.get(value, np.nan)


def _fill_age_bands(draft: Draft, ages: pd.Series, unknown: set[str], edges: list[float]) -> None:
    for row, value in enumerate(ages):
        try:
            draft.columns["attribute:age_band"][row] = "" if value in unknown else age_band(float(value), edges)
        except ValueError:
            draft.fault(row, f"column 'age': found {value!r}, expected a number or blank; add --unknown={value}")


def _check_crossing(draft: Draft) -> None:
    seen: dict[str, tuple[int, str]] = {}
    for row, (subject, split) in enumerate(zip(draft.columns["subject"], draft.columns["split"], strict=True)):
        first, other = seen.setdefault(subject, (row, split))
        if split != other:
            draft.fault(
                row,
                f"column 'split': subject {subject!r} is in {split!r} here and in {other!r} in row {draft.lines[first]}; "
                "a subject belongs to one split",
            )


def _stems(names: pd.Series) -> list[str]:
    stems = [Path(n).stem or "row" for n in names]
    return stems if len(set(stems)) == len(stems) else [f"{i:06d}_{s}" for i, s in enumerate(stems)]


def _read_row(
    draft: Draft, row: int, cells: dict[str, list[str]], args: argparse.Namespace, layers: list[Layer], folder: Path, stem: str
) -> None:
    faults: list[str] = []
    shape = None
    try:
        names = [_inside(folder, cells[c][row], c) for c in args.image]
        shape = draft.add_image(row, names)
    except InputError as e:
        faults.append(Fault.of(f"column {args.image[0]!r}: ", e))
    masks: dict[str, np.ndarray | None] = {}
    for layer in layers:
        value = cells[layer.column][row].strip()
        try:
            blank = value in ("", *args.unknown)
            masks[layer.name] = None if blank else read_layer(folder, _inside(folder, value, layer.column), layer, shape)
        except InputError as e:
            faults.append(Fault.of(f"column {layer.column!r}: ", e))
    if faults:
        raise InputErrors("", faults)
    draft.add_masks(row, stem, masks)


def _inside(folder: Path, value: str, column: str) -> str:
    """The path relative to `folder`, as the manifest keeps it."""
    if not value.strip():
        raise InputError(f"column {column!r}", "a blank", "an image file", "remove the row or fill it in")
    if "\0" in value or any(len(os.fsencode(part)) > 255 for part in value.split("/")):
        raise InputError(repr(value[:80]), "no name that a file can have", "a path", "correct it in the table")
    base = folder.resolve()
    _with_slashes(folder, value)
    path = Path(value) if Path(value).is_absolute() else base / value
    path = Path(*path.parts[:1], *[p for p in path.parts[1:] if p != "."])
    if ".." in path.parts or base not in path.parents:
        raise InputError(value, "a path outside the root", f"one inside {folder}", "give the folder of all images with --root")
    return path.relative_to(base).as_posix()


def _with_slashes(folder: Path, value: str) -> str:
    """The value, unless it is a path as Windows writes it and no such file is there."""
    if "\\" in value and not os.path.exists(folder / value):
        raise InputError(
            value, "backslashes", "a path with slashes", "replace \\ by / in the table; drop what --root already says"
        )
    return value

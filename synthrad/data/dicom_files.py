"""Folders of DICOM files for readers: which files are pictures, their subjects, attributes and grey levels, and the options for it.

Nothing that a file is called and nothing of its header reaches the manifest but coded attributes: pictures are stored as plain
PNGs under running numbers, subjects as keyed hashes (HMAC with the project's key).
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthrad.data.ages import add_age_bands, age_band
from synthrad.data.dicom import Facts, check_burned_in, is_dicom, read_dicom, read_header
from synthrad.data.dicom_greys import WINDOWS
from synthrad.data.processes import cores, shared_out
from synthrad.data.tables import read_table
from synthrad.data.writing import Draft, add_options
from synthrad.errors import Fault, InputError, InputErrors

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = (".dcm", ".dicom", ".dic", ".ima")
ATTRIBUTES = ("sex", "age", "view", "modality")


def add_dicom_options(parser: argparse.ArgumentParser) -> None:
    """The options of every reader of DICOM files, and those of every reader."""
    parser.add_argument(
        "--window",
        choices=WINDOWS,
        default="none",
        help="none: the values after rescale slope and intercept; window: the first window or VOI LUT of each file, as 0-255 (default: none)",
    )
    parser.add_argument(
        "--allow-unmarked",
        action="store_true",
        help="take files that do not say whether text is in their pixels (BurnedInAnnotation); most public sets do not: look at them first",
    )
    parser.add_argument(
        "--allow-burned-in", action="store_true", help="take also files whose BurnedInAnnotation is anything but NO"
    )
    parser.add_argument(
        "--attributes",
        nargs="+",
        choices=ATTRIBUTES,
        default=[],
        help="of the headers: sex; age in years (90 for all above 89); view; modality",
    )
    add_age_bands(parser)
    add_options(parser)
    parser.set_defaults(copy=True)  # pictures are decoded into OUT anyway


def attribute_names(args: argparse.Namespace) -> tuple[str, ...]:
    """The attributes that the options ask for."""
    return (*dict.fromkeys(args.attributes), *["age_band"] * bool(args.age_bands))


def files_under(root: Path) -> list[Path]:
    """All regular files under root, hidden ones left out, in the order of their paths; links to folders are not followed.

    Raises:
        InputError: no such folder. InputErrors: links to files outside the root.
    """
    if not root.is_dir():
        raise InputError(str(root), "no such folder", "a folder of DICOM files")
    base, found, faults = root.resolve(), [], []
    for folder, folders, names in os.walk(root, followlinks=False):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or not path.is_file():
                continue
            if path.is_symlink() and base not in path.resolve().parents:
                faults.append(f"{path}: found a link to a file outside the root, expected a file inside it; put the real file there")
                continue
            found.append(path)
    if faults:
        raise InputErrors(str(root), faults)
    return found


@dataclass(frozen=True)
class Pictures:
    """The pictures among some files, with the facts of their headers; `skipped`: how many files are what instead."""

    paths: list[Path]
    facts: list[Facts]
    skipped: Counter[str]

    def said(self) -> str:
        """A line on what was left out, "" where nothing was; kinds only, no names of files."""
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(self.skipped.items()))
        return f"  left out: {kinds}" if kinds else ""


def find_pictures(files: Sequence[Path], args: argparse.Namespace) -> Pictures:
    """Read the headers of files and sort out what is no picture: other files, DICOMDIR, reports, presentation states, segmentations.

    Raises:
        InputErrors: every file that claims to be DICOM and is broken, or that may have text in its pixels.
    """
    from synthrad.progress import progress

    def look(i: int) -> list[Any]:
        found = _sorted_out(files[i], args)
        return [i, "", [str(found), found.kind]] if isinstance(found, Fault) else [i, found.kind, asdict(found)]

    read = shared_out(look, range(len(files)), getattr(args, "workers", None) or cores())
    seen = sorted(progress(read, desc="reading headers", total=len(files), unit="file"), key=lambda s: s[0])
    if faults := [_fault(*told) for _, kind, told in seen if not kind]:
        raise InputErrors("DICOM headers", faults)
    pictures = [(files[i], Facts(**told)) for i, kind, told in seen if kind == "image"]
    skipped = Counter(kind for _, kind, _ in seen if kind != "image")
    return Pictures([path for path, _ in pictures], [facts for _, facts in pictures], skipped)


def _fault(text: str, kind: str) -> Fault:
    made = Fault(text)
    made.kind = kind
    return made


def _sorted_out(path: Path, args: argparse.Namespace) -> Facts | Fault:
    """The facts of a file, of kind "not DICOM" where it does not claim to be, or why it is refused."""
    try:
        if path.suffix.lower() not in ENDINGS and not is_dicom(path):
            return Facts("not DICOM")
        facts = read_header(path, args.window)
        if facts.kind == "image":
            check_burned_in(facts, accepted(args), str(path))
        return facts
    except InputError as e:
        return Fault.of("", e, numbered=True)


def accepted(args: argparse.Namespace) -> str:
    """How much text in the pixels the options accept, see read_dicom."""
    return "yes" if args.allow_burned_in else "unstated" if args.allow_unmarked else "no"


def intensity(facts: Iterable[Facts], args: argparse.Namespace, where: str) -> argparse.Namespace:
    """The options with a range of intensity: the one that all headers allow, where none was given.

    Raises:
        InputError: files of several ranges (12 and 14 bit), or with and without negative values: one range would make the same
            tissue brighter in some.
    """
    ranges = Counter((f.low, f.high) for f in facts)
    if len({f.shifted for f in facts}) > 1:
        raise InputError(where, "files with and without negative values after the rescale intercept", "one kind",
                         "prepare them apart, or take the display window: --window window")
    if args.intensity:
        return args
    if len(ranges) > 1:
        found = ", ".join(f"{low} to {high} ({n})" for (low, high), n in ranges.most_common(5))
        raise InputError(where, f"headers of several ranges of grey levels: {found} files", "one range",
                         "take the display window: --window window; or give --intensity LOW HIGH if one range suits all")
    made = argparse.Namespace(**vars(args))
    made.intensity = next(iter(ranges), None)
    return made


def store_picture(draft: Draft, row: int, path: Path, facts: Facts, args: argparse.Namespace) -> tuple[int, int]:
    """Decode a file into the set under its running number, with the attributes of its header that the options ask for; returns (height, width)."""
    pixels, _ = read_dicom(path, args.window, accepted(args))
    for name in dict.fromkeys(args.attributes):
        draft.columns[f"attribute:{name}"][row] = getattr(facts, name)
    if args.age_bands and facts.age:
        draft.columns["attribute:age_band"][row] = age_band(float(facts.age), args.age_bands)
    return draft.store_image(row, stem(row), [pixels])


def stem(row: int) -> str:
    """Name of a row's files: it says nothing of the patient, while names of DICOM files often do."""
    return f"{row:06d}"


def add_table_options(parser: argparse.ArgumentParser) -> None:
    """The options of readers of a published table that names DICOM files, after those of every reader of DICOM."""
    parser.add_argument("root", metavar="ROOT", help="folder of the download: tables and DICOM files, any depth")
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument(
        "--skip-missing", action="store_true", help="leave out rows whose picture is not there (a part of the download) instead of refusing them"
    )
    add_dicom_options(parser)


@dataclass(frozen=True)
class Listed:
    """Pictures that a table names: their ids in it, lines, files and headers, in the table's order."""

    ids: list[str]
    lines: list[int]
    paths: list[Path]
    facts: list[Facts]
    notes: list[str]  # what was left out, for the summary


def listed_pictures(lines: Mapping[str, int], files: Sequence[Path], args: argparse.Namespace, where: str, column: str) -> Listed:
    """The files of a table's ids. A name is looked up among the files that are there, so an id can lead nowhere else.

    Args:
        lines: id, which is a file's name without its ending -> its first line in the table. files: of the download.
        args: with skip_missing. where, column: the table and its column, for messages.

    Raises:
        InputErrors: ids without a picture, names that two files have, or what find_pictures refuses.
    """
    named: dict[str, Path] = {}
    faults = []
    for path in files:
        name = path.name[: -len(path.suffix)] if path.suffix.lower() in ENDINGS else path.name
        if name in lines and named.setdefault(name, path) != path:
            faults.append(f"row {lines[name]}, column {column!r}: found two files of that name, {named[name]} and {path}; remove one")
    if faults:
        raise InputErrors(where, faults)
    there = {i: named[i] for i in lines if i in named}
    found = find_pictures(list(there.values()), args)
    facts = dict(zip(found.paths, found.facts, strict=True))
    missing = [line for i, line in lines.items() if there.get(i) not in facts]
    if missing and (not args.skip_missing or not facts):
        raise InputErrors(where, [f"row {n}, column {column!r}: found no DICOM picture of that name, expected one; "
                                  "unpack all images, or add --skip-missing" for n in missing])
    ids = [i for i in lines if there.get(i) in facts]
    notes = [f"  left out: {len(missing)} of {len(lines)} listed pictures, which are not there"] if missing else []
    return Listed(ids, [lines[i] for i in ids], [there[i] for i in ids], [facts[there[i]] for i in ids], notes)


def find_table(files: Sequence[Path], names: Sequence[str], root: Path) -> Path:
    """The one table of a download that has one of the names (any case).

    Raises:
        InputError: none, or several.
    """
    found = [p for p in files if p.name.lower() in {n.lower() for n in names}]
    if len(found) != 1:
        said = ", ".join(str(p.relative_to(root)) for p in found) or "no such table"
        raise InputError(str(root), said, f"one {' or '.join(names)}", "give the folder that holds it")
    return found[0]


def read_columns(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A published table with at least these columns, all cells without outer blanks; its index is the line, less 2.

    Raises:
        InputErrors: columns that are missing.
    """
    table = read_table(path)
    if missing := [c for c in columns if c not in table]:
        raise InputErrors(str(path), [f"column {c!r}: missing; the table has {', '.join(map(repr, table.columns))}" for c in missing])
    return table[list(columns)].apply(lambda cells: cells.str.strip())

"""Leaks between the splits of a set in the making: one patient under several spellings, one picture under several patients."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from synthrad.errors import InputErrors

FILE = "near_copies.json"  # beside the manifest: what was compared, and what was found
SPELLINGS = ("error", "one", "apart")


class Copies(NamedTuple):
    """Pairs of rows that show one picture, and the likeness from which on they count as that; None: not compared."""

    pairs: tuple[tuple[int, int, float], ...] = ()
    threshold: float | None = None


def add_leak_options(parser: argparse.ArgumentParser) -> None:
    """What to do about spellings of subjects and near copies; every reader has these."""
    parser.add_argument("--subject-spellings", choices=SPELLINGS, default="error",
                        help="subjects that differ in case, spaces or leading zeros alone: an error, one patient, or patients apart (default: error)")
    parser.add_argument("--skip-near-copies", action="store_true", help="do not compare all images with each other for near copies (equal files are always found)")
    parser.add_argument("--allow-near-copies", action="store_true",
                        help="where a column gives the splits: keep near copies of one picture in different ones, after you looked at them")


def plain_subject(subject: str) -> str:
    """A subject without case, spaces, leading zeros of its numbers and the .0 that spreadsheets add: equal ones are most likely one patient."""
    bare = re.sub(r"\s+", "", subject).casefold()
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"(?<=\d)\.0$", "", bare))


def spellings(subjects: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups of subjects that are spelt differently and are most likely one patient, in order of appearance."""
    groups: dict[str, dict[str, None]] = {}
    for subject in subjects:
        groups.setdefault(plain_subject(subject), {})[subject] = None
    return [tuple(g) for g in groups.values() if len(g) > 1]


def one_spelling(subjects: np.ndarray, how: str, where: str, place: Callable[[int], str]) -> None:
    """Refuse several spellings of one subject, or give all its rows the first one.

    Args:
        subjects: a column, changed in place. how: of SPELLINGS. where, place: the table, and the words for a row, of a fault.

    Raises:
        InputErrors: a fault a subject, with both spellings.
    """
    if how == "apart":
        return
    groups, first = spellings(subjects), {}
    for row, subject in enumerate(subjects):
        first.setdefault(subject, row)
    if how == "error" and groups:
        raise InputErrors(where, [
            f"{place(first[other])}subject {other!r}: {group[0]!r} ({place(first[group[0]]).rstrip(', ') or 'before'}) but for case, spaces or leading zeros; "
            "--subject-spellings one if both are one patient, --subject-spellings apart if they are two"
            for group in groups for other in group[1:]])
    for group in groups:
        subjects[np.isin(subjects, group[1:])] = group[0]


def find_copies(columns: Mapping[str, Any], files: Callable[[int], Sequence[Path]]) -> Copies:
    """Near copies under different subjects among rows whose files differ.

    Decodes every image, on all cores; equal files (digests) are one picture and need no comparison.

    Raises:
        InputError: an image that cannot be read.
    """
    from synthrad.data.images import read_image
    from synthrad.data.near_copies import VIEWS, near_copies, picture_of
    from synthrad.data.processes import cores
    from synthrad.progress import progress

    digests = columns["digest"]
    seen: set[str] = set()
    rows = [i for i, d in enumerate(digests) if not d or not (d in seen or seen.add(d))]
    if len({columns["subject"][row] for row in rows}) < 2:
        return Copies((), 1.0)
    picture = lambda row: picture_of([read_image(p) for p in files(row)])  # noqa: E731
    with ThreadPoolExecutor(cores()) as pool:
        pictures = np.array([*progress(pool.map(picture, rows), desc="reading images again", total=len(rows), unit="image")], np.float32)
    with progress(desc="comparing images", total=len(VIEWS), unit="view") as bar:
        pairs, threshold = near_copies(pictures, [str(columns["subject"][r]) for r in rows], bar.update)
    return Copies(tuple((rows[p.first], rows[p.second], round(p.likeness, 4)) for p in pairs), round(threshold, 4))


def refuse_crossing(copies: Copies, columns: Mapping[str, Any], where: str, place: Callable[[int], str], allowed: bool) -> None:
    """Refuse given splits that hold near copies of one picture on both sides.

    Raises:
        InputErrors: a fault a pair.
    """
    split, subject = columns["split"], columns["subject"]
    crossing = [(i, j, v) for i, j, v in copies.pairs if split[i] != split[j]]
    if crossing and not allowed:
        raise InputErrors(where, [
            f"{place(j)}subject {subject[j]!r} in {split[j]}: nearly the picture of subject {subject[i]!r} in {split[i]} ({place(i).rstrip(', ')}; likeness {v:.3f}, "
            f"images of this set without a copy stay below {copies.threshold:.3f}); look at both: leave one out or give both one split, or --allow-near-copies if they are two pictures"
            for i, j, v in crossing])


def write_copies(folder: Path, copies: Copies) -> None:
    """Write what was found beside the manifest."""
    from synthrad.records import write_durably

    facts = {"compared": copies.threshold is not None, "threshold": copies.threshold, "pairs": [list(p) for p in copies.pairs]}
    write_durably(folder / FILE, json.dumps(facts, indent=1).encode())


def read_copies(folder: Path | str) -> Copies:
    """What `write_copies` wrote; not compared where there is no such file."""
    from synthrad.records import read_facts

    facts = read_facts(Path(folder) / FILE)
    return Copies(tuple((int(i), int(j), float(v)) for i, j, v in facts.get("pairs", ())), facts.get("threshold"))

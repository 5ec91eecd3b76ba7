"""Leaks between the splits of a set in the making: one patient under several spellings, one picture under several patients."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from synthrad.errors import InputErrors
from synthrad.lineage import is_pseudonym, project_key, pseudonym
from synthrad.manifest_table import SPLITS

FILE = "near_copies.json"  # beside the manifest: what was compared, and what was found
SPELLINGS = ("error", "one", "apart")


class Copies(NamedTuple):
    """Pairs of rows that show one picture, the likeness from which on they count as that (None: not compared), and how many rows were left out for it."""

    pairs: tuple[tuple[int, int, float], ...] = ()
    threshold: float | None = None
    left_out: int = 0

    def crossing(self, split: Sequence[str]) -> list[tuple[int, int, float]]:
        """The pairs whose rows are in different splits."""
        return [(i, j, v) for i, j, v in self.pairs if split[i] != split[j]]

    def without(self, rows: Set[int], total: int) -> Copies:
        """The pairs that stay where some of the `total` rows are left out, by the numbers that the others then have."""
        number = np.cumsum([row not in rows for row in range(total)]) - 1
        pairs = tuple((int(number[i]), int(number[j]), v) for i, j, v in self.pairs if not {i, j} & rows)
        return Copies(pairs, self.threshold, len(rows))


def add_leak_options(parser: argparse.ArgumentParser) -> None:
    """What to do about spellings of subjects and near copies; every reader has these."""
    parser.add_argument("--subject-spellings", choices=SPELLINGS, default="error",
                        help="subjects that differ in case, spaces or leading zeros alone: an error, one patient, or patients apart (default: error)")
    parser.add_argument("--skip-near-copies", action="store_true", help="do not compare all images with each other for near copies (equal files are always found)")
    crossing = parser.add_mutually_exclusive_group()
    crossing.add_argument("--allow-near-copies", action="store_true",
                          help="where splits are given: keep near copies of one picture in different ones, after you looked at them")
    crossing.add_argument("--drop-near-copies", action="store_true",
                          help="where splits are given: of near copies in different ones leave out the row for training (of val and test that of val), counted and named")


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


def one_spelling(subjects: np.ndarray, how: str, where: str, place: Callable[[int], str], named: bool = True) -> None:
    """Refuse several spellings of one subject, or give all its rows the first one.

    Args:
        subjects: a column, changed in place. how: of SPELLINGS. where, place: the table, and the words for a row, of a fault.
        named: faults quote the spellings; not where these are identifiers that are to be hashed.

    Raises:
        InputErrors: a fault a subject, with both spellings or their rows.
    """
    if how == "apart":
        return
    groups, first = spellings(subjects), {}
    for row, subject in enumerate(subjects):
        first.setdefault(subject, row)
    if how == "error" and groups:
        said = repr if named else lambda subject: "the subject"
        raise InputErrors(where, [
            f"{place(first[other])}subject{f' {other!r}' * named}: {said(group[0])} ({place(first[group[0]]).rstrip(', :') or 'before'}) but for case, spaces or leading zeros; "
            "--subject-spellings one if both are one patient, --subject-spellings apart if they are two"
            for group in groups for other in group[1:]])
    for group in groups:
        subjects[np.isin(subjects, group[1:])] = group[0]


def hashed(dataset: str, subjects: Sequence[str], how: str, where: str, place: Callable[[int], str]) -> list[str]:
    """Pseudonyms (lineage.pseudonym) of subjects whose names are identifiers: which are spellings of one is asked before, a hash tells nothing of it.

    A subject's pseudonym is that of its plain spelling, so that sets with other spellings of it meet; of subjects kept apart each has that of its own.

    Args:
        dataset: id of the dataset. subjects: as the source names them. how, where, place: see one_spelling.

    Raises:
        InputErrors: several spellings of one subject, by their rows alone.
    """
    column, key = np.array(subjects, dtype=object), project_key()
    one_spelling(column, how, where, place, named=False)
    apart = {s for group in spellings(column) for s in group}
    known = {s: pseudonym(dataset, s if s in apart or is_pseudonym(s) else plain_subject(s), key) for s in set(column)}
    return [known[s] for s in column]


def find_copies(columns: Mapping[str, Any], files: Callable[[int], Sequence[Path]], workers: int,
                kept: Callable[[int], np.ndarray | None] = lambda row: None) -> Copies:
    """Near copies under different subjects among rows whose files differ; equal files (digests) are one picture and need no comparison.

    Args:
        columns: of the manifest. files: of a row. workers: how many images are decoded at a time.
        kept: what `picture_of` once made of a row; None: its files are decoded.

    Raises:
        InputError: an image that cannot be read.
    """
    from synthrad.data.images import read_image
    from synthrad.data.near_copies import FULL, VIEWS, near_copies, picture_of
    from synthrad.progress import progress

    digests = columns["digest"]
    seen: set[str] = set()
    rows = [i for i, d in enumerate(digests) if not d or not (d in seen or seen.add(d))]
    if len({columns["subject"][row] for row in rows}) < 2:
        return Copies((), 1.0)
    pictures, left = np.empty((len(rows), FULL, FULL), np.float32), []
    for k, row in enumerate(rows):
        if (known := kept(row)) is None:
            left.append(k)
        else:
            pictures[k] = known
    picture = lambda k: picture_of([read_image(p) for p in files(rows[k])])  # noqa: E731
    if left:
        with ThreadPoolExecutor(workers) as pool:
            pictures[left] = [*progress(pool.map(picture, left), desc="reading images again", total=len(left), unit="image")]
    with progress(desc="comparing images", total=len(VIEWS), unit="view") as bar:
        pairs, threshold = near_copies(pictures, [str(columns["subject"][r]) for r in rows], bar.update)
    return Copies(tuple((rows[p.first], rows[p.second], round(p.likeness, 4)) for p in pairs), round(threshold, 4))


def refuse_crossing(copies: Copies, columns: Mapping[str, Any], where: str, place: Callable[[int], str], allowed: bool) -> None:
    """Refuse given splits that hold near copies of one picture on both sides.

    Raises:
        InputErrors: a fault a pair.
    """
    split, subject = columns["split"], columns["subject"]
    crossing = copies.crossing(split)
    if crossing and not allowed:
        raise InputErrors(where, [
            f"{place(j)}subject {subject[j]!r} in {split[j]}: nearly the picture of subject {subject[i]!r} in {split[i]} ({place(i).rstrip(', ')}; likeness {v:.3f}, "
            f"images of this set without a copy stay below {copies.threshold:.3f}); look at both: leave one out (--drop-near-copies: the one for training) or give both one split, or --allow-near-copies if they are two pictures"
            for i, j, v in crossing])


def rows_to_drop(copies: Copies, split: Sequence[str], digests: Sequence[str]) -> dict[int, int]:
    """Of each pair that crosses splits the row for training (the earlier of SPLITS), and all rows of the same file -> the row that stays."""
    going = dict((i, j) if SPLITS.index(split[i]) < SPLITS.index(split[j]) else (j, i) for i, j, _ in copies.crossing(split))
    files = {digests[row]: other for row, other in going.items() if digests[row]}
    return {row: going.get(row, files.get(d)) for row, d in enumerate(digests) if row in going or d in files}


def write_copies(folder: Path, copies: Copies) -> None:
    """Write what was found beside the manifest."""
    from synthrad.files import write_durably

    facts = {"compared": copies.threshold is not None, "threshold": copies.threshold, "pairs": [list(p) for p in copies.pairs],
             "left_out": copies.left_out}
    write_durably(folder / FILE, json.dumps(facts, indent=1).encode())


def read_copies(folder: Path | str) -> Copies:
    """What `write_copies` wrote; not compared where there is no such file."""
    from synthrad.files import read_facts

    facts = read_facts(Path(folder) / FILE)
    return Copies(tuple((int(i), int(j), float(v)) for i, j, v in facts.get("pairs", ())), facts.get("threshold"), facts.get("left_out", 0))

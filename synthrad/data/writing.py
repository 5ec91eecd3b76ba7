"""A manifest in the making: what every reader shares, from checking each row to the folder that appears whole or not at all."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthrad.data.images import POLICIES, files_digest, read_image, write_image, write_mask
from synthrad.data.journal import Journal, digest_of_inputs, noting_files, states, unchanged
from synthrad.data.leaks import FILE as COPIES
from synthrad.data.leaks import (
    Copies,
    find_copies,
    hashed,
    one_spelling,
    refuse_crossing,
    rows_to_drop,
    write_copies,
)
from synthrad.data.processes import cores, shared_out
from synthrad.data.pseudonyms import pseudonymise
from synthrad.data.splits import checked_fractions, checked_seed, picture_owners, split_by_subject
from synthrad.dataset_info import HERE, DatasetInfo
from synthrad.errors import Fault, InputError, InputErrors, naming
from synthrad.files import check_inside
from synthrad.lineage import project_folder
from synthrad.locking import locked
from synthrad.manifest_table import SPLITS, empty_columns
from synthrad.records import Manifest

MARK = (
    ".synthrad-prepare"  # says that a folder is ours to replace, also where a killed run left no dataset.yaml
)
NOT_OF_ROWS = (  # options that change no row
    "out", "workers", "skip_near_copies", "allow_near_copies", "drop_near_copies", "look_for_text", "subject_spellings", "fractions", "intensity",
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that every reader of real images has."""
    parser.add_argument("--name", help="name of the dataset (default: the name of its folder)")
    parser.add_argument(
        "--id",
        help="id that subjects are bound to in lineages; sets with the same patients share "
        "it (default: the name)",
    )
    parser.add_argument("--licence", help="as the source states it")
    parser.add_argument(
        "--fractions",
        nargs=4,
        type=float,
        metavar=("TRAIN", "VAL", "AUDIT", "TEST"),
        help="shares of the splits, by subject, stratified (default: 0.55 0.1 0.1 0.25)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the splits (default: 0)")
    parser.add_argument(
        "--resize", choices=POLICIES, help="letterbox keeps the aspect, squeeze fills (default: letterbox)"
    )
    parser.add_argument(
        "--intensity",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="stored values that become -1 and 1 (default: 0 255; needed for 16-bit images)",
    )
    parser.add_argument(
        "--copy", action="store_true", help="copy the images into OUT, so that it stands alone"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes that read images (default: one a core)")
    parser.add_argument(
        "--pseudonymise",
        action="store_true",
        help="keep the pixels alone in OUT, under neutral names, with keyed hashes for subjects (needs --name)",
    )


def describe(args: argparse.Namespace, root: Path, **known: object) -> DatasetInfo:
    """DatasetInfo from the shared options; `known` adds classes, layers and so on, and defaults for the options."""
    if getattr(args, "pseudonymise", False) and not args.name:
        raise InputError("--pseudonymise", "no --name", "a name of the set: that of its folder may say who is in it", "add --name NAME")
    name = args.name or root.resolve().name
    if args.fractions:
        checked_fractions(args.fractions)
    checked_seed(args.seed)
    low, high = args.intensity or (0.0, 255.0)
    if not low < high:
        raise InputError("--intensity", f"{low} {high}", "LOW below HIGH")
    info = DatasetInfo(name, args.id or name, intensity={"low": low, "high": high}, **known)
    if args.resize:
        info = replace(info, resize=args.resize)
    return replace(info, licence=args.licence) if args.licence else info


class Draft:
    """Rows of a manifest while they are checked and their masks are drawn, in a hidden folder inside `out`.

    Use as a context: an older manifest in `out` stays as it was until `finish`. After a kill, Ctrl-C or a full disk the rows that
    are done stay, too, and the same command goes on with the others. After bad input nothing stays, unless all rows are good and
    another option is all that is missing (of NOT_OF_ROWS): with it the command goes on.

    Args:
        out: the folder to make. root: where the images are.
        info: without roots.
        rows: how many.
        where: what faults are faults of: the CSV or JSON file.
        lines: line of each row in that file (default: one a row, below a header).
        args: the options: how many `workers`, and what the command is that a killed one is known by (None: it starts again).
        searched: the reader looks for files in all of root: `out` may not lie in it, or a second run would read what the first wrote.
    """

    def __init__(
        self,
        out: Path,
        root: Path,
        info: DatasetInfo,
        rows: int,
        where: str,
        lines: Sequence[int] | None = None,
        args: argparse.Namespace | None = None,
        searched: bool = True,
    ):
        self._searched = searched
        self.lines = range(2, rows + 2) if lines is None else lines
        self.out, self.root, self.where, self._args = Path(out).resolve(), Path(root).resolve(), where, args
        self.info = replace(info, roots={HERE: str(self.out), "images": str(self.root)})
        self.columns = empty_columns(self.info, rows)
        self.columns["root"][:] = "images"
        self._faults: list[tuple[int, str]] = []
        self._top = np.zeros(rows, dtype=np.int64)
        self._deep = np.zeros(rows, dtype=bool)
        self._wrote: dict[str, list[str | None]] = {}  # digest column -> files of the draft that the row in work has left
        self._passes = 0
        self._whole = False  # all rows are read, without a fault
        self._copies: Copies | None = None  # not looked for yet
        given = getattr(args, "workers", None)
        if given is not None and given < 1:
            raise InputError("--workers", str(given), "1 or more")
        self._workers = given or cores()

    def __enter__(self) -> Draft:
        if self.out == self.root or self.out in self.root.parents:
            raise InputError(str(self.out), "an output folder that holds the images", "a folder of its own")
        if self._searched and self.root in self.out.parents:
            raise InputError(str(self.out), f"an output folder inside {self.root}, where a second run would take it for a part of the dataset",
                             "a folder beside it", "name another OUT")
        self._opened = draft_folder(self.out, self._command(), lambda: self._whole)
        self.folder = self._opened.__enter__()
        self._journal = Journal(self.folder)
        return self

    def __exit__(self, *error: Any) -> None:
        self._journal.close()
        self._opened.__exit__(*error)

    def _command(self) -> str:
        """What a killed run is known by: all that its rows depend on, but for the files that only one row is read from."""
        if self._args is None:
            return ""
        options = {k: v for k, v in vars(self._args).items() if k not in NOT_OF_ROWS} | {"where": self.where}
        info = {k: v for k, v in self.info.to_dict().items() if k != "intensity"}
        facts = [info, str(self.root), list(self.lines), str(project_folder().resolve())]
        return digest_of_inputs(options, facts)

    def fault(self, row: int, text: str) -> None:
        """Note a fault of a row (0 is the first; printed as the line of the file) or, with -1, of the whole."""
        self._whole = False
        self._faults.append((row, f"{self._place(row)}{text}" if row >= 0 else text))

    def _place(self, row: int) -> str:
        return f"row {self.lines[row]}, "

    def raise_faults(self) -> None:
        """Raise all faults so far, in order of rows."""
        if self._faults:
            raise InputErrors(self.where, [text for _, text in sorted(self._faults, key=lambda f: f[0])])

    def each(
        self, work: Callable[[int], Any], title: str = "reading images", line: bool = True, together: Sequence[Any] | None = None
    ) -> list[Any]:
        """Call work(row) for all rows, on all cores, with a progress bar; its InputErrors become faults of their rows.

        Args:
            work: of one row. It runs in another process: it may fill in its row of `columns`, note faults and write files into
                the draft. Whatever else it changes is lost; what it returns (plain JSON values) comes back.
            title: of the bar.
            line: faults start with the row's line in the file (not for formats without lines).
            together: a value a row; neighbours of one value (slices of one volume) are done by one process, one after the other.

        Returns:
            What work returned, by row.
        """
        from synthrad.progress import progress

        if not self._passes and self._args is not None:
            self.join_spellings(self._args)
        self._passes += 1
        total = len(self._top)
        results: list[Any] = [None] * total
        groups = [list(g) for _, g in groupby(range(total), key=together.__getitem__ if together is not None else None)]
        attempt = lambda k: self._attempt(groups[k], work, line)  # noqa: E731
        with progress(desc=title, total=total, unit="image") as bar:
            for group in shared_out(attempt, range(len(groups)), self._workers):
                for found in group:
                    self._take(found)
                    results[found["row"]] = found["result"]
                    if not found["faults"]:  # what is repaired is read again
                        self._journal.add(found)
                bar.update(len(group))
        self._whole = self._args is not None and not self._faults
        return results

    def _attempt(self, rows: Sequence[int], work: Callable[[int], Any], line: bool) -> list[dict[str, Any]]:
        """What work(row) changed, as plain values; as a killed run left it where that still holds."""
        found = []
        with noting_files() as names:  # of all rows up to each: the first of a volume opens it for the others, too
            for row in rows:
                before = self._values(row)
                given = zlib.crc32(repr(before).encode())
                kept = self._journal.kept.get(f"{self._passes}/{row}")
                if kept is None or kept["given"] != given or not self._stands(kept):
                    kept = self._worked(row, work, line, before) | {"given": given, "read": states(names, but=self.folder)}
                found.append(kept)
        return found

    def _worked(self, row: int, work: Callable[[int], Any], line: bool, before: dict[str, Any]) -> dict[str, Any]:
        earlier, self._faults, self._wrote, result = self._faults, [], {}, None
        try:
            result = work(row)
        except InputErrors as e:
            self._faults += [(row, Fault.of(self._place(row) * line, f, numbered=True)) for f in e.faults]
        except InputError as e:
            self._faults.append((row, Fault.of(self._place(row) * line, e, numbered=True)))
        faults, self._faults = [(r, str(f), getattr(f, "kind", None)) for r, f in self._faults], earlier
        columns = {c: v for c, v in self._values(row).items() if v != before[c] and not (v != v and before[c] != before[c])}
        return {"id": f"{self._passes}/{row}", "row": row, "columns": columns, "top": int(self._top[row]),
                "deep": bool(self._deep[row]), "faults": faults, "result": result, "wrote": self._wrote}

    def _values(self, row: int) -> dict[str, Any]:
        values = {name: column[row] for name, column in self.columns.items()}
        return {name: None if v is pd.NA else v.item() if isinstance(v, np.generic) else v for name, v in values.items()}

    def _stands(self, kept: dict[str, Any]) -> bool:
        """Whether the files that a row was read from, and those that it left, are as they were."""
        try:
            return unchanged(kept["read"]) and all(
                files_digest([None if f is None else self.folder / f for f in files]) == kept["columns"].get(column, "")
                for column, files in kept["wrote"].items()
            )
        except OSError:
            return False

    def _take(self, found: dict[str, Any]) -> None:
        row = found["row"]
        for name, value in found["columns"].items():
            self.columns[name][row] = pd.NA if value is None else value
        self._top[row], self._deep[row] = found["top"], found["deep"]
        for of, text, kind in found["faults"]:
            fault: str = text
            if kind is not None:
                fault = Fault(text)
                fault.kind = kind
            self._faults.append((of, fault))

    def add_image(self, row: int, names: Sequence[str]) -> tuple[int, int]:
        """Check the channel files (relative to root), note their digest; returns (height, width).

        Raises:
            InputError: a file that is missing, unreadable or outside the root, or channels of different size.
        """
        paths = [self.root / n for n in names]
        for path in paths:
            self._refuse_links_out(path)
        shape: tuple[int, int] | None = None
        for channel, name, path in zip(self.info.channels, names, paths, strict=True):
            pixels = read_image(path)
            if shape not in (None, pixels.shape):
                raise InputError(
                    str(path),
                    f"{pixels.shape[1]} x {pixels.shape[0]} pixels",
                    f"{shape[1]} x {shape[0]}, the size of {paths[0]}",
                    "resample the channels of a row to one grid",
                )
            shape = pixels.shape
            self._top[row] = max(self._top[row], int(pixels.max(initial=0)))
            self._deep[row] |= pixels.dtype == np.uint16
            self.columns[f"channel:{channel}"][row] = name
        self.columns["digest"][row] = files_digest(paths)
        return shape

    def store_image(self, row: int, stem: str, channels: Sequence[np.ndarray]) -> tuple[int, int]:
        """Keep pixels of a format that training does not read (DICOM, NIfTI) as grey PNGs inside the set; returns (height, width).

        Args:
            row: of the manifest. stem: file name without its ending; it must say nothing of the patient.
            channels: [H, W] uint8 or uint16 each, in the order of the set's channels, of one size.

        Raises:
            InputError: channels of different size.
        """
        if len({c.shape for c in channels}) != 1 or len(channels) != len(self.info.channels):
            found = ", ".join(f"{c.shape[1]} x {c.shape[0]}" for c in channels)
            raise InputError(stem, f"channels of {found} pixels", f"{len(self.info.channels)} of one size",
                             "resample the channels of a row to one grid")
        paths = []
        for name, pixels in zip(self.info.channels, channels, strict=True):
            relative = f"images/{stem}.png" if len(channels) == 1 else f"images/{name}/{stem}.png"
            write_image(self.folder / relative, pixels)
            paths.append(self.folder / relative)
            self.columns[f"channel:{name}"][row] = relative
            self._top[row] = max(self._top[row], int(pixels.max(initial=0)))
            self._deep[row] |= pixels.dtype == np.uint16
        self.columns["root"][row] = HERE
        self.columns["digest"][row] = files_digest(paths)
        self._wrote["digest"] = [p.relative_to(self.folder).as_posix() for p in paths]
        return channels[0].shape

    def _refuse_links_out(self, path: Path) -> None:
        """Where a link leads out of the root, the set would change with files that the root does not hold."""
        check_inside(path, self.root)

    def add_masks(self, row: int, stem: str, masks: Mapping[str, np.ndarray | None]) -> None:
        """Write the layers (pixel k = structure k - 1; None = unknown), note areas and digest."""
        paths = write_masks(self.columns, self.info, row, self.folder, stem, masks)
        self._wrote["mask_digest"] = [None if p is None else p.relative_to(self.folder).as_posix() for p in paths]

    def finish(self, args: argparse.Namespace) -> Manifest:
        """Split (rows without one), check, copy, and put all in place; dataset.yaml last.

        Raises:
            InputErrors: every fault noted, or the same picture in two splits.
        """
        self.raise_faults()
        if self._deep.any() and not args.intensity:
            raise InputError(
                self.where,
                f"16-bit images with values up to {self._top.max()}",
                "an explicit range of intensity",
                f"add e.g. --intensity 0 {self._top.max()}",
            )
        copies = self.leaks(args)
        if (self.columns["split"] == "").any():
            self.columns["split"][:] = self._split(args, [(i, j) for i, j, _ in copies.pairs])
        self._check_pictures()
        if getattr(args, "drop_near_copies", False):
            copies = self._without_crossing(args, copies)
        refuse_crossing(copies, self.columns, self.where, self._place, getattr(args, "allow_near_copies", False))
        self._whole, folder = False, self.folder  # what is refused from here on no option repairs
        if getattr(args, "pseudonymise", False):
            folder = self.folder / "pseudonymised"
            self.info = pseudonymise(self.columns, self.info, self.folder, self.root, folder)
        elif args.copy:
            self._copy()
        write_copies(folder, copies)
        return settle(folder, self.out, self.columns, self.info)

    def leaks(self, args: argparse.Namespace) -> Copies:
        """Bring subjects under one spelling and find the near copies of real images, once all rows are read: before splits are chosen.

        Raises:
            InputErrors: several spellings of one subject, unless --subject-spellings says what they are.
        """
        if self._copies is None:
            self.join_spellings(args)
            skipped = getattr(args, "skip_near_copies", True) or (self.columns["source"] != "real").any()
            self._copies = Copies() if skipped else find_copies(self.columns, self._files, self._workers)
        return self._copies

    def join_spellings(self, args: argparse.Namespace) -> None:
        """Bring the spellings of a subject to one, as --subject-spellings says: before given splits are compared by subject.

        Raises:
            InputErrors: several spellings of one subject, unless --subject-spellings says what they are.
        """
        if getattr(args, "subject", "named") is not None:  # else a subject is a file's name
            one_spelling(self.columns["subject"], getattr(args, "subject_spellings", "error"), self.where, self._place)

    def hashed(self, subjects: Sequence[str], places: Sequence[str] | None = None) -> list[str]:
        """Keyed hashes of subjects whose names are identifiers, one a row.

        Args:
            subjects: as the source names them. places: words for each row in a fault (default: its line in the file).

        Raises:
            InputErrors: several spellings of one subject, unless --subject-spellings says what they are.
        """
        place = places.__getitem__ if places is not None else self._place
        return hashed(self.info.id, subjects, getattr(self._args, "subject_spellings", "error"), self.where, place)

    def _files(self, row: int) -> list[Path]:
        """The channel files of a row."""
        base = self.folder if self.columns["root"][row] == HERE else self.root
        return [base / self.columns[f"channel:{c}"][row] for c in self.info.channels]

    def _without_crossing(self, args: argparse.Namespace, copies: Copies) -> Copies:
        """Leave out the rows for training that are near copies of pictures in other splits, and say which; the copies that stay."""
        split, subject = self.columns["split"], self.columns["subject"]
        dropped = rows_to_drop(copies, split, self.columns["digest"])
        who = lambda row: "" if getattr(args, "pseudonymise", False) else f"subject {subject[row]!r} in "  # noqa: E731
        print(f"  --drop-near-copies: {len(dropped)} row(s) left out that nearly show a picture of another split")
        for row, other in dropped.items():
            print(f"    {self._place(row)}{who(row)}{split[row]}: nearly the picture of {self._place(other)}{who(other)}{split[other]}")
            for path in [*self._files(row)] * (self.columns["root"][row] == HERE):
                path.unlink(missing_ok=True)
            for layer in self.info.layers:
                if mask := self.columns[f"mask:{layer}"][row]:
                    (self.folder / mask).unlink(missing_ok=True)
        keep = np.array([row not in dropped for row in range(len(split))])
        self.columns = {name: column[keep] for name, column in self.columns.items()}
        self.lines = [line for line, k in zip(self.lines, keep, strict=True) if k]
        return copies.without(dropped.keys(), len(keep))

    def _split(self, args: argparse.Namespace, copies: Sequence[tuple[int, int]] = ()) -> list[str]:
        facts = [self.columns[f"label:{c}"] for c in self.info.classes]
        for name in [c for c in self.columns if c.startswith("area:")]:
            present = np.where(np.isnan(self.columns[name]), np.nan, self.columns[name] > 0)
            if 0.02 <= np.nan_to_num(present).mean() <= 0.98:
                facts.append(present)
        owners = picture_owners(self.columns["subject"], self.columns["digest"], copies)
        table = np.array(facts, dtype=float).T if facts else np.zeros((len(owners), 0))
        return split_by_subject(owners, table, args.fractions or (0.55, 0.1, 0.1, 0.25), args.seed)

    def _check_pictures(self) -> None:
        first: dict[str, int] = {}
        for row, digest in enumerate(self.columns["digest"]):
            other = first.setdefault(digest, row)
            a, b = self.columns["split"][other], self.columns["split"][row]
            if a != b:
                self.fault(
                    row,
                    f"column 'split': the same picture as row {self.lines[other]} is in {b}, that one in {a}; "
                    "remove one of them or give both one split",
                )
        self.raise_faults()

    def _copy(self) -> None:
        for channel in self.info.channels:
            names = self.columns[f"channel:{channel}"]
            for row, name in enumerate(names):
                if self.columns["root"][row] == HERE:  # stored here already
                    continue
                target = self.folder / "images" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with naming(target):
                    shutil.copyfile(self.root / name, target)
                names[row] = f"images/{name}"
        self.columns["root"][:] = HERE
        self.info = replace(self.info, roots={HERE: str(self.out)})


def check_splits(values: Sequence[str]) -> list[tuple[int, str]]:
    """(row, fault) of each value that is not the name of a split."""
    return [
        (i, f"found {v!r}, expected one of {', '.join(SPLITS)}; rename it in the file")
        for i, v in enumerate(values)
        if v not in SPLITS
    ]


@contextmanager
def draft_folder(out: Path, command: str = "", whole: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """A hidden folder inside `out` for what is being made; an older manifest in `out` stays until `settle`.

    Leaving it removes it, but for a failure other than bad input of a `command`: that command goes on with what is there. Folders
    that other commands left are removed.

    Args:
        out: the folder to make. command: digest of all that the content depends on; "" = nothing is kept.
        whole: says, after bad input, whether what is there is good.

    Raises:
        InputError: `out` is a file, or holds files that no `prepare` made.
        RunError: another process makes it.
    """
    if out.exists() and not out.is_dir():
        raise InputError(str(out), "a file", "a folder", "name another folder")
    ours = (out / "dataset.yaml").exists() or (out / MARK).exists()
    if out.is_dir() and any(out.iterdir()) and not ours:
        raise InputError(
            str(out),
            "a folder with other files in it",
            "a new or empty folder",
            "name another folder, or empty this one yourself",
        )
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / MARK, "prepare"):
        folder = out / f".draft-{command or 'new'}"
        for left in out.glob(".draft-*"):
            if left != folder or not command:
                shutil.rmtree(left)
        folder.mkdir(exist_ok=True)
        kept = False
        try:
            yield folder
        except BaseException as e:
            kept = bool(command) and (not isinstance(e, InputError) or whole())
            if kept and isinstance(e, InputError):
                print(f"  what was read is kept in {folder} for the same command with other options of splits, copies, spellings or intensity", file=sys.stderr)
            raise
        finally:
            if not kept:
                shutil.rmtree(folder, ignore_errors=True)


def write_masks(
    columns: dict[str, Any],
    info: DatasetInfo,
    row: int,
    draft: Path,
    stem: str,
    masks: Mapping[str, np.ndarray | None],
) -> list[Path | None]:
    """Write the layers of a row into the draft (pixel k = structure k - 1; None = unknown); note path, areas, digest; the files."""
    paths: list[Path | None] = []
    for layer, structures in info.layers.items():
        mask = masks.get(layer)
        paths.append(None if mask is None else draft / "masks" / layer / f"{stem}.png")
        if mask is None:
            continue
        write_mask(paths[-1], mask)
        columns[f"mask:{layer}"][row] = f"masks/{layer}/{stem}.png"
        shares = np.bincount(mask.ravel(), minlength=len(structures) + 1) / mask.size
        for k, structure in enumerate(structures):
            columns[f"area:{layer}/{structure}"][row] = shares[k + 1]
    columns["mask_digest"][row] = files_digest(paths)
    return paths


def settle(draft: Path, out: Path, columns: dict[str, Any], info: DatasetInfo) -> Manifest:
    """Write the manifest beside the files of a draft, read it back, then put all in place of an older set, dataset.yaml last.

    Raises:
        InputErrors: rows that no manifest may have; the older set stays as it is.
    """
    Manifest(pd.DataFrame(columns), replace(info, roots={**info.roots, HERE: str(draft)})).write(draft)
    made = Manifest.read(draft)
    parts = [draft / "masks", draft / "images"]
    with ThreadPoolExecutor(8) as pool:  # most are on the disk by now; those that are not wait for each other
        list(pool.map(_flush, [p for part in parts if part.exists() for p in (part, *part.rglob("*"))]))
    older = draft / "older"
    shutil.rmtree(older, ignore_errors=True)  # of a swap that was killed
    older.mkdir()
    for name in ("dataset.yaml", "masks", "images", COPIES, "manifest.csv"):
        if (out / name).exists():
            os.replace(out / name, older / name)
    for name in ("masks", "images", COPIES, "manifest.csv", "dataset.yaml"):
        if (draft / name).exists():
            os.replace(draft / name, out / name)
        if name in ("manifest.csv", "dataset.yaml"):
            _flush(out)
    shutil.rmtree(older)
    return Manifest(made.table, replace(made.info, roots={**made.info.roots, HERE: str(out.resolve())}))


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(handle)
    finally:
        os.close(handle)

"""A manifest in the making: what every reader shares, from checking each row to the folder that appears whole or not at all."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from synthrad.data.images import POLICIES, files_digest, read_image, write_image, write_mask
from synthrad.data.pseudonyms import pseudonymise
from synthrad.errors import Fault, InputError, InputErrors, naming
from synthrad.records import HERE, SPLITS, DatasetInfo, Manifest, check_inside, empty_columns

MARK = (
    ".synthrad-prepare"  # says that a folder is ours to replace, also where a killed run left no dataset.yaml
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
    low, high = args.intensity or (0.0, 255.0)
    if not low < high:
        raise InputError("--intensity", f"{low} {high}", "LOW below HIGH")
    info = DatasetInfo(name, args.id or name, intensity={"low": low, "high": high}, **known)
    if args.resize:
        info = replace(info, resize=args.resize)
    return replace(info, licence=args.licence) if args.licence else info


class Draft:
    """Rows of a manifest while they are checked and their masks are drawn, in a hidden folder inside `out`.

    Use as a context: leaving it removes what was not finished, and an older manifest in `out` stays as it was.

    Args:
        out: the folder to make. root: where the images are.
        info: without roots.
        rows: how many.
        where: what faults are faults of: the CSV or JSON file.
        lines: line of each row in that file (default: one a row, below a header).
    """

    def __init__(
        self,
        out: Path,
        root: Path,
        info: DatasetInfo,
        rows: int,
        where: str,
        lines: Sequence[int] | None = None,
    ):
        self.lines = range(2, rows + 2) if lines is None else lines
        self.out, self.root, self.where = Path(out).resolve(), Path(root).resolve(), where
        self.info = replace(info, roots={HERE: str(self.out), "images": str(self.root)})
        self.columns = empty_columns(self.info, rows)
        self.columns["root"][:] = "images"
        self._faults: list[tuple[int, str]] = []
        self._top = np.zeros(rows, dtype=np.int64)
        self._deep = np.zeros(rows, dtype=bool)

    def __enter__(self) -> Draft:
        if self.out == self.root or self.out in self.root.parents:
            raise InputError(str(self.out), "an output folder that holds the images", "a folder of its own")
        self.folder = open_draft(self.out)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def fault(self, row: int, text: str) -> None:
        """Note a fault of a row (0 is the first; printed as the line of the file) or, with -1, of the whole."""
        self._faults.append((row, f"{self._place(row)}{text}" if row >= 0 else text))

    def _place(self, row: int) -> str:
        return f"row {self.lines[row]}, "

    def raise_faults(self) -> None:
        """Raise all faults so far, in order of rows."""
        if self._faults:
            raise InputErrors(self.where, [text for _, text in sorted(self._faults, key=lambda f: f[0])])

    def each(self, work: Callable[[int], None], title: str = "reading images", line: bool = True) -> None:
        """Call work(row) for all rows, with a progress bar; its InputErrors become faults of their rows.

        Args:
            work: of one row. title: of the bar.
            line: faults start with the row's line in the file (not for formats without lines).
        """
        from synthrad.progress import progress

        def one(row: int) -> None:
            try:
                work(row)
            except InputErrors as e:
                self._faults += [(row, Fault.of(self._place(row) * line, f, numbered=True)) for f in e.faults]
            except InputError as e:
                self._faults.append((row, Fault.of(self._place(row) * line, e, numbered=True)))

        pool = ThreadPoolExecutor(2)
        try:
            total = len(self._top)
            for _ in progress(pool.map(one, range(total)), desc=title, total=total, unit="image"):
                pass
        finally:
            pool.shutdown(cancel_futures=True)

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
        return channels[0].shape

    def _refuse_links_out(self, path: Path) -> None:
        """Where a link leads out of the root, the set would change with files that the root does not hold."""
        check_inside(path, self.root)

    def add_masks(self, row: int, stem: str, masks: Mapping[str, np.ndarray | None]) -> None:
        """Write the layers (pixel k = structure k - 1; None = unknown), note areas and digest."""
        write_masks(self.columns, self.info, row, self.folder, stem, masks)

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
        if (self.columns["split"] == "").any():
            self.columns["split"][:] = self._split(args)
        self._check_pictures()
        if getattr(args, "pseudonymise", False):
            self.info = pseudonymise(self.columns, self.info, self.folder, self.root, self.out)
        elif args.copy:
            self._copy()
        return settle(self.folder, self.out, self.columns, self.info)

    def _split(self, args: argparse.Namespace) -> list[str]:
        from synthrad.data.splits import picture_owners, split_by_subject

        facts = [self.columns[f"label:{c}"] for c in self.info.classes]
        for name in [c for c in self.columns if c.startswith("area:")]:
            present = np.where(np.isnan(self.columns[name]), np.nan, self.columns[name] > 0)
            if 0.02 <= np.nan_to_num(present).mean() <= 0.98:
                facts.append(present)
        owners = picture_owners(self.columns["subject"], self.columns["digest"])
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


def open_draft(out: Path) -> Path:
    """A hidden folder inside `out` for what is being made; an older manifest in `out` stays until `settle`.

    Raises:
        InputError: `out` is a file, or holds files that no `prepare` made.
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
    (out / MARK).touch()
    return Path(tempfile.mkdtemp(dir=out, prefix=".draft-"))


def write_masks(
    columns: dict[str, Any],
    info: DatasetInfo,
    row: int,
    draft: Path,
    stem: str,
    masks: Mapping[str, np.ndarray | None],
) -> None:
    """Write the layers of a row into the draft (pixel k = structure k - 1; None = unknown); note path, areas, digest."""
    paths = []
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


def settle(draft: Path, out: Path, columns: dict[str, Any], info: DatasetInfo) -> Manifest:
    """Put masks and images in place of older ones, then the manifest, dataset.yaml last; read it back."""
    import pandas as pd

    (out / "dataset.yaml").unlink(missing_ok=True)
    for part in ("masks", "images"):
        shutil.rmtree(out / part, ignore_errors=True)
        if (draft / part).exists():
            os.replace(draft / part, out / part)
    Manifest(pd.DataFrame(columns), info).write(out)
    return Manifest.read(out)

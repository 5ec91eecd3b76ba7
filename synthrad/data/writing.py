"""A manifest in the making: what every reader shares, from checking each row to the folder that appears whole or not at all."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from synthrad.data.crossing import equal_across_splits, leave_out_crossing
from synthrad.data.drafts import draft_folder, settle
from synthrad.data.images import POLICIES, files_digest, read_image, write_image, write_mask
from synthrad.data.journal import Journal, digest_of_inputs
from synthrad.data.leaks import Copies, find_copies, hashed, one_spelling, refuse_crossing, write_copies
from synthrad.data.processes import cores
from synthrad.data.pseudonyms import pseudonymise
from synthrad.data.row_passes import RowPasses
from synthrad.data.splits import checked_fractions, checked_seed, picture_owners, split_by_subject
from synthrad.data.thumbnails import Thumbnails
from synthrad.dataset_info import HERE, DatasetInfo
from synthrad.errors import InputError, naming
from synthrad.files import check_inside
from synthrad.lineage import project_folder
from synthrad.manifest_table import SPLITS, empty_columns
from synthrad.records import Manifest

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


class Draft(RowPasses):
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
        given = getattr(args, "workers", None)
        if given is not None and given < 1:
            raise InputError("--workers", str(given), "1 or more")
        self._searched = searched
        self.out, self.root, self._args = Path(out).resolve(), Path(root).resolve(), args
        self.info = replace(info, roots={HERE: str(self.out), "images": str(self.root)})
        super().__init__(empty_columns(self.info, rows), where, range(2, rows + 2) if lines is None else lines, given or cores())
        self.columns["root"][:] = "images"
        self._copies: Copies | None = None  # not looked for yet

    def __enter__(self) -> Draft:
        if self.out == self.root or self.out in self.root.parents:
            raise InputError(str(self.out), "an output folder that holds the images", "a folder of its own")
        if self._searched and self.root in self.out.parents:
            raise InputError(str(self.out), f"an output folder inside {self.root}, where a second run would take it for a part of the dataset",
                             "a folder beside it", "name another OUT")
        self._opened = draft_folder(self.out, self._command(), lambda: self._whole)
        self.folder = self._opened.__enter__()
        self._journal, self._thumbnails = Journal(self.folder), Thumbnails(self.folder)
        return self

    def __exit__(self, *error: Any) -> None:
        self._journal.close()
        self._thumbnails.close()
        self._opened.__exit__(*error)

    def _command(self) -> str:
        """What a killed run is known by: all that its rows depend on, but for the files that only one row is read from."""
        if self._args is None:
            return ""
        options = {k: v for k, v in vars(self._args).items() if k not in NOT_OF_ROWS} | {"where": self.where}
        info = {k: v for k, v in self.info.to_dict().items() if k != "intensity"}
        facts = [info, str(self.root), list(self.lines), str(project_folder().resolve())]
        return digest_of_inputs(options, facts)

    def each(
        self, work: Callable[[int], Any], title: str = "reading images", line: bool = True, together: Sequence[Any] | None = None
    ) -> list[Any]:
        """As RowPasses.each says, once subjects are under one spelling.

        Raises:
            InputErrors: several spellings of one subject, unless --subject-spellings says what they are.
        """
        if not self._passes and self._args is not None:
            self.join_spellings(self._args)
        return super().each(work, title, line, together)

    def add_image(self, row: int, names: Sequence[str]) -> tuple[int, int]:
        """Check the channel files (relative to root), note their digest; returns (height, width).

        Raises:
            InputError: a file that is missing, unreadable or outside the root, or channels of different size.
        """
        paths = [self.root / n for n in names]
        for path in paths:
            self._refuse_links_out(path)
        shape: tuple[int, int] | None = None
        channels = []
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
            channels.append(pixels)
        self.columns["digest"][row] = files_digest(paths)
        self._keep_thumbnail(row, channels)
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
        self._keep_thumbnail(row, channels)
        return channels[0].shape

    def _keep_thumbnail(self, row: int, channels: Sequence[np.ndarray]) -> None:
        if not getattr(self._args, "skip_near_copies", True) and self.columns["source"][row] == "real":
            self._seen = self._thumbnails.keep(row, channels)

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
        for row, text in equal_across_splits(self.columns["digest"], self.columns["split"], self.lines):
            self.fault(row, text)
        self.raise_faults()
        if getattr(args, "drop_near_copies", False):
            copies = self._leave_out(args, copies)
        refuse_crossing(copies, self.columns, self.where, self._place, getattr(args, "allow_near_copies", False))
        self._whole, folder = False, self.folder  # what is refused from here on no option repairs
        if getattr(args, "pseudonymise", False):
            folder = self.folder / "pseudonymised"
            self.info = pseudonymise(self.columns, self.info, self.folder, self.root, folder)
        elif args.copy:
            self._copy()
        write_copies(folder, copies)
        self._journal.close()  # an open file that is deleted stays in its folder on NFS, which then cannot be deleted either
        self._thumbnails.close()
        return settle(folder, self.out, self.columns, self.info)

    def leaks(self, args: argparse.Namespace) -> Copies:
        """Bring subjects under one spelling and find the near copies of real images, once all rows are read: before splits are chosen.

        Raises:
            InputErrors: several spellings of one subject, unless --subject-spellings says what they are.
        """
        if self._copies is None:
            self.join_spellings(args)
            skipped = getattr(args, "skip_near_copies", True) or (self.columns["source"] != "real").any()
            self._copies = Copies() if skipped else find_copies(self.columns, self._files, self._workers, self._thumbnail)
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

    def _thumbnail(self, row: int) -> np.ndarray | None:
        return self._thumbnails.read(row, self._thumbnail_checks.get(row))

    def _leave_out(self, args: argparse.Namespace, copies: Copies) -> Copies:
        named = not getattr(args, "pseudonymise", False)
        keep, copies = leave_out_crossing(self.columns, copies, self.folder, self._place, named)
        self.columns = {name: column[keep] for name, column in self.columns.items()}
        self.lines = [line for line, k in zip(self.lines, keep, strict=True) if k]
        return copies

    def _split(self, args: argparse.Namespace, copies: Sequence[tuple[int, int]] = ()) -> list[str]:
        facts = [self.columns[f"label:{c}"] for c in self.info.classes]
        for name in [c for c in self.columns if c.startswith("area:")]:
            present = np.where(np.isnan(self.columns[name]), np.nan, self.columns[name] > 0)
            if 0.02 <= np.nan_to_num(present).mean() <= 0.98:
                facts.append(present)
        owners = picture_owners(self.columns["subject"], self.columns["digest"], copies)
        table = np.array(facts, dtype=float).T if facts else np.zeros((len(owners), 0))
        return split_by_subject(owners, table, args.fractions or (0.55, 0.1, 0.1, 0.25), args.seed)

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

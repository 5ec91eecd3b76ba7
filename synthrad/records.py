"""Record and Manifest: the table that every step reads and writes.

On disk a manifest is a folder with `manifest.csv` (one row an image, see `manifest_table`) and `dataset.yaml`, which is
written last: its existence means that the set is whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml

from synthrad import seals
from synthrad.dataset_info import HERE, DatasetInfo
from synthrad.documents import read_yaml
from synthrad.errors import InputError
from synthrad.files import check_inside, write_durably
from synthrad.manifest_table import Split, check_table, read_rows, to_csv
from synthrad.swap import finish_others_swap


@dataclass(frozen=True)
class Record:
    """One image, made on demand from a manifest's row."""

    channels: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    subject: str
    split: Split
    source: Literal["real", "synthetic"]
    labels: tuple[int | None, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    areas: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    soft: Mapping[str, float] = field(default_factory=dict)
    augment: int | None = None
    origin: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    mask_digest: str = ""


class Manifest(Sequence[Record]):
    """A frozen table of images of one dataset.

    Args:
        table: pandas table with the columns of the module's docstring; labels, areas, scores and soft as float (NaN unknown),
            augment as nullable Int64, all else str.
        info: what the rows have in common; roots must be absolute here.
    """

    def __init__(self, table: pd.DataFrame, info: DatasetInfo):
        self._table = table.reset_index(drop=True)
        self.info = info

    @property
    def table(self) -> pd.DataFrame:
        """A copy of the table: changing it changes nothing here."""
        return self._table.copy()

    def column(self, name: str) -> np.ndarray:
        """One column as an array (read only)."""
        values = self._table[name].to_numpy()
        values.flags.writeable = False
        return values

    @property
    def labels(self) -> np.ndarray:
        """[rows, classes] float: 0, 1 or NaN (unknown)."""
        return self._table[[f"label:{c}" for c in self.info.classes]].to_numpy(dtype=float)

    @property
    def training_labels(self) -> np.ndarray:
        """[rows, classes] float: the labels, those with a soft label as that share in [0, 1]; NaN (unknown)."""
        values = self.labels.copy()
        for k, c in enumerate(self.info.classes):
            if f"soft:{c}" in self._table:
                soft = self._table[f"soft:{c}"].to_numpy(dtype=float)
                values[:, k] = np.where(np.isnan(soft), values[:, k], soft)
        return values

    def names(self, prefix: str) -> tuple[str, ...]:
        """Names behind `prefix:` among the columns, e.g. names("area")."""
        return tuple(c.split(":", 1)[1] for c in self._table.columns if c.startswith(f"{prefix}:"))

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index):  # int -> Record, slice -> Manifest
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        row = self._table.iloc[int(index)]
        root = Path(self.info.roots[row["root"]])
        here = Path(self.info.roots.get(HERE, root))

        def group(prefix: str, keep) -> dict:
            return {n: row[f"{prefix}:{n}"] for n in self.names(prefix) if keep(row[f"{prefix}:{n}"])}

        known = lambda v: not np.isnan(v)  # noqa: E731
        channels = tuple(root / row[f"channel:{c}"] for c in self.info.channels)
        masks = tuple(here / p if (p := row[f"mask:{layer}"]) else None for layer in self.info.layers)
        for path in channels:
            check_inside(path, root)
        for path in filter(None, masks):
            check_inside(path, here, *self.info.roots.values())
        return Record(
            channels=channels,
            masks=masks,
            subject=row["subject"],
            split=row["split"],
            source=row["source"],
            labels=tuple(None if np.isnan(v) else int(v) for v in (row[f"label:{c}"] for c in self.info.classes)),
            attributes=group("attribute", bool),
            areas=group("area", known),
            scores=group("score", known),
            soft=group("soft", known),
            augment=None if pd.isna(row["augment"]) else int(row["augment"]),
            origin=group("origin", bool),
            digest=row["digest"],
            mask_digest=row["mask_digest"],
        )

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))

    def where(self, **equals: str) -> Manifest:
        """Rows whose columns equal the given values: where(split="train", source="real")."""
        keep = np.ones(len(self), dtype=bool)
        for name, value in equals.items():
            column = name if name in self._table else f"attribute:{name}"
            if column not in self._table:
                raise InputError(f"Manifest.where({name}=...)", f"no column {name!r}", f"one of {list(self._table)}")
            keep &= (self._table[column] == value).to_numpy()
        return self.take(np.flatnonzero(keep))

    def take(self, index: Sequence[int] | np.ndarray) -> Manifest:
        """Rows by position, repeats allowed, in the given order."""
        return Manifest(self._table.iloc[np.asarray(index, dtype=int)], self.info)

    def with_columns(self, columns: Mapping[str, Any]) -> Manifest:
        """The same rows with columns added or replaced."""
        return Manifest(self._table.assign(**dict(columns)), self.info)

    def __add__(self, other: Manifest) -> Manifest:
        a, b = self.info, other.info
        for key in ("classes", "layers", "channels"):
            if (mine := getattr(a, key)) != (theirs := getattr(b, key)):
                raise InputError(f"adding {b.name!r} to {a.name!r}", f"{key} {theirs}", f"{key} {mine}",
                                 "prepare both with the same flags")
        roots, renamed = dict(a.roots), {}
        for name, path in b.roots.items():
            fresh = name
            while fresh in roots and roots[fresh] != path:
                fresh += "+"
            roots[fresh], renamed[name] = path, fresh
        theirs = other._table.assign(root=other._table["root"].map(renamed))
        # masks are relative to HERE: rows of another folder get them relative to ours, through absolute paths
        if b.roots.get(HERE) != a.roots.get(HERE):
            base = Path(b.roots[HERE])
            for layer in b.layers:
                theirs[f"mask:{layer}"] = [str(base / p) if p else "" for p in theirs[f"mask:{layer}"]]
        table = pd.concat([self._table, theirs], ignore_index=True)
        for column in table.columns:
            if table[column].dtype == object or pd.api.types.is_string_dtype(table[column]):
                table[column] = table[column].fillna("")
        info = replace(a, roots=roots, lineage=a.lineage + b.lineage,
                       attributes=tuple(dict.fromkeys(a.attributes + b.attributes)))
        return Manifest(table, info)

    @property
    def digest(self) -> str:
        """SHA-256 over rows and info, without roots: a moved dataset keeps its digest."""
        info = {k: v for k, v in self.info.to_dict().items() if k != "roots"}
        h = hashlib.sha256(yaml.safe_dump(info, sort_keys=True).encode())
        h.update(to_csv(self._table).encode())
        return h.hexdigest()

    def write(self, folder: Path | str) -> Path:
        """Write manifest.csv, then dataset.yaml. Masks and images must be in place already.

        Paths inside the folder are written relative to it, others absolute: a folder that holds its files can be moved.
        """
        folder = Path(folder).resolve()

        def stored(path: str) -> str:
            return os.path.relpath(path, folder) if f"{path}/".startswith(f"{folder}/") else path

        (folder / "dataset.yaml").unlink(missing_ok=True)
        table = self._table.copy()
        roots = {name: stored(str((folder / path).resolve())) for name, path in self.info.roots.items()}
        here = (folder / self.info.roots.get(HERE, folder)).resolve()
        if here != folder:  # masks stay where they are
            for layer in self.info.layers:
                table[f"mask:{layer}"] = [stored(str(here / p)) if p else "" for p in table[f"mask:{layer}"]]
            if (table["root"] == HERE).any() or any((table[f"mask:{layer}"] != "").any() for layer in self.info.layers):
                name = "images"
                while roots.get(name, stored(str(here))) != stored(str(here)):  # another root of that name stays itself
                    name += "+"
                roots[name] = stored(str(here))
                table.loc[table["root"] == HERE, "root"] = name
        roots[HERE] = "."
        text = to_csv(table)
        write_durably(folder / "manifest.csv", text.encode())
        info = replace(self.info, roots=roots)
        meta = {**info.to_dict(), "rows": len(self), "digest": hashlib.sha256(text.encode()).hexdigest()}
        if info.lineage.fitted:
            meta["seal"] = seals.seal(info, meta["digest"])
        write_durably(folder / "dataset.yaml", yaml.safe_dump(meta, sort_keys=False).encode())
        return folder

    @classmethod
    def read(cls, folder: Path | str) -> Manifest:
        """Read and check a manifest folder; a `prepare` that was killed while its set took an older one's place is made up for (synthrad.swap).

        Raises:
            RunError: another process is putting a set in place there, and did not end within seconds.
            InputErrors: every fault of the file at once, with row, column, value and repair.
        """
        folder = Path(folder)
        yaml_path, csv_path = folder / "dataset.yaml", folder / "manifest.csv"
        if not yaml_path.is_file() and not finish_others_swap(folder) and not yaml_path.is_file():  # another process may just have finished it
            found = "manifest.csv without dataset.yaml (an unfinished write)" if csv_path.is_file() else "no dataset.yaml"
            raise InputError(str(folder), found, "a manifest folder", "run the command that makes it again")
        text = csv_path.read_bytes() if csv_path.is_file() else b""
        meta = read_yaml(yaml_path, "the file as written by `synthrad prepare`") or {}
        info = DatasetInfo.from_dict(meta, str(yaml_path))
        if hashlib.sha256(text).hexdigest() != meta.get("digest"):
            raise InputError(str(csv_path), "bytes that differ from the digest in dataset.yaml", "the file as written",
                             "run `synthrad prepare` again rather than editing manifest.csv")
        info = replace(info, lineage=seals.checked_lineage(info, meta, str(yaml_path)))
        roots = {n: str((folder / p).resolve()) for n, p in info.roots.items()}
        if roots.get(HERE) != str(folder.resolve()):  # masks are read there and caches written
            raise InputError(str(yaml_path), f"the root {HERE!r} at {info.roots.get(HERE)!r}", f"{HERE}: ., the folder itself",
                             "run `synthrad prepare` again")
        info = replace(info, roots=roots)
        raw = read_rows(csv_path)
        return cls(check_table(raw, info, str(csv_path)), info)

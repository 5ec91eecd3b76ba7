"""Record and Manifest: the table that every step reads and writes.

On disk a manifest is a folder with `manifest.csv` (one row an image) and `dataset.yaml`, which is written last:
its existence means that the set is whole. Column names of the CSV, in this order:

    root                  name of a root in dataset.yaml; every path must resolve inside it
    channel:<name>        image file of one channel, relative to the root
    mask:<layer>          indexed PNG of one layer, relative to the root "here" (the folder itself); blank = no mask known
    subject, split, source, augment, digest, mask_digest
    label:<class>         0, 1 or blank (unknown)
    attribute:<name>, area:<layer>/<structure>, score:<name>, origin:<key>
    soft:<class>          of real training rows whose label was uncertain: the share in [0, 1] that a classifier is trained
                          towards instead of the label, which is that share rounded; blank = the label

A mask pixel k >= 1 is the k-th structure of its layer (`DatasetInfo.layers`), 0 is background.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml

from synthrad.documents import read_yaml
from synthrad.errors import InputError, InputErrors
from synthrad.lineage import Lineage, key_id, known_key, project_key, seal_of
from synthrad.swap import finish_others_swap

Split = Literal["train", "val", "audit", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "audit", "test")
SOURCES = ("real", "synthetic")
HERE = "here"  # the root that is the manifest's own folder
NUMBERS = ("area:", "score:", "soft:")  # prefixes of columns that hold a float, blank = unknown
FORMAT = 1


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


@dataclass(frozen=True)
class DatasetInfo:
    """What a manifest's rows have in common.

    Args:
        name, id: a name to print; an id that hashes of subjects are bound to (stable over copies).
        classes: label classes, the order of Record.labels.
        layers: mask layer -> its structures; mask pixel k is structure k - 1, 0 is background.
        channels: channel names, the order of Record.channels.
        attributes: attribute names.
        roots: name -> folder (absolute, or relative to the manifest's folder). Not part of the digest.
        intensity: {"low": .., "high": ..}: the stored values that become -1 and 1.
        resize: letterbox (keep aspect, pad with low) or squeeze.
        licence: as the source states it.
        lineage: empty for real images.
    """

    name: str
    id: str
    classes: tuple[str, ...] = ()
    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    channels: tuple[str, ...] = ("image",)
    attributes: tuple[str, ...] = ()
    roots: Mapping[str, str] = field(default_factory=lambda: {HERE: "."})
    intensity: Mapping[str, float] = field(default_factory=lambda: {"low": 0.0, "high": 255.0})
    resize: Literal["letterbox", "squeeze"] = "letterbox"
    licence: str = ""
    lineage: Lineage = field(default_factory=Lineage)

    def __post_init__(self) -> None:
        """Refuse names that would become other paths than meant: layers and channels are names of folders."""
        structures = [s for layer in self.layers.values() for s in layer]
        for kind, names in {"class": self.classes, "layer": self.layers, "channel": self.channels, "attribute": self.attributes,
                            "structure": structures}.items():
            for name in names:
                wrong = _FOLDER_NAME if kind in ("layer", "channel") else _NAME
                if not isinstance(name, str) or not wrong.match(name):
                    raise InputError(f"{kind} of dataset {str(self.name)[:80]!r}", repr(name)[:80],
                                     "a name of 1 to 200 characters" + ", without slashes" * (wrong is _FOLDER_NAME),
                                     "rename it where it comes from")

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dicts for YAML, with the format's number."""
        plain = {k: v for k, v in asdict(replace(self, lineage=Lineage())).items() if k != "lineage"}
        plain["layers"] = {k: list(v) for k, v in self.layers.items()}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}
        return {"format": FORMAT, **plain, "lineage": self.lineage.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str) -> DatasetInfo:
        """The inverse of to_dict.

        Raises:
            InputError: another format, or missing or unknown keys; it names `where`.
        """
        if not isinstance(data, dict):
            raise InputError(where, "no mapping", "a dataset.yaml written by synthrad", "run `synthrad prepare` again")
        data = {k: v for k, v in data.items() if k not in ("digest", "rows", "seal")}
        if data.pop("format", None) != FORMAT:
            raise InputError(where, "no `format: 1`", "a dataset.yaml written by synthrad", "run `synthrad prepare` again")
        try:
            lineage = Lineage.from_dict(data.pop("lineage", None))
            data["layers"] = {k: tuple(v) for k, v in data["layers"].items()}
            for key in ("classes", "channels", "attributes"):
                data[key] = tuple(data[key])
            _check_values(data)
            return cls(**data, lineage=lineage)
        except InputError as e:
            raise InputError(where, f"{e.where}: {e.found}", e.expected, e.repair) from e
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as e:  # 10**400 is no float
            raise InputError(where, f"{e}", "the keys of DatasetInfo", "run `synthrad prepare` again") from e


_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}\Z")
_FOLDER_NAME = re.compile(r"(?!\.{1,2}\Z)[^\x00-\x1f\x7f/\\]{1,200}\Z")


def _check_values(data: Mapping[str, Any]) -> None:
    """Types of what YAML or a checkpoint gave for DatasetInfo.

    Raises:
        ValueError: names the key.
    """
    low, high = (float(data.get("intensity", {"low": 0, "high": 1})[k]) for k in ("low", "high"))
    sound = {
        "name, id, licence": all(isinstance(data.get(k, ""), str) for k in ("name", "id", "licence")),
        "roots": all(isinstance(v, str) and "\0" not in v for pair in data.get("roots", {}).items() for v in pair),
        "intensity": np.isfinite([low, high]).all() and low < high,
        "resize": data.get("resize", "squeeze") in ("letterbox", "squeeze"),
    }
    if wrong := [key for key, good in sound.items() if not good]:
        raise ValueError(f"{wrong[0]} of another kind")


def file_digest(path: Path | str) -> str:
    """SHA-256 of a file, hex."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def check_inside(path: Path | str, *roots: Path | str) -> None:
    """Refuse a file that `..`, a link of its own or one of its folders leads out of all of its roots.

    Raises:
        InputError: where it leads, or that it leads nowhere.
    """
    try:
        folder, name = os.path.split(path)
        if "\0" in name:
            raise ValueError("it holds NUL")
        target = os.path.realpath(path) if name in ("", ".", "..") or os.path.islink(path) else os.path.join(_real(folder), name)
        inside = any(target.startswith(os.path.join(_real(str(root)), "")) for root in roots)
    except (OSError, RuntimeError, ValueError) as e:  # too long, links in a circle, NUL
        raise InputError(str(path).replace("\0", "\\0"), f"a path that cannot be followed ({e})", "a file inside the root") from e
    if not inside:
        found = f"a link to {target}, outside {roots[0]}" if os.path.lexists(path) else f"a path outside {roots[0]}"
        raise InputError(str(path), found, "a file inside the root", "give a root that holds both, or put real files there")


@lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    """A folder without its links; kept, because the files of a set share few folders."""
    return os.path.realpath(folder)


def read_facts(path: Path | str) -> dict[str, Any]:
    """The object that a JSON file holds; {} where there is none, or where it is not whole."""
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_durably(path: Path | str, data: bytes) -> None:
    """Write through a temporary file of the same folder, fsync, os.replace: a kill leaves the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(draft, 0o644)
        os.replace(draft, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException as e:
        Path(draft).unlink(missing_ok=True)
        if isinstance(e, OSError) and e.filename is None:
            e.filename = str(path)  # a full disk: say where
        raise


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
        h.update(_to_csv(self._table).encode())
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
        text = _to_csv(table)
        write_durably(folder / "manifest.csv", text.encode())
        info = replace(self.info, roots=roots)
        meta = {**info.to_dict(), "rows": len(self), "digest": hashlib.sha256(text.encode()).hexdigest()}
        if info.lineage.fitted:
            meta["seal"] = seal_of(_sealed(info, meta["digest"]), project_key())
        write_durably(folder / "dataset.yaml", yaml.safe_dump(meta, sort_keys=False).encode())
        return folder

    @classmethod
    def read(cls, folder: Path | str) -> Manifest:
        """Read and check a manifest folder.

        Raises:
            InputErrors: every fault of the file at once, with row, column, value and repair.
        """
        folder = Path(folder)
        yaml_path, csv_path = folder / "dataset.yaml", folder / "manifest.csv"
        if not yaml_path.is_file() and not finish_others_swap(folder):
            found = "manifest.csv without dataset.yaml (an unfinished write)" if csv_path.is_file() else "no dataset.yaml"
            raise InputError(str(folder), found, "a manifest folder", "run the command that makes it again")
        text = csv_path.read_bytes() if csv_path.is_file() else b""
        meta = read_yaml(yaml_path, "the file as written by `synthrad prepare`") or {}
        info = DatasetInfo.from_dict(meta, str(yaml_path))
        if hashlib.sha256(text).hexdigest() != meta.get("digest"):
            raise InputError(str(csv_path), "bytes that differ from the digest in dataset.yaml", "the file as written",
                             "run `synthrad prepare` again rather than editing manifest.csv")
        info = replace(info, lineage=_checked_lineage(info, meta, str(yaml_path)))
        roots = {n: str((folder / p).resolve()) for n, p in info.roots.items()}
        if roots.get(HERE) != str(folder.resolve()):  # masks are read there and caches written
            raise InputError(str(yaml_path), f"the root {HERE!r} at {info.roots.get(HERE)!r}", f"{HERE}: ., the folder itself",
                             "run `synthrad prepare` again")
        info = replace(info, roots=roots)
        raw = _read_rows(csv_path)
        return cls(check_table(raw, info, str(csv_path)), info)


def _sealed(info: DatasetInfo, digest: str) -> bytes:
    """What a seal is over: rows and info, without roots."""
    plain = {k: v for k, v in info.to_dict().items() if k != "roots"}
    return f"{digest}\n{yaml.safe_dump(plain, sort_keys=True)}".encode()


def seal_says(folder: Path | str) -> str:
    """Who sealed the rows and the lineage of a set on disk: this project, another one or, in sets of older versions and edited ones, "nobody"."""
    meta, key = read_yaml(Path(folder) / "dataset.yaml", "a dataset.yaml written by synthrad") or {}, known_key()
    seal = str(meta.get("seal") or "")
    return "nobody" if not seal else "this project" if key and seal.startswith(f"{key_id(key)}:") else "another project"


def _checked_lineage(info: DatasetInfo, meta: Mapping[str, Any], where: str) -> Lineage:
    """The lineage as far as this project can check it: one that another project sealed, or nobody, is of unknown origin.

    Raises:
        InputError: this project's seal over something else, or a seal and no lineage.
    """
    key = known_key()
    lineage, seal, own = info.lineage, str(meta.get("seal") or ""), key_id(key) if key else ""
    if not lineage.fitted and not seal:
        return lineage
    repair = "run the command that made the set again; a set made elsewhere enters by `synthrad prepare table --synthetic`"
    if key and seal.startswith(f"{own}:"):
        if hmac.compare_digest(seal, seal_of(_sealed(info, str(meta.get("digest"))), key)):
            return lineage
        raise InputError(where, "a lineage, rows or classes that differ from what this project sealed", "the files as written", repair)
    if not lineage.fitted:
        raise InputError(where, "a seal and no lineage", "the lineage that was sealed", repair)
    return replace(lineage, fitted=tuple(replace(f, origin="unknown") for f in lineage.fitted))
def _read_rows(path: Path) -> pd.DataFrame:
    """manifest.csv as strings.

    Raises:
        InputError: no CSV, or rows of another length than the header.
    """
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as e:  # pandas' own errors are ValueErrors, and so is UnicodeDecodeError
        found = f"no table ({' '.join(str(e).split())[:120]})"
        raise InputError(str(path), found, "the file as written", "run `synthrad prepare` again") from e
    if not isinstance(raw.index, pd.RangeIndex):  # pandas takes what is too much for names of rows
        raise InputError(str(path), "rows of more fields than the header has", "the file as written", "run `synthrad prepare` again")
    return raw


def _to_csv(table: pd.DataFrame) -> str:
    out = table.copy()
    for column in out.columns:
        if column.startswith("label:"):
            out[column] = ["" if np.isnan(v) else str(int(v)) for v in out[column]]
        elif column.startswith(NUMBERS):
            out[column] = ["" if np.isnan(v) else repr(float(v)) for v in out[column]]
        elif column == "augment":
            out[column] = ["" if pd.isna(v) else str(int(v)) for v in out[column]]
    text = out.to_csv(index=False, lineterminator="\n")
    if "\r" in text:  # the writer leaves it bare, the reader takes it for the end of a row
        text = out.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_ALL)
    return text


def empty_columns(info: DatasetInfo, rows: int) -> dict[str, Any]:
    """All columns that the folder format asks for, blank, in order; a reader fills in what it knows."""
    blank = np.full(rows, "", dtype=object)
    unknown = np.full(rows, np.nan)
    columns: dict[str, Any] = {"root": np.full(rows, HERE, dtype=object)}
    columns |= {f"channel:{c}": blank.copy() for c in info.channels}
    columns |= {f"mask:{layer}": blank.copy() for layer in info.layers}
    columns |= {k: blank.copy() for k in ("subject", "split", "source", "digest", "mask_digest")}
    columns["source"][:] = "real"
    columns["augment"] = pd.array([pd.NA] * rows, dtype="Int64")
    columns |= {f"label:{c}": unknown.copy() for c in info.classes}
    columns |= {f"attribute:{a}": blank.copy() for a in info.attributes}
    columns |= {f"area:{layer}/{s}": unknown.copy() for layer, ss in info.layers.items() for s in ss}
    return columns


def check_table(raw: pd.DataFrame, info: DatasetInfo, where: str) -> pd.DataFrame:
    """Check a table of strings against `info` (pandera) and give it its types.

    Raises:
        InputErrors: all faults at once.
    """
    import pandera.pandas as pa

    wanted = empty_columns(info, 0)
    faults = [f"column {c!r}: missing; run `synthrad prepare` again" for c in wanted if c not in raw]
    for c in raw.columns:
        if c.startswith("soft:") and c[5:] not in info.classes:
            faults.append(f"column {c!r}: soft labels of no class; the classes are {', '.join(info.classes)}")
        elif c not in wanted and not c.startswith(("score:", "origin:", "area:", "attribute:", "soft:")):
            faults.append(f"column {c!r}: not a column of a manifest; remove it or declare it in dataset.yaml")
    if faults:
        raise InputErrors(where, faults)
    numbers = {c: _numbers(raw[c]) for c in raw.columns if c.startswith(NUMBERS)}
    digits = pa.Check.str_matches(r"^\d*$", error="a whole number or blank")
    rules: dict[str, pa.Column] = {
        "subject": pa.Column(str, pa.Check.str_length(min_value=1, error="a subject; a blank one cannot be split")),
        "split": pa.Column(str, pa.Check.isin(SPLITS, error=f"one of {', '.join(SPLITS)}")),
        "source": pa.Column(str, pa.Check.isin(SOURCES, error="real or synthetic")),
        "root": pa.Column(str, pa.Check.isin(list(info.roots), error=f"one of the roots {list(info.roots)}")),
        "augment": pa.Column(str, digits),
    }
    for c in raw.columns:
        if c.startswith("label:"):
            rules[c] = pa.Column(str, pa.Check.isin(["0", "1", ""], error="0, 1 or blank"))
        elif c.startswith(NUMBERS):
            known = (raw[c] == "") | numbers[c].notna()
            rules[c] = pa.Column(str, pa.Check(lambda s, known=known: known, error="a number or blank"))
        elif c.startswith("channel:"):
            rules[c] = pa.Column(str, pa.Check.str_length(min_value=1, error="an image file"))
    try:
        pa.DataFrameSchema(rules).validate(raw, lazy=True)
    except pa.errors.SchemaErrors as e:
        for case in e.failure_cases.itertuples():
            row = "" if pd.isna(case.index) else f"row {int(case.index) + 2}, "
            faults.append(f"{row}column {case.column!r}: found {case.failure_case!r}, expected {case.check}")
    faults += _path_faults(raw, info) + _split_faults(raw) + _soft_faults(raw, numbers)
    if faults:
        raise InputErrors(where, faults)
    out = {}
    for c in raw.columns:
        if c in numbers:
            out[c] = numbers[c]
        elif c.startswith("label:"):
            out[c] = np.where(raw[c] == "", np.nan, (raw[c] == "1").to_numpy(dtype=float))
        elif c == "augment":
            out[c] = pd.to_numeric(raw[c].replace("", None)).astype("Int64")
        else:
            out[c] = raw[c].astype(object)
    return pd.DataFrame(out)


def _path_faults(raw: pd.DataFrame, info: DatasetInfo) -> list[str]:
    """Paths that leave their root, by text alone (no disk access: 200,000 rows in under 2 s).

    Masks may be absolute, inside one of the roots: a fused manifest points to those of both its parts.
    """
    faults, roots = [], tuple(os.path.join(root, "") for root in info.roots.values())
    for column in [c for c in raw.columns if c.startswith(("channel:", "mask:"))]:
        leaves = r"\x00|(?:^|[/\\])\.\.(?:[/\\]|$)" + (r"|^[/\\]|^.:" if column.startswith("channel:") else "")
        for i, path in raw[column][raw[column].str.contains(leaves)].items():
            faults.append(f"row {i + 2}, column {column!r}: {path!r} leaves its root; use a path inside it")
        if column.startswith("mask:"):
            for i, path in raw[column][raw[column].str.contains(r"^[/\\]|^.:")].items():
                if not path.startswith(roots):
                    faults.append(f"row {i + 2}, column {column!r}: {path!r} lies in no root of dataset.yaml; run the command that made the set again")
    return faults


def _soft_faults(raw: pd.DataFrame, numbers: Mapping[str, pd.Series]) -> list[str]:
    """Soft labels of held-out or synthetic rows, outside [0, 1], or that contradict their label."""
    faults = []
    for column in [c for c in numbers if c.startswith("soft:")]:
        soft = numbers[column]
        fits = soft.between(0, 1) & (raw[f"label:{column[5:]}"] == np.where(soft >= 0.5, "1", "0"))
        fits &= (raw["split"] == "train") & (raw["source"] == "real")
        for i in soft.index[soft.notna() & ~fits]:
            faults.append(f"row {i + 2}, column {column!r}: found {soft[i]:g}, expected a share in [0, 1] in a real training "
                          "row whose label is that share rounded, or blank; run `synthrad prepare` again")
    return faults


def _numbers(column: pd.Series) -> pd.Series:
    """Floats of a column of strings; NaN where it is blank or no number."""
    values = column.to_numpy(dtype=object)
    try:
        return pd.Series([float(v) if v else np.nan for v in values], index=column.index)
    except ValueError:
        return pd.to_numeric(column, errors="coerce").astype(float)


def _split_faults(raw: pd.DataFrame) -> list[str]:
    """Real subjects in more than one split."""
    real = raw[raw["source"] == "real"]
    pairs = real[["subject", "split"]].drop_duplicates()
    crossing = pairs[pairs["subject"].duplicated(keep=False)].groupby("subject")["split"].agg(sorted)
    return [f"subject {s!r}: in splits {splits}; a subject belongs to one split" for s, splits in crossing.items()]

"""The table of a manifest: its columns, its text in manifest.csv and what is checked when that is read.

    root                  name of a root in dataset.yaml; every path must resolve inside it
    channel:<name>        image file of one channel, relative to the root
    mask:<layer>          indexed PNG of one layer, relative to the root "here" (the folder itself); blank = no mask known
    subject, split, source, augment, digest, mask_digest
    label:<class>         0, 1 or blank (unknown)
    attribute:<name>, area:<layer>/<structure>, score:<name>, origin:<key>
    soft:<class>          of real training rows whose label was uncertain: the share in [0, 1] that a classifier is trained
                          towards instead of the label, which is that share rounded; blank = the label

The columns stand in this order. A mask pixel k >= 1 is the k-th structure of its layer (`DatasetInfo.layers`), 0 is background.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from synthrad.dataset_info import HERE, DatasetInfo
from synthrad.errors import InputError, InputErrors

Split = Literal["train", "val", "audit", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "audit", "test")
SOURCES = ("real", "synthetic")
NUMBERS = ("area:", "score:", "soft:")  # prefixes of columns that hold a float, blank = unknown


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


def to_csv(table: pd.DataFrame) -> str:
    """The text of manifest.csv: blank where a number is unknown."""
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


def read_rows(path: Path) -> pd.DataFrame:
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


def check_table(raw: pd.DataFrame, info: DatasetInfo, where: str) -> pd.DataFrame:
    """Check a table of strings against `info` (pandera) and give it its types.

    Raises:
        InputErrors: all faults at once.
    """
    if faults := _column_faults(raw, info):
        raise InputErrors(where, faults)
    numbers = {c: _numbers(raw[c]) for c in raw.columns if c.startswith(NUMBERS)}
    if faults := _value_faults(raw, info, numbers) + _path_faults(raw, info) + _split_faults(raw) + _soft_faults(raw, numbers):
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


def _column_faults(raw: pd.DataFrame, info: DatasetInfo) -> list[str]:
    """Columns that are missing, or that no manifest of `info` has."""
    wanted = empty_columns(info, 0)
    faults = [f"column {c!r}: missing; run `synthrad prepare` again" for c in wanted if c not in raw]
    for c in raw.columns:
        if c.startswith("soft:") and c[5:] not in info.classes:
            faults.append(f"column {c!r}: soft labels of no class; the classes are {', '.join(info.classes)}")
        elif c not in wanted and not c.startswith(("score:", "origin:", "area:", "attribute:", "soft:")):
            faults.append(f"column {c!r}: not a column of a manifest; remove it or declare it in dataset.yaml")
    return faults


def _value_faults(raw: pd.DataFrame, info: DatasetInfo, numbers: Mapping[str, pd.Series]) -> list[str]:
    """Values that a column of their kind does not take."""
    import pandera.pandas as pa

    rules: dict[str, pa.Column] = {
        "subject": pa.Column(str, pa.Check.str_length(min_value=1, error="a subject; a blank one cannot be split")),
        "split": pa.Column(str, pa.Check.isin(SPLITS, error=f"one of {', '.join(SPLITS)}")),
        "source": pa.Column(str, pa.Check.isin(SOURCES, error="real or synthetic")),
        "root": pa.Column(str, pa.Check.isin(list(info.roots), error=f"one of the roots {list(info.roots)}")),
        "augment": pa.Column(str, pa.Check.str_matches(r"^\d*$", error="a whole number or blank")),
    }
    for c in raw.columns:
        if c.startswith("label:"):
            rules[c] = pa.Column(str, pa.Check.isin(["0", "1", ""], error="0, 1 or blank"))
        elif c.startswith(NUMBERS):
            known = (raw[c] == "") | numbers[c].notna()
            rules[c] = pa.Column(str, pa.Check(lambda s, known=known: known, error="a number or blank"))
        elif c.startswith("channel:"):
            rules[c] = pa.Column(str, pa.Check.str_length(min_value=1, error="an image file"))
    faults = []
    try:
        pa.DataFrameSchema(rules).validate(raw, lazy=True)
    except pa.errors.SchemaErrors as e:
        for case in e.failure_cases.itertuples():
            row = "" if pd.isna(case.index) else f"row {int(case.index) + 2}, "
            faults.append(f"{row}column {case.column!r}: found {case.failure_case!r}, expected {case.check}")
    return faults


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

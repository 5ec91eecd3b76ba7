"""Tables of images as people keep them: CSV with any separator, or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthrad.errors import InputError, InputErrors

if TYPE_CHECKING:
    import pandas as pd

MOST_COLUMNS = 5_000


def read_table(path: Path) -> pd.DataFrame:
    """A table of strings, "" where a value is missing; the index is the line of the file, less 2.

    Blanks around column names are dropped, and so are columns without a name.

    Raises:
        InputError: no such file, not a table, or lines of another length than the header.
    """
    import pandas as pd

    if not path.is_file():
        raise InputError(str(path), "no such file", "a CSV or Parquet table")
    if not path.stat().st_size:
        raise InputError(str(path), "an empty file (0 bytes)", "a CSV or Parquet table", "save or copy it again")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(path).map(_text).reset_index(drop=True)
            table.columns = [str(c).strip() for c in table.columns]
        else:
            table = _read_csv(path)
    except InputError:
        raise
    except (ValueError, OSError, csv.Error) as e:
        found = f"a file that cannot be read ({' '.join(str(e).split())})"
        raise InputError(str(path), found, "a CSV or Parquet table", "save it as UTF-8 CSV") from e
    if not len(table):
        raise InputError(str(path), "no rows", "one row an image")
    return table.loc[:, [bool(c) for c in table.columns]]


def need_columns(table: pd.DataFrame, columns: Sequence[str], where: Path) -> None:
    """Raise InputErrors for each of `columns` that a published table lacks or has twice."""
    names = list(table.columns)
    faults = [f"column {c!r}: {'twice' if c in names else 'missing'}; the table has {', '.join(names)}" for c in columns if names.count(c) != 1]
    if faults:
        raise InputErrors(str(where), faults)


def _read_csv(path: Path) -> pd.DataFrame:
    """Read by Python's csv module, which knows the line of each row: pandas skips blank lines without a word."""
    import pandas as pd

    with open(path, encoding="utf-8-sig") as f:
        header = next((line for line in f if line.strip()), "")
    csv.field_size_limit(2**31 - 1)  # a report is one cell
    rows: dict[int, list[str]] = {}
    with open(path, encoding="utf-8-sig", newline="") as f:
        reader, start = csv.reader(f, delimiter=max(",;\t", key=header.count), strict=True), 1
        try:
            for cells in reader:
                if len(cells) > 1 or (cells and cells[0].strip()):
                    if not rows:
                        _check_header(cells, path)
                    rows[start] = cells
                start = reader.line_num + 1  # a quoted cell may span lines
        except csv.Error as e:
            found = f"line {start} that cannot be read ({e})"
            raise InputError(str(path), found, "a CSV table", 'close every " and double those inside a cell') from e
    if not rows:
        raise InputError(str(path), "an empty file (no header)", "a CSV table")
    names = [c.strip() for c in rows.pop(next(iter(rows)))]
    ragged = [
        f"row {line}, found {len(cells)} cells, expected {len(names)}, as the header has; "
        'a cell that holds the separator needs quotes ("a, b")'
        for line, cells in rows.items()
        if len(cells) != len(names)
    ]
    if ragged:
        raise InputErrors(str(path), ragged)
    return pd.DataFrame(list(rows.values()), columns=names, index=[line - 2 for line in rows], dtype=str)


def _check_header(cells: list[str], path: Path) -> None:
    """Refuse what is no header before the rest is read."""
    if len(cells) > MOST_COLUMNS or not any(c.strip() for c in cells):
        found = f"{len(cells):,} columns" if len(cells) > MOST_COLUMNS else "a first line of blanks"
        raise InputError(str(path), found, f"a header of 1 to {MOST_COLUMNS:,} names")


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)) or str(value) in ("<NA>", "NaT"):
        return ""
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    return (
        str(int(value))
        if isinstance(value, float | np.floating) and float(value).is_integer()
        else str(value)
    )

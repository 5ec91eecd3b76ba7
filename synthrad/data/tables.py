"""Tables of images as people keep them: CSV with any separator, or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from synthrad.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def read_table(path: Path) -> pd.DataFrame:
    """A table of strings, "" where a value is missing.

    Raises:
        InputError: no such file, or not a table.
    """
    import pandas as pd

    if not path.is_file():
        raise InputError(str(path), "no such file", "a CSV or Parquet table")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(path).map(_text)
        else:
            with open(path, encoding="utf-8-sig") as f:
                header = f.readline()
            separator = max(",;\t", key=header.count)
            table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError, pd.errors.ParserError) as e:
        raise InputError(
            str(path), f"a file that cannot be read ({e})", "a CSV or Parquet table", "save it as UTF-8 CSV"
        ) from e
    if not len(table):
        raise InputError(str(path), "no rows", "one row an image")
    return table


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

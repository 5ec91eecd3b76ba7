"""Tables of the report as files: CSV with all digits, LaTeX as a paper prints them."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

DIGITS = 3
LONG = 40  # letters of a cell from which its column is wrapped
SYMBOLS = {"−": "$-$", "±": "$\\pm$", "≥": "$\\ge$", "≤": "$\\le$", "→": "$\\rightarrow$"}  # pdflatex has none of them as text


@dataclass(frozen=True)
class Table:
    """Rows under column names; numbers as numbers, None where there is none.

    Args:
        name: of its files, without suffix. title: one line for a reader.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]

    def csv(self) -> str:
        """Comma separated, one line a row, numbers as Python prints them (they read back exactly)."""
        return pd.DataFrame([[_plain(v) for v in row] for row in self.rows], columns=list(self.columns), dtype=object).to_csv(
            index=False, lineterminator="\n")

    def latex(self) -> str:
        """A `tabular` with the rules of the package booktabs; fractions to 3 digits, all text escaped."""
        frame = pd.DataFrame([[printed(v) for v in row] for row in self.rows], columns=list(self.columns), dtype=object)
        numeric = [all(isinstance(row[i], int | float) or row[i] is None for row in self.rows) for i in range(len(self.columns))]
        long = [any(len(row[i]) > LONG for row in frame.itertuples(index=False)) for i in range(len(self.columns))]
        layout = "".join("r" if n else r"p{5cm}" if wide else "l" for n, wide in zip(numeric, long, strict=True))
        text = frame.to_latex(index=False, escape=True, column_format=layout)
        for symbol, command in SYMBOLS.items():
            text = text.replace(symbol, command)
        return f"% {self.title}; needs \\usepackage{{booktabs}}\n{text}".replace("\n% ", "\n%% ")


def as_link(data: bytes, mime: str) -> str:
    """Bytes as a `data:` address."""
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, float) and not math.isfinite(value):
        return ""
    return repr(float(value)) if isinstance(value, float) else value


def printed(value: Any) -> str:
    """A cell for a reader: fractions to 3 digits, a dash for nothing."""
    if value is None or isinstance(value, float) and not math.isfinite(value):
        return "–"
    if isinstance(value, float):
        rounded = f"{value:.{DIGITS}f}"
        return rounded.removeprefix("-") if float(rounded) == 0 else rounded
    return " ".join(str(value).split())

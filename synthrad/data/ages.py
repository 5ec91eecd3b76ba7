"""Ages and age bands of patients, as tables of radiographs write them."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from synthrad.data.writing import Draft

OLDEST = 120  # years; beyond it a table is in error
_UNITS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def add_age_bands(parser: argparse.ArgumentParser, source: str = "") -> None:
    """The option that makes the attribute age_band; source: what the help says of where ages come from."""
    parser.add_argument(
        "--age-bands",
        nargs="+",
        type=float,
        metavar="EDGE",
        help=f"add the attribute age_band{source}: 40 60 gives <40, 40-59, 60+",
    )


def parse_age(text: str) -> float | None:
    """Years of an age: a number, or one with a unit as DICOM writes it (058Y, 011M, 003W, 001D).

    Returns:
        None where the text is blank.

    Raises:
        ValueError: no age, or one that nobody reaches (over 120 years).
    """
    if not text:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([YMWD]?)", text)
    if not match or (years := float(match[1]) * _UNITS[match[2]]) > OLDEST:
        raise ValueError(text)
    return years


def age_band(age: float, edges: list[float]) -> str:
    """The band of an age: edges 40, 60 give <40, 40-59 and 60+."""
    edges = sorted(edges)
    k = int(np.searchsorted(edges, age, side="right"))
    if k == 0:
        return f"<{edges[0]:g}"
    return f"{edges[-1]:g}+" if k == len(edges) else f"{edges[k - 1]:g}-{edges[k] - 1:g}"


def note_ages(draft: Draft, texts: Sequence[str], bands: Sequence[float] | None) -> int:
    """Fill the attributes age (whole years) and, with `bands`, age_band; returns how many ages were errors and are unknown.

    Args:
        draft: its info declares the attributes. texts: of each row, as `parse_age` reads them. bands: edges.
    """
    errors = 0
    for row, text in enumerate(texts):
        try:
            years = parse_age(text.strip())
        except ValueError:
            errors, years = errors + 1, None
        if years is None:
            continue
        draft.columns["attribute:age"][row] = str(math.floor(years))
        if bands:
            draft.columns["attribute:age_band"][row] = age_band(years, list(bands))
    return errors

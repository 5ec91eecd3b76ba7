"""Measurement: one number with its interval and what it was measured on; one JSON line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from synthrad.files import write_durably


@dataclass(frozen=True)
class Measurement:
    """value and its interval [low, high] (None: not given), over n units. None value: undefined, `note` says why."""

    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    unit: Literal["subject", "set"] = "subject"
    study: str = ""
    task: str = ""
    net: str = ""
    arm: str = ""
    seed: int | None = None
    class_name: str = ""
    subject: str = ""
    subgroup: str = ""
    note: str = ""


def without_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose NaN and infinities are None: JSON has neither."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def write_measurements(path: Path | str, rows: Iterable[Measurement]) -> None:
    """Write JSON lines durably."""
    write_durably(path, "".join(json.dumps(asdict(r)) + "\n" for r in rows).encode())


def read_measurements(path: Path | str) -> list[Measurement]:
    """Read JSON lines."""
    return [Measurement(**json.loads(line)) for line in Path(path).read_text().splitlines() if line]

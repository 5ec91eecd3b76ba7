"""Progress of long work: a bar on a terminal, in a log a plain line now and then."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any

from tqdm import tqdm

LOG_SECONDS = 20.0  # between two lines of a log; shorter work says nothing there
LINE = "{desc}: {n_fmt} of {total_fmt}{unit}, {rate_fmt}, {remaining} left{postfix}"
_SAID = re.compile(r"^(?P<what>.*?): (?P<done>\d+) of (?P<total>\d+|\?) (?P<unit>\w+), (?P<rate>[^,]+), (?P<left>[\d:?]+) left")


class _Lines:
    """A stream that makes a line of all that a bar draws over its last state."""

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def write(self, text: str) -> None:
        """One line; nothing of what only moves the cursor."""
        if text := text.strip():
            self._stream.write(f"{text}\n")

    def flush(self) -> None:
        """See IO."""
        self._stream.flush()


def progress(iterable: Iterable | None = None, *, unit: str, every_seconds: float | None = None, show: bool = True, **options: Any) -> tqdm:
    """A tqdm bar on stderr that suits where it is written to.

    Args:
        iterable, options: as tqdm takes them. unit: singular, such as image.
        every_seconds: least time between two drawings; None: 0.1 on a terminal, LOG_SECONDS in a log.
        show: False = nothing is drawn.
    """
    if sys.stderr.isatty():
        return tqdm(iterable, unit=unit, mininterval=0.1 if every_seconds is None else every_seconds, disable=not show, **options)
    seconds = LOG_SECONDS if every_seconds is None else every_seconds
    plural = f" {unit}es" if unit.endswith("ch") else f" {unit}s"
    return tqdm(iterable, unit=plural, mininterval=seconds, delay=seconds, bar_format=LINE, disable=not show, file=_Lines(sys.stderr), **options)


@dataclass(frozen=True)
class Said:
    """What a line of a log says: of `what`, `done` of `total` (None: not known) units; speed and time left as words."""

    what: str
    done: int
    total: int | None
    unit: str
    rate: str
    left: str


def said(line: str) -> Said | None:
    """What a line that `progress` wrote says; None of another line."""
    found = _SAID.match(line)
    if not found:
        return None
    total = None if found["total"] == "?" else int(found["total"])
    return Said(found["what"], int(found["done"]), total, found["unit"], found["rate"].strip(), found["left"])

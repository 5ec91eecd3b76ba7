"""Rows that are filled in by all cores, with what a killed run did taken over: columns, faults and a journal."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthrad.data.images import files_digest
from synthrad.data.journal import Journal, noting_files, states, unchanged
from synthrad.data.processes import shared_out
from synthrad.errors import Fault, InputError, InputErrors


class RowPasses:
    """Columns of a manifest while passes over all rows fill them in.

    Args:
        columns: of the manifest, blank. where: what faults are faults of: the CSV or JSON file.
        lines: line of each row in that file. workers: processes.
    """

    folder: Path  # the draft, and its journal: there once the draft is entered
    _journal: Journal

    def __init__(self, columns: dict[str, Any], where: str, lines: Sequence[int], workers: int):
        self.columns, self.where, self.lines, self._workers = columns, where, lines, workers
        self._faults: list[tuple[int, str]] = []
        self._top = np.zeros(len(lines), dtype=np.int64)
        self._deep = np.zeros(len(lines), dtype=bool)
        self._wrote: dict[str, list[str | None]] = {}  # digest column -> files of the draft that the row in work has left
        self._seen: int | None = None  # check value of the thumbnail that the row in work has left
        self._thumbnail_checks: dict[int, int] = {}
        self._passes = 0
        self._whole = False  # all rows are read, without a fault

    def fault(self, row: int, text: str) -> None:
        """Note a fault of a row (0 is the first; printed as the line of the file) or, with -1, of the whole."""
        self._whole = False
        self._faults.append((row, f"{self._place(row)}{text}" if row >= 0 else text))

    def _place(self, row: int) -> str:
        return f"row {self.lines[row]}, "

    def raise_faults(self) -> None:
        """Raise all faults so far, in order of rows."""
        if self._faults:
            raise InputErrors(self.where, [text for _, text in sorted(self._faults, key=lambda f: f[0])])

    def each(
        self, work: Callable[[int], Any], title: str = "reading images", line: bool = True, together: Sequence[Any] | None = None
    ) -> list[Any]:
        """Call work(row) for all rows, on all cores, with a progress bar; its InputErrors become faults of their rows.

        Args:
            work: of one row. It runs in another process: it may fill in its row of `columns`, note faults and write files into
                the draft. Whatever else it changes is lost; what it returns (plain JSON values) comes back.
            title: of the bar.
            line: faults start with the row's line in the file (not for formats without lines).
            together: a value a row; neighbours of one value (slices of one volume) are done by one process, one after the other.

        Returns:
            What work returned, by row.
        """
        from synthrad.progress import progress

        self._passes += 1
        total = len(self._top)
        results: list[Any] = [None] * total
        groups = [list(g) for _, g in groupby(range(total), key=together.__getitem__ if together is not None else None)]
        attempt = lambda k: self._attempt(groups[k], work, line)  # noqa: E731
        with progress(desc=title, total=total, unit="image") as bar:
            for group in shared_out(attempt, range(len(groups)), self._workers):
                for found in group:
                    self._take(found)
                    results[found["row"]] = found["result"]
                    if not found["faults"]:  # what is repaired is read again
                        self._journal.add(found)
                bar.update(len(group))
        self._whole = not self._faults
        return results

    def _attempt(self, rows: Sequence[int], work: Callable[[int], Any], line: bool) -> list[dict[str, Any]]:
        """What work(row) changed, as plain values; as a killed run left it where that still holds."""
        found = []
        with noting_files() as names:  # of all rows up to each: the first of a volume opens it for the others, too
            for row in rows:
                before = self._values(row)
                given = zlib.crc32(repr(before).encode())
                kept = self._journal.kept.get(f"{self._passes}/{row}")
                if kept is None or kept["given"] != given or not self._stands(kept):
                    kept = self._worked(row, work, line, before) | {"given": given, "read": states(names, but=self.folder)}
                found.append(kept)
        return found

    def _worked(self, row: int, work: Callable[[int], Any], line: bool, before: dict[str, Any]) -> dict[str, Any]:
        earlier, self._faults, self._wrote, self._seen, result = self._faults, [], {}, None, None
        try:
            result = work(row)
        except InputErrors as e:
            self._faults += [(row, Fault.of(self._place(row) * line, f, numbered=True)) for f in e.faults]
        except InputError as e:
            self._faults.append((row, Fault.of(self._place(row) * line, e, numbered=True)))
        faults, self._faults = [(r, str(f), getattr(f, "kind", None)) for r, f in self._faults], earlier
        columns = {c: v for c, v in self._values(row).items() if v != before[c] and not (v != v and before[c] != before[c])}
        return {"id": f"{self._passes}/{row}", "row": row, "columns": columns, "top": int(self._top[row]),
                "deep": bool(self._deep[row]), "faults": faults, "result": result, "wrote": self._wrote, "seen": self._seen}

    def _values(self, row: int) -> dict[str, Any]:
        values = {name: column[row] for name, column in self.columns.items()}
        return {name: None if v is pd.NA else v.item() if isinstance(v, np.generic) else v for name, v in values.items()}

    def _stands(self, kept: dict[str, Any]) -> bool:
        """Whether the files that a row was read from, and those that it left, are as they were."""
        try:
            return unchanged(kept["read"]) and all(
                files_digest([None if f is None else self.folder / f for f in files]) == kept["columns"].get(column, "")
                for column, files in kept["wrote"].items()
            )
        except OSError:
            return False

    def _take(self, found: dict[str, Any]) -> None:
        row = found["row"]
        for name, value in found["columns"].items():
            self.columns[name][row] = pd.NA if value is None else value
        self._top[row], self._deep[row] = found["top"], found["deep"]
        if found["seen"] is not None:
            self._thumbnail_checks[row] = found["seen"]
        for of, text, kind in found["faults"]:
            fault: str = text
            if kind is not None:
                fault = Fault(text)
                fault.kind = kind
            self._faults.append((of, fault))

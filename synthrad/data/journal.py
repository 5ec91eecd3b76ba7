"""Rows of a set that are done: a killed `prepare` reads them back, unless a file that they were read from has changed."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synthrad.errors import naming

NAME = "journal.jsonl"
TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt", ".xlsx", ".xml", ".yaml", ".yml")
CODE = Path(__file__).parent  # what reads and writes rows
_opened: set[str] | None = None  # files that the row in work has opened; None: nobody asks
_watched = False


class Journal:
    """The file of a draft that keeps what was found in each row: one JSON line a row, the last of a row counts.

    Args:
        folder: the draft.
    """

    def __init__(self, folder: Path):
        self.path = folder / NAME
        self.kept: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            for line in self.path.read_bytes().split(b"\n")[:-1]:  # what follows the last line end was cut off
                try:
                    found = json.loads(line)
                    self.kept[found["id"]] = found
                except (ValueError, KeyError, TypeError):
                    continue
        self._file = open(self.path, "ab")
        self.path.chmod(0o600)  # it holds names of source files, in which a patient may be named
        if self._file.tell():
            self._file.write(b"\n")  # ends a line that a kill cut off

    def add(self, found: dict[str, Any]) -> None:
        """Append a row; what was added is with the system at once, so that a kill does not lose it."""
        if self.kept.get(found["id"]) != found:
            with naming(self.path):
                self._file.write(json.dumps(found).encode() + b"\n")
                self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextmanager
def noting_files() -> Iterator[set[str]]:
    """The set of paths that Python opens meanwhile: no reader has to say what it reads, and none can forget to."""
    global _opened, _watched
    if not _watched:
        sys.addaudithook(_note)
        _watched = True
    _opened = names = set()
    try:
        yield names
    finally:
        _opened = None


def _note(event: str, details: tuple) -> None:
    if event == "open" and _opened is not None and isinstance(details[0], str | bytes | os.PathLike):
        _opened.add(os.fsdecode(details[0]))


def states(names: set[str], but: Path) -> list[list[Any]]:
    """[path, bytes, nanoseconds of the last change] of files, without those of the folder `but` and of Python itself."""
    paths = sorted({os.path.abspath(n) for n in names if not n.endswith((".py", ".pyc"))})
    return [[p, *_state(p)] for p in paths if not p.startswith(f"{but}{os.sep}")]


def unchanged(stated: Sequence[Sequence[Any]]) -> bool:
    """Whether all files are as they were when `states` saw them."""
    return all([*_state(path)] == [*then] for path, *then in stated)


def _state(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def digest_of_inputs(options: dict[str, Any], facts: Any) -> str:
    """16 hex digits of all that holds for every row: options, the tables that they name, further facts, and synthrad's own code.

    Of an option that names a file its content counts, of one that names a folder the size and time of each table in it.
    """
    whole = hashlib.sha256(json.dumps([options, facts], sort_keys=True, default=str).encode())
    for value in sorted({str(v) for v in options.values() if isinstance(v, str | Path) and str(v)}):
        path = Path(value)
        if path.is_file():
            whole.update(path.read_bytes())
        elif path.is_dir():
            tables = {os.path.join(at, n) for at, _, names in os.walk(path) for n in names if n.lower().endswith(TABLES)}
            whole.update(json.dumps(states(tables, but=path / "*")).encode())
    for path in sorted(CODE.rglob("*.py")):
        whole.update(path.read_bytes())
    return whole.hexdigest()[:16]

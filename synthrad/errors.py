"""The one error that a user is meant to read: what was found, what was expected, the repair."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

NEARLY = 0.1  # how much less alike another name may be to be named too


class InputError(ValueError):
    """Bad input: a file, a config key or a flag. The command line prints it without a traceback and exits 2."""

    def __init__(self, where: str, found: str, expected: str, repair: str = ""):
        self.where, self.found, self.expected, self.repair = where, found, expected, repair
        lines = [f"{where}: found {found}; expected {expected}."]
        if repair:
            lines.append(f"  Repair: {repair}")
        super().__init__("\n".join(lines))


class Fault(str):
    """One of several faults; `kind` is what it shares with others, such as its text without the file's name."""

    kind: str

    @classmethod
    def of(cls, before: str, fault: str | InputError, numbered: bool = False) -> Fault:
        """`before` and the fault; where `numbered`, `before` only says which row and is no part of the kind."""
        made = cls(f"{before}{fault}")
        kind = getattr(fault, "kind", str(fault))
        if isinstance(fault, InputError) and not isinstance(fault, InputErrors):
            kind = "; ".join((fault.found, fault.expected, fault.repair)).replace(fault.where, "")
        made.kind = kind if numbered else f"{before}{kind}"
        return made


class InputErrors(InputError):
    """Several faults of one file, collected and shown at once; those of one kind in many rows as one."""

    def __init__(self, where: str, faults: list[str], most: int = 30):
        self.faults = faults
        kinds: dict[str, list[str]] = {}
        for fault in faults:
            row = _ROW.match(fault)
            kinds.setdefault(getattr(fault, "kind", fault[row.end() :] if row else fault), []).append(fault)
        lines = [f[0] if len(f) == 1 else f"{len(f)} {_counted(f[0])}" for f in kinds.values()]
        shown = lines[:most] + ([f"... and {len(lines) - most} more"] if len(lines) > most else [])
        ValueError.__init__(self, f"{where}: {len(faults)} fault(s)\n  " + "\n  ".join(shown))


def _counted(fault: str) -> str:
    row = _ROW.match(fault)
    return f"rows, first row {row[1]}: {fault[row.end() :]}" if row else f"times: {fault}"


_ROW = re.compile(r"row (\d+), ")


def near(word: str, known: Iterable[str]) -> str:
    """`did you mean ...?` with the name that is close to a word, whatever their case, and those nearly as close; "" where none is."""
    lower, alike = {k.lower(): k for k in known}, difflib.SequenceMatcher(b=word.lower())
    close = difflib.get_close_matches(word.lower(), list(lower), n=3, cutoff=0.5)
    ratios = [alike.set_seq1(c) or alike.ratio() for c in close]
    close = [c for c, r in zip(close, ratios, strict=True) if r > ratios[0] - NEARLY]
    return f"did you mean {' or '.join(lower[c] for c in close)}?" if close else ""


class RunError(RuntimeError):
    """A run that could not be finished (disk full, NaN, a killed worker): printed without a traceback, exit code 1."""


class Stopped(RunError):
    """A signal stopped a run, which has saved what it could."""


def told(error: OSError) -> str:
    """What the system says, with the repair where the disk is full."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error}.\n  Repair: make room on that disk, then type the same command; what is whole is kept."
    return str(error)


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Add `path` to an OSError that names no file: a full disk, met while bytes are written, names none."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as e:
        if e.filename is not None or e.errno is None:
            raise
        raise OSError(e.errno, e.strerror, str(path)) from e

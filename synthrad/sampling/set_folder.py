"""The folder of a set that is being drawn: whose it is, whether it is whole, and what a kill left."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from synthrad.blocks import FOLDER as BLOCKS
from synthrad.blocks import LOCK
from synthrad.errors import InputError, RunError
from synthrad.files import read_facts, write_durably

MARK = "sampling.json"  # settings of the set, written first
BEGIN_SECONDS = 600.0  # for the first of several processes: nodes start apart


def is_untouched(out: Path, settings: dict[str, Any]) -> bool:
    """Whether `out` holds this very set, whole and without the marks of blocks: there is nothing to write."""
    return (out / "dataset.yaml").is_file() and not (out / BLOCKS).exists() and read_facts(out / MARK) == settings


def begun(out: Path, settings: dict[str, Any]) -> bool:
    """On a process other than the first: wait until that has begun this very set; False where it is whole already.

    Raises:
        InputError: `out` holds another set. RunError: it did not begin, because it was refused or never started.
    """
    until = time.monotonic() + BEGIN_SECONDS
    while time.monotonic() < until:
        if (out / MARK).is_file():
            _check_same(out, settings)
            if (out / "dataset.yaml").is_file() or (out / BLOCKS / LOCK).is_file():
                return not (out / "dataset.yaml").is_file()
        time.sleep(0.1)
    raise RunError(f"sample: the first process has not begun {out} in {BEGIN_SECONDS:.0f} s; its message says why. The same command resumes. "
                   "If this process was to draw a set of its own, and srun or torchrun say otherwise, add --alone.")


def _check_same(out: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder that was begun for another set."""
    if (found := json.loads((out / MARK).read_text())) != settings:
        differing = [k for k in {**settings, **found} if found.get(k) != settings.get(k)]
        raise InputError(str(out), f"a set with other {', '.join(differing)}", "an empty folder or the same set",
                         "choose another --out, or remove this folder")


def is_finished(out: Path, settings: dict[str, Any]) -> bool:
    """Whether `out` holds this very set, whole; marks the folder as this set's otherwise."""
    mark = out / MARK
    if mark.is_file():
        _check_same(out, settings)
        _drop_drafts(out)
        if whole := (out / "dataset.yaml").is_file():  # written last; only the marks may be left of a kill after it
            drop_marks(out)
        return whole
    _drop_drafts(out)
    if out.is_dir() and any(out.iterdir()):
        raise InputError(str(out), "a folder with other files", "an empty or new folder", "choose another --out")
    write_durably(mark, json.dumps(settings, indent=1).encode())
    return False


def _drop_drafts(out: Path) -> None:
    """Remove what a kill left of half a write_durably: a resumed set has the files of an uninterrupted one."""
    for name in (MARK, "manifest.csv", "dataset.yaml"):
        for draft in out.glob(f".{name}.*"):
            draft.unlink()


def drop_marks(out: Path) -> None:
    """Remove the marks of finished blocks, once the set is whole."""
    if (out / BLOCKS).is_dir():
        for mark in (out / BLOCKS).iterdir():
            mark.unlink()
        (out / BLOCKS).rmdir()

"""The hidden folder that a set is made in, inside the folder that it is made for, and how it becomes the set."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from synthrad.dataset_info import HERE, DatasetInfo
from synthrad.errors import InputError
from synthrad.locking import locked
from synthrad.records import Manifest
from synthrad.swap import LOCK, check_movable, finish_swap, flush, put_in_place


@contextmanager
def draft_folder(out: Path, command: str = "", whole: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """A hidden folder inside `out` for what is being made; an older manifest in `out` stays until `settle`.

    Leaving it removes it, but for a failure other than bad input of a `command`: that command goes on with what is there. Folders
    that other commands left are removed.

    Args:
        out: the folder to make. command: digest of all that the content depends on; "" = nothing is kept.
        whole: says, after bad input, whether what is there is good.

    Raises:
        InputError: `out` is a file, or holds files that no `prepare` made.
        RunError: another process makes it, or the older set cannot be moved.
    """
    if out.exists() and not out.is_dir():
        raise InputError(str(out), "a file", "a folder", "name another folder")
    ours = (out / "dataset.yaml").exists() or (out / LOCK).exists()
    if out.is_dir() and any(out.iterdir()) and not ours:
        raise InputError(
            str(out),
            "a folder with other files in it",
            "a new or empty folder",
            "name another folder, or empty this one yourself",
        )
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / LOCK, "prepare"):
        finish_swap(out)
        check_movable(out)  # before hours of reading
        folder = out / f".draft-{command or 'new'}"
        for left in out.glob(".draft-*"):
            if left != folder or not command:
                shutil.rmtree(left)
        folder.mkdir(exist_ok=True)
        kept = False
        try:
            yield folder
        except BaseException as e:
            kept = bool(command) and (not isinstance(e, InputError) or whole())
            if kept and isinstance(e, InputError):
                print(f"  what was read is kept in {folder} for the same command with other options of splits, copies, spellings or intensity", file=sys.stderr)
            raise
        finally:
            if not kept:
                shutil.rmtree(folder, ignore_errors=True)


def settle(draft: Path, out: Path, columns: dict[str, Any], info: DatasetInfo) -> Manifest:
    """Write the manifest beside the files of a draft, read it back, then put all in place of an older set (see synthrad.swap).

    Raises:
        InputErrors: rows that no manifest may have; the older set stays as it is.
    """
    Manifest(pd.DataFrame(columns), replace(info, roots={**info.roots, HERE: str(draft)})).write(draft)
    made = Manifest.read(draft)
    parts = [draft / "masks", draft / "images"]
    with ThreadPoolExecutor(8) as pool:  # most are on the disk by now; those that are not wait for each other
        list(pool.map(flush, [p for part in parts if part.exists() for p in (part, *part.rglob("*"))]))
    put_in_place(draft, out)
    return Manifest(made.table, replace(made.info, roots={**made.info.roots, HERE: str(out.resolve())}))

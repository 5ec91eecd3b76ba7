"""A new set takes the place of an older one in the same folder; a kill at any moment leaves one of the two, or is made up for.

A rename cannot replace five files and folders at once, so the swap is a row of renames whose state is the name of one folder. `ready`, where
the new set lies whole, becomes LEAVING: from that rename on the new set counts. What is there of the older one is moved into it,
dataset.yaml first. LEAVING becomes ENTERING, and the new set is moved out of it, dataset.yaml last. Each step can be done again, so whoever
finds such a folder goes on where a kill ended it (`finish_swap`): `prepare`, and any command that reads the manifest and finds no dataset.yaml.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path

from synthrad.errors import RunError, naming
from synthrad.locking import locked

LOCK = ".synthrad-prepare"  # of the folder; it also says that the folder is ours to replace
WAIT = 10.0  # seconds that a reader waits for the process that swaps: a swap is a few renames and a deletion
LEAVING, ENTERING = ".synthrad-older-leaves", ".synthrad-newer-enters"
PARTS = ("masks", "images", "near_copies.json", "manifest.csv", "dataset.yaml")  # all that a set consists of, in the order in which it enters


def put_in_place(ready: Path, out: Path) -> None:
    """Make what lies in `ready` the set of `out`, in place of an older one; `ready` is gone then.

    Args:
        ready: a folder under `out` with some of PARTS, flushed to the disk. out: the folder, whose lock is held.

    Raises:
        RunError: a folder of the older set cannot be moved; the older set is whole.
    """
    check_movable(out)
    os.replace(ready, out / LEAVING)
    flush(out)
    _finish(out)


def check_movable(out: Path) -> None:
    """Refuse to replace a set whose folders may not be changed: a rename of them would fail half way.

    Raises:
        RunError: there is such a folder.
    """
    for folder in (out / name for name in PARTS):
        if folder.is_dir() and not folder.is_symlink() and not os.access(folder, os.W_OK):
            raise RunError(f"{folder}: found a folder that may not be changed, expected one that can make place for the new set; run `chmod u+w {folder}`, or name another OUT")


def finish_swap(out: Path) -> bool:
    """Finish a swap that was killed, where there is one, and say so; the folder's lock is held.

    Drafts that lie there go too: that of a pseudonymised set holds the names of the files that it was made from.

    Returns:
        whether there was one.
    """
    if not _begun(out):
        return False
    _finish(out)
    for left in out.glob(".draft-*"):
        shutil.rmtree(left, ignore_errors=True)
    warnings.warn(f"{out}: a `prepare` was killed while its finished set took the place of what was there; the set is in its place now")
    return True


def finish_others_swap(out: Path) -> bool:
    """finish_swap for a command that only reads; whether it did: not where the folder may not be changed, or its file system has no locks.

    Raises:
        RunError: another process has been at it for WAIT seconds.
    """
    if not _begun(out) or not os.access(out, os.W_OK):
        return False
    with locked(out / LOCK, "prepare", wait=WAIT) as lock:
        return lock.held and finish_swap(out)


def flush(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(handle)
    finally:
        os.close(handle)


def _begun(out: Path) -> bool:
    """A link of that name was not made here, and is not followed."""
    return any((out / name).is_dir() and not (out / name).is_symlink() for name in (LEAVING, ENTERING))


def _finish(out: Path) -> None:
    leaving, entering = out / LEAVING, out / ENTERING
    if leaving.is_dir():
        older = Path(tempfile.mkdtemp(prefix="older-", dir=leaving))
        for name in reversed(PARTS):
            if os.path.lexists(out / name):
                os.replace(out / name, older / name)
        flush(out)
        os.replace(leaving, entering)
        flush(out)
    for name in PARTS:
        if os.path.lexists(entering / name):
            if name == "dataset.yaml":
                flush(out)
            os.replace(entering / name, out / name)
    flush(out)
    _remove(entering)


def _remove(older: Path) -> None:
    """Delete what is no part of the set any more; what cannot be deleted now is a draft that the next `prepare` deletes."""
    try:
        shutil.rmtree(older)
    except OSError as e:
        left = Path(tempfile.mkdtemp(prefix=".draft-older-", dir=older.parent))
        os.replace(older, left)
        warnings.warn(f"{left}: the set that was there before cannot be deleted ({e.strerror}); the new one is whole, delete this folder yourself")

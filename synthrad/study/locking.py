"""One writer a folder: a lock that ends with its process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synthrad.errors import RunError


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold an flock on `path`: it ends with the process, so a killed run leaves no stale lock, but its orphan holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            f.seek(0)
            raise RunError(f"{what}: another process ({f.read().strip() or 'unknown'}) is writing {path.parent}; wait for it "
                           "or end it, then type the same command") from e
        f.truncate(0)
        f.write(f"pid {os.getpid()}")
        f.flush()
        yield

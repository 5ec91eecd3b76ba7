"""One writer a folder: a lock that ends with its process."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from synthrad.errors import RunError

WITHOUT = (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS)  # some network file systems, as they are mounted, have no locks


class Lock:
    """A held lock: a child that `start` starts holds it too, so that it outlives a killed parent. held: False where the file system has no locks."""

    def __init__(self, file: IO[str], held: bool = True):
        self._file, self.held = file, held
        self._tell(f"pid {os.getpid()}")

    def start(self, call: Sequence[str], **options: Any) -> subprocess.Popen:
        """Popen whose child keeps the lock until it ends, and is named to whoever asks for the lock then."""
        child = subprocess.Popen(call, pass_fds=(self._file.fileno(),), **options)
        whole = "-- -" if options.get("start_new_session") else ""  # its own children as well
        self._tell(f"pid {os.getpid()} or its child {child.pid}: `kill {whole}{child.pid}` ends it")
        return child

    def _tell(self, text: str) -> None:
        self._file.seek(0)
        self._file.truncate(0)
        self._file.write(text)
        self._file.flush()


@contextmanager
def locked(path: Path, what: str, folder: Path | None = None, wait: float = 0.0) -> Iterator[Lock]:
    """Hold an flock on `path`: it ends with the process, so a killed run leaves no stale lock, but its orphan holds it.

    Args:
        folder: what the lock keeps others from writing; None: the one that holds `path`.
        wait: seconds to wait for another process.

    Raises:
        RunError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as f:
        held = True
        try:
            _flock(f, wait)
        except OSError as e:
            if e.errno in WITHOUT:
                held = False
                warnings.warn(f"{path.parent}: this file system has no locks; see to it that nobody else writes there", stacklevel=3)
            else:
                f.seek(0)
                raise RunError(f"{what}: another process ({f.read().strip() or 'unknown'}) is writing {folder or path.parent}; wait for it "
                               "or end it, then type the same command") from e
        yield Lock(f, held)


def _flock(file: IO[str], wait: float) -> None:
    """Take the lock; OSError where it cannot be had within `wait` seconds."""
    end = time.monotonic() + wait
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            if e.errno in WITHOUT or time.monotonic() >= end:
                raise
        time.sleep(0.1)


@contextmanager
def part_locked(path: Path, number: int, free: bool) -> Iterator[bool]:
    """Hold one of many parts of what a file stands for, if no other process does; it ends with the process. Yields whether it is held.

    Args:
        path: an empty file; where it has gone, nothing is held. A process holds one part of it at a time.
        number: of the part, from 0.
        free: what is taken to hold where the file system has no locks.
    """
    try:
        file = open(path, "r+")
    except FileNotFoundError:
        yield False
        return
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            held = True
        except OSError as e:
            held = free and e.errno in WITHOUT
        yield held

"""The blocks of a synthetic set, drawn by one process or by several that share its folder and nothing else.

A block is the same whoever draws it. Each process first draws the blocks that fall to it, then what nobody else has drawn or is drawing, so
that a process that was killed, or never came, is missed by nobody. A block is drawn under a lock of its own, which ends with its process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthrad.errors import InputError, RunError
from synthrad.files import file_digest, write_durably
from synthrad.locking import part_locked

FOLDER = ".blocks"  # in the folder of a set: one JSON a finished block, with the digests of its files, and the locks
LOCK = "lock"
WAIT_SECONDS = 0.2  # between two looks at the blocks of other processes
SAID_SECONDS, MOST_SECONDS = 60.0, 3600.0  # without a new block, until that is told and until it is an error
LAUNCHED = (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"))
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Share:
    """Which process of a call this is.

    Args:
        rank: from 0. world: processes of the call. local: number of the process on its machine, which chooses its GPU.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Share:
        """As torchrun or srun say, see LAUNCHED; one process without them.

        A batch script has SLURM_NTASKS too and is one process: what counts is the step that srun starts.

        Raises:
            InputError: numbers that do not fit together.
        """
        names = next((n for n in LAUNCHED if n[0] in environ and n[1] in environ), None)
        if names is None:
            return cls()
        found = [environ.get(name, "0") for name in names]
        if not all(x.isdigit() for x in found) or not int(found[0]) < int(found[1]):
            raise InputError(f"{names[0]}, {names[1]}", f"{found[0]!r} of {found[1]!r} in the environment", "a number from 0, below that of "
                             "the processes", "start it by torchrun or srun, or unset both")
        return cls(*map(int, found))


class Blocks:
    """The blocks of one set.

    Args:
        out: the set's folder, in which the first process has called `begin`.
        starts: number of the first image of each block.
        draw: writes the files of the block that begins there; returns a row an image: {"files": path -> SHA-256, "areas": ...}.
        share: the process that this is.
    """

    def __init__(self, out: Path, starts: Sequence[int], draw: Callable[[int], Rows], share: Share):
        self._out, self._starts, self._draw, self._share = out, list(starts), draw, share
        self._number = {start: k for k, start in enumerate(self._starts)}
        self._drawn: set[int] = set()  # here, in this call

    def begin(self) -> None:
        """Make the folder of marks and its lock, which nobody else makes: what is gone stays away."""
        (self._out / FOLDER).mkdir(exist_ok=True)
        (self._out / FOLDER / LOCK).touch()

    def all(self, advance: Callable[[int], object]) -> Rows:
        """The rows of all blocks, on the process that ends the set: drawn here, or found, or waited for.

        Args:
            advance: told the number of images of each block that is there.

        Raises:
            RunError: nobody has finished a block for MOST_SECONDS.
        """
        found: dict[int, Rows] = {}
        left, since, said = self._in_turn(), time.monotonic(), False
        while left:
            before = len(found)
            for start in left:
                if (rows := self._take(start)) is not None:
                    found[start] = rows
                    advance(len(rows))
            left = [s for s in left if s not in found]
            if len(found) > before:
                since, said = time.monotonic(), False
            elif left:
                said = self._waited(time.monotonic() - since, len(left), said)
                time.sleep(WAIT_SECONDS)
        return [row for start in self._starts for row in found[start]]

    def _waited(self, seconds: float, left: int, said: bool) -> bool:
        """Say once, after a while, what is waited for; whether that was said."""
        if seconds > MOST_SECONDS:
            raise RunError(f"sample: {left} blocks of {self._out} are other processes', who finished none in {seconds:.0f} s. If they are no more, and this file "
                           "system has no locks to tell: the same command with --alone draws them")
        if seconds > SAID_SECONDS and not said:
            print(f"sample: waiting for {left} blocks that other processes of this call draw", flush=True)
        return said or seconds > SAID_SECONDS

    def help(self) -> int:
        """Draw what falls to this process, and what nobody draws; the number of blocks drawn."""
        for start in self._in_turn():
            own = self._share.rank == self._of(start)
            if own or not self._mark(start).is_file():  # those of others were looked at by them
                self._take(start)
        return len(self._drawn)

    def _of(self, start: int) -> int:
        return self._number[start] % self._share.world

    def _in_turn(self) -> list[int]:
        """Own blocks first, then those of others from the last one on: they begin at the first."""
        own = self._starts[self._share.rank :: self._share.world]
        return [*own, *(s for s in reversed(self._starts) if self._of(s) != self._share.rank)]

    def _mark(self, start: int) -> Path:
        return self._out / FOLDER / f"{start:06d}.json"

    def _take(self, start: int) -> Rows | None:
        """The rows of a block, found or drawn; None where another process draws it, or where the set was ended meanwhile."""
        rows = self._found(start)
        if rows is not None or self._ended():
            return rows
        own = self._share.rank == self._of(start)
        with part_locked(self._out / FOLDER / LOCK, self._number[start], free=own) as held:
            if not held:
                return None
            rows = self._found(start)
            if rows is None and not self._ended():
                rows = self._draw(start)
                self._drawn.add(start)
                write_durably(self._mark(start), json.dumps(rows).encode())
        return rows

    def _ended(self) -> bool:
        """Whether the set is whole: marks go after that, and a block without one need not be drawn."""
        return (self._out / "dataset.yaml").is_file()

    def _found(self, start: int) -> Rows | None:
        """The rows of a block whose files all exist with the bytes that were written, else None."""
        try:
            rows = json.loads(self._mark(start).read_text())
        except FileNotFoundError:
            return None
        for row in rows:
            for path, digest in row["files"].items():
                if not (self._out / path).is_file() or file_digest(self._out / path) != digest:
                    return None
        return rows

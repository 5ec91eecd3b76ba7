"""What each job of a study says goes to a file of its own; a small one beside it says how the job stands."""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from synthrad.files import write_durably
from synthrad.progress import Said, said

FOLDER = "logs"  # in the run folder: <job>.log, and <job>.json for its state
SILENT = 900.0  # a fit says something every 20 seconds, a pool or a report after minutes
TAIL = 8_000  # bytes of a log that are looked at for its last lines


@dataclass(frozen=True)
class JobLog:
    """A job that was begun at least once.

    Args:
        job: such as `fit findings/unet/matched`. pid, host: of its newest process. begun: seconds since 1970, of that process.
        ended: None while it runs, and for one that was killed. code: its exit code. log: the file.
        cpu_seconds: of it and of its children, when it ended.
    """

    job: str
    pid: int
    host: str
    begun: float
    ended: float | None
    code: int | None
    log: Path
    cpu_seconds: float | None = None

    @property
    def state(self) -> str:
        """running, done, failed, or killed (it ended without a word); on another host: silent, where its log is older than SILENT seconds."""
        if self.ended is not None:
            return "done" if self.code == 0 else "failed"
        if self.host == socket.gethostname():
            return "running" if _alive(self.pid) else "killed"
        newest = self.log.stat().st_mtime if self.log.exists() else self.begun
        return "running" if time.time() - newest < SILENT else "silent"

    @property
    def progress(self) -> Said | None:
        """The newest line of progress since it was begun."""
        found = [s for line in self._newest() if (s := said(line))]
        return found[-1] if found else None

    def last_lines(self, number: int = 6) -> list[str]:
        """What it said last, progress left out."""
        return [line for line in self._newest() if line.strip() and not said(line)][-number:]

    def _newest(self) -> list[str]:
        """The last lines of its newest process."""
        lines = _tail(self.log)
        begun = [k for k, line in enumerate(lines) if line.startswith(_begun(self.job))]
        return lines[begun[-1] + 1 :] if begun else lines


def log_of(folder: Path, job: str) -> Path:
    """The file of a job's log."""
    return folder / FOLDER / f"{job.replace(' ', '-').replace('/', '-')}.log"


def logged(folder: Path, argv: Sequence[str], run: Callable[[list[str]], int]) -> int:
    """Run a job; stdout and stderr of it and of its children go to the end of its log. For a process that does nothing else."""
    job = " ".join(argv)
    path = log_of(folder, job)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"job": job, "pid": os.getpid(), "host": socket.gethostname(), "begun": time.time(), "ended": None, "code": None}
    with open(path, "ab", buffering=0) as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
    print(f"{_begun(job)} {time.strftime('%Y-%m-%d %H:%M:%S')}", flush=True)
    _note(path, state)
    code = run(list(argv))
    print(f"job {job}: ended with code {code} after {time.time() - state['begun']:.0f} s", flush=True)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    _note(path, {**state, "ended": time.time(), "code": code, "cpu_seconds": sum(u.ru_utime + u.ru_stime for u in used)})
    return code


def _begun(job: str) -> str:
    return f"job {job}: begun"


def _note(path: Path, state: dict) -> None:
    try:
        write_durably(path.with_suffix(".json"), json.dumps(state).encode())
    except OSError:
        pass  # a full disk: the job itself says so


def logs(folder: Path) -> dict[str, JobLog]:
    """All jobs that were begun, by their names."""
    found = {}
    for path in sorted((folder / FOLDER).glob("*.json")):
        state = json.loads(path.read_text())
        found[state["job"]] = JobLog(**state, log=path.with_suffix(".log"))
    return found


def _tail(path: Path) -> list[str]:
    try:
        with open(path, "rb") as f:
            f.seek(max(0, path.stat().st_size - TAIL))
            return f.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

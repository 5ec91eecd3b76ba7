"""What failed jobs of a study said: Snakemake prints pages after it, so that it is said again at the end."""

from __future__ import annotations

import json
import shutil
import traceback
from pathlib import Path

from synthrad.errors import InputError
from synthrad.files import write_durably
from synthrad.study.logs import logs

FOLDER = "failed"  # in the run folder; one file a job, of the last run alone


def note(folder: Path, job: str, error: Exception, message: str) -> None:
    """Keep the message of a failed job."""
    entry = {"job": job, "input": isinstance(error, InputError), "message": message}
    try:
        write_durably(_file(folder, job, ".json"), json.dumps(entry).encode())
    except OSError:
        pass  # the disk may be what failed; the message is on stderr already


def noted(folder: Path, job: str) -> bool:
    """Whether the last run of a job failed; one that was stopped did not."""
    return _file(folder, job, ".json").is_file()


def keep_traceback(folder: Path, job: str) -> str:
    """Write the traceback of the error at hand to a file; returns where it is, as the end of a message."""
    path = _file(folder, job, ".txt")
    try:
        write_durably(path, traceback.format_exc().encode())
    except OSError:
        return ""
    return f"\n  The traceback: {path}"


def _file(folder: Path, job: str, suffix: str) -> Path:
    return folder / FOLDER / f"{job.replace(' ', '-').replace('/', '-')}{suffix}"


def forget(folder: Path) -> None:
    """Drop what an earlier run left."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def read(folder: Path, since: float = 0.0) -> tuple[list[str], bool]:
    """Messages, of jobs begun since then (seconds since 1970) that ended without a word as well; whether every one is about bad input.

    To be called when no job runs: one of another host counts as killed if it has not said that it ended.
    """
    entries = [json.loads(p.read_text()) for p in sorted((folder / FOLDER).glob("*.json"))]
    killed = [x for x in logs(folder).values() if x.ended is None and x.begun >= since]
    words = [f"job {x.job}: killed from outside, or for want of memory. {last_words(folder, x.job)}" for x in killed]
    return [e["message"] for e in entries] + words, bool(entries) and not killed and all(e["input"] for e in entries)


def last_words(folder: Path, job: str) -> str:
    """The last lines of a job's log, and where the rest is; "" without a log."""
    log = logs(folder).get(job)
    return "" if log is None else "\n    ".join(["Its last lines:", *log.last_lines(), f"(the whole log: {log.log})"])

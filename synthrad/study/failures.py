"""What failed jobs of a study said: Snakemake prints pages after it, so that it is said again at the end."""

from __future__ import annotations

import json
import shutil
import traceback
from pathlib import Path

from synthrad.errors import InputError
from synthrad.records import write_durably

FOLDER = "failed"  # in the run folder; one file a job, of the last run alone


def note(folder: Path, job: str, error: Exception, message: str) -> None:
    """Keep the message of a failed job."""
    entry = {"job": job, "input": isinstance(error, InputError), "message": message}
    try:
        write_durably(_file(folder, job, ".json"), json.dumps(entry).encode())
    except OSError:
        pass  # the disk may be what failed; the message is on stderr already


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


def read(folder: Path) -> tuple[list[str], bool]:
    """Messages, and whether every one of them is about bad input."""
    entries = [json.loads(p.read_text()) for p in sorted((folder / FOLDER).glob("*.json"))]
    return [e["message"] for e in entries], bool(entries) and all(e["input"] for e in entries)

"""Files that outlive a kill, are known by their digest and lie where they say: what every step writes and reads."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from synthrad.errors import InputError


def file_digest(path: Path | str) -> str:
    """SHA-256 of a file, hex."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def check_inside(path: Path | str, *roots: Path | str) -> None:
    """Refuse a file that `..`, a link of its own or one of its folders leads out of all of its roots.

    Raises:
        InputError: where it leads, or that it leads nowhere.
    """
    try:
        folder, name = os.path.split(path)
        if "\0" in name:
            raise ValueError("it holds NUL")
        target = os.path.realpath(path) if name in ("", ".", "..") or os.path.islink(path) else os.path.join(_real(folder), name)
        inside = any(target.startswith(os.path.join(_real(str(root)), "")) for root in roots)
    except (OSError, RuntimeError, ValueError) as e:  # too long, links in a circle, NUL
        raise InputError(str(path).replace("\0", "\\0"), f"a path that cannot be followed ({e})", "a file inside the root") from e
    if not inside:
        found = f"a link to {target}, outside {roots[0]}" if os.path.lexists(path) else f"a path outside {roots[0]}"
        raise InputError(str(path), found, "a file inside the root", "give a root that holds both, or put real files there")


@lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    """A folder without its links; kept, because the files of a set share few folders."""
    return os.path.realpath(folder)


def read_facts(path: Path | str) -> dict[str, Any]:
    """The object that a JSON file holds; {} where there is none, or where it is not whole."""
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_durably(path: Path | str, data: bytes) -> None:
    """Write through a temporary file of the same folder, fsync, os.replace: a kill leaves the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(draft, 0o644)
        os.replace(draft, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException as e:
        Path(draft).unlink(missing_ok=True)
        if isinstance(e, OSError) and e.filename is None:
            e.filename = str(path)  # a full disk: say where
        raise

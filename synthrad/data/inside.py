"""Names of files that a dataset gives, and the root that none of them may leave."""

from __future__ import annotations

import os
import re
from pathlib import Path

from synthrad.errors import InputError

LONGEST = 255  # bytes of a part of a path, on common file systems


def inside(root: Path, name: Path | str, where: str = "") -> Path:
    """The path of a name in a root, the root first.

    Args:
        root: a folder. name: relative to it, with slashes. where: what gave the name, for the message.

    Raises:
        InputError: a name that is blank, absolute, over-long, holds NUL, `..` or a drive, or is a link (or lies in one) that leads out.
    """
    text = str(name)
    key = f"{where or root}, {text[:80]!r}"
    wrong = (
        "a blank name" if not text.strip() else
        "NUL in a name" if "\0" in text else
        "an absolute path" if text.startswith(("/", "\\")) or re.match(r"[A-Za-z]:[/\\]", text) else
        "a path with `..`" if ".." in re.split(r"[/\\]", text) else
        "a name too long for a file" if any(len(os.fsencode(part)) > LONGEST for part in text.split("/")) or len(os.fsencode(text)) > 4000 else ""
    )  # fmt: skip
    if wrong:
        raise InputError(key, wrong, f"the name of a file inside {root}", "name files relative to the folder that holds them all")
    path = Path(root) / text
    try:
        target = path.resolve()
        base = Path(root).resolve()
    except (OSError, RuntimeError) as e:  # links in a circle
        raise InputError(key, f"a path that cannot be followed ({e})", f"a file inside {root}") from e
    if base not in target.parents:
        raise InputError(key, f"a link to {target}", f"a file inside {root}", "give a root that holds both, or put real files there")
    return path

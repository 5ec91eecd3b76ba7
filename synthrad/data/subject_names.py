"""Subjects from the names of files, where a dataset keeps them nowhere else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from synthrad.errors import InputError, InputErrors


def subject_names(names: Sequence[str], pattern: str | None, where: str) -> list[str]:
    """The subject of each file.

    Args:
        names: of files. pattern: a regular expression whose first group, searched for in the name, is the subject; None = each file, its
            name without the ending, is its own. where: for messages.

    Raises:
        InputError: no regular expression with a group. InputErrors: names that it does not fit.
    """
    if pattern is None:
        return [str(PurePosixPath(n).with_suffix("")) for n in names]
    try:
        compiled = re.compile(pattern)
        if not compiled.groups:
            raise re.error("no group")
    except re.error as e:
        raise InputError("--subject-pattern", f"{pattern!r} ({e})", "a regular expression with a group", "e.g. '^(\\d+)_'") from e
    found = [compiled.search(n) for n in names]
    if strange := [n for n, m in zip(names, found, strict=True) if not m or not m[1]]:
        raise InputErrors(where, [f"{n}: a name that --subject-pattern {pattern!r} does not fit" for n in strange])
    return [m[1] for m in found]

"""Pictures of a set in the making that lie in two splits: near copies are left out on one side, equal files are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synthrad.data.leaks import Copies, rows_to_drop
from synthrad.dataset_info import HERE


def leave_out_crossing(columns: Mapping[str, Any], copies: Copies, draft: Path, place: Callable[[int], str], named: bool) -> tuple[np.ndarray, Copies]:
    """Choose the rows for training that are near copies of pictures in other splits, say which, and remove their files from the draft.

    Args:
        columns: of the manifest. copies: of all rows. draft: where files of the set lie.
        place: words for a row. named: its subject may be told.

    Returns:
        [rows] bool, the rows that stay, and the copies among them.
    """
    split, subject = columns["split"], columns["subject"]
    dropped = rows_to_drop(copies, split, columns["digest"])
    who = lambda row: f"subject {subject[row]!r} in " if named else ""  # noqa: E731
    print(f"  --drop-near-copies: {len(dropped)} row(s) left out that nearly show a picture of another split")
    for row, other in dropped.items():
        print(f"    {place(row)}{who(row)}{split[row]}: nearly the picture of {place(other)}{who(other)}{split[other]}")
        kinds = ("mask:", "channel:") if columns["root"][row] == HERE else ("mask:",)
        for name in (columns[c][row] for c in columns if c.startswith(kinds)):
            if name:
                (draft / name).unlink(missing_ok=True)
    keep = np.array([row not in dropped for row in range(len(split))])
    return keep, copies.without(dropped.keys(), len(keep))


def equal_across_splits(digests: Sequence[str], split: Sequence[str], lines: Sequence[int]) -> list[tuple[int, str]]:
    """(row, fault) of each row whose file is that of an earlier row in another split."""
    first: dict[str, int] = {}
    faults = []
    for row, digest in enumerate(digests):
        other = first.setdefault(digest, row)
        if split[other] != split[row]:
            faults.append((row, f"column 'split': the same picture as row {lines[other]} is in {split[row]}, that one in {split[other]}; "
                                "remove one of them or give both one split"))
    return faults

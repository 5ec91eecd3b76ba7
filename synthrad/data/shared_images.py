"""Images that two sets share: equal files by their digest, re-encoded, mirrored, cropped and rescaled copies by their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from synthrad.data.images import read_image
from synthrad.data.near_copies import VIEWS, copies_between, picture_of
from synthrad.data.processes import cores
from synthrad.errors import InputError
from synthrad.progress import progress
from synthrad.records import Manifest


class SharedPair(NamedTuple):
    """A row of one set and one of another that show one picture. likeness: at most 1; same_file: equal bytes."""

    ours: int
    theirs: int
    likeness: float
    same_file: bool


class Shared(NamedTuple):
    """What two sets share.

    Args:
        pairs: the most alike first. threshold: the likeness from which on a pair counts. images: of either set that were compared.
    """

    pairs: tuple[SharedPair, ...]
    threshold: float
    images: tuple[int, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"pairs": [list(p) for p in self.pairs], "threshold": self.threshold, "images": list(self.images)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Shared:
        """The inverse of `to_dict`."""
        pairs = tuple(SharedPair(int(a), int(b), float(v), bool(same)) for a, b, v, same in data["pairs"])
        return cls(pairs, float(data["threshold"]), (int(data["images"][0]), int(data["images"][1])))

    def among(self, ours: Sequence[bool] | np.ndarray, theirs: Sequence[bool] | np.ndarray) -> list[SharedPair]:
        """The pairs of rows that are wanted on both sides."""
        return [p for p in self.pairs if ours[p.ours] and theirs[p.theirs]]


def shared_images(ours: Manifest, theirs: Manifest, workers: int | None = None) -> Shared:
    """Compare every image of one set with every one of another; decodes all of them once, with progress bars.

    Of equal files within a set one is decoded; a pair of it counts for all of them. Images of one set are not compared with each other.

    Args:
        workers: threads that decode; None = the cores that this process may use.

    Raises:
        InputError: the channels differ, or an image cannot be read.
    """
    check_channels(ours, theirs)
    sides = [_groups(m) for m in (ours, theirs)]
    with ThreadPoolExecutor(workers or cores()) as pool:
        pictures = [_pictures(m, [rows[0] for rows in groups], pool) for m, groups in zip((ours, theirs), sides, strict=True)]
    with progress(desc="comparing images", total=len(VIEWS), unit="view") as bar:
        near, threshold = copies_between(*pictures, bar.update)
    alike = {(p.first, p.second): round(p.likeness, 4) for p in near}
    digests = [[str(m.column("digest")[rows[0]]) for rows in groups] for m, groups in zip((ours, theirs), sides, strict=True)]
    number = {d: k for k, d in enumerate(digests[1]) if d}
    same = {(k, number[d]) for k, d in enumerate(digests[0]) if d in number}
    alike |= dict.fromkeys(same, 1.0)
    found = [SharedPair(i, j, v, (a, b) in same) for (a, b), v in alike.items() for i in sides[0][a] for j in sides[1][b]]
    return Shared(tuple(sorted(found, key=lambda p: (-p.likeness, p.ours, p.theirs))), round(threshold, 4), (len(ours), len(theirs)))


def check_channels(ours: Manifest, theirs: Manifest) -> None:
    """Refuse sets whose pictures cannot be compared.

    Raises:
        InputError: the channels differ.
    """
    if ours.info.channels != theirs.info.channels:
        raise InputError(f"channels of {theirs.info.name!r}", ", ".join(theirs.info.channels), f"{', '.join(ours.info.channels)}, as in {ours.info.name!r}: "
                         "pictures are compared channel for channel", "prepare both with the same channels")


def _groups(manifest: Manifest) -> list[list[int]]:
    """Rows of one file each, in order of appearance."""
    groups: dict[str, list[int]] = {}
    for row, digest in enumerate(manifest.column("digest")):
        groups.setdefault(str(digest) or f"row {row}", []).append(row)
    return list(groups.values())


def _pictures(manifest: Manifest, rows: Sequence[int], pool: ThreadPoolExecutor) -> np.ndarray:
    read = pool.map(lambda row: picture_of([read_image(p) for p in manifest[row].channels]), rows)
    shown = progress(read, desc=f"reading images of {manifest.info.name}", total=len(rows), unit="image")
    return np.array([*shown], np.float32)

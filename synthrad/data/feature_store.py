"""What a frozen net gives for images, kept on disk beside the decoded images: computed once, read by every later fit.

A store is that of one net (its identity: weights, settings, versions) at one size of pictures; in it a row is found by the content of its image
(digest, intensity range, how it was augmented), not by table or arm. It is made of the same segments as the store of decoded images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from synthrad.data.cache import SegmentStore
from synthrad.progress import progress

VERSION = 1  # raise by hand when pictures that a net is shown change
AT_ONCE = 32  # pictures


class FeatureStore(SegmentStore):
    """Rows of one shape and depth.

    Args:
        folder: of one net and size of pictures; made when there is something to keep.
        shape, depth: of a row.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], depth: type):
        super().__init__(folder, shape, threads=1)
        self.depth = depth

    def places(self, keys: Sequence[str], encode: Callable[[Sequence[int]], np.ndarray]) -> np.ndarray:
        """Positions [n, 2] of `keys`, for `read`; the numbers of those that are missing go to `encode`, up to 32 at once, which gives their rows."""
        return self.locate(keys, encode, lambda row: self.depth, "features of images")

    def _fill(self, pixels: np.memmap, rows: list[int], decode: Callable, title: str) -> None:
        for first in progress(range(0, len(rows), AT_ONCE), desc=title, unit="batch"):
            pixels[first : first + AT_ONCE] = decode(rows[first : first + AT_ONCE])
        pixels.flush()


def kept_shape(folder: Path) -> tuple[int, ...] | None:
    """The shape of a row of a store; None where nothing is kept yet."""
    for path in sorted(folder.glob("*.npy")):
        try:
            return np.load(path, mmap_mode="r").shape[1:]
        except (OSError, ValueError, EOFError):
            continue  # cut: it is made again
    return None

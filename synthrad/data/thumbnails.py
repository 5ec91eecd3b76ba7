"""Thumbnails of a set in the making, kept when an image is decoded for the first time: the search for near copies decodes none again."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from synthrad.errors import naming

NAME = "thumbnails.f32"


class Thumbnails:
    """A file of a draft with a place for each row; forks write through it, each its own rows.

    Args:
        folder: the draft.
    """

    def __init__(self, folder: Path):
        self.path = folder / NAME
        self._file: int | None = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)  # they show patients

    def keep(self, row: int, channels: Sequence[np.ndarray]) -> int:
        """Write what `near_copies.picture_of` makes of a row's channels [H, W]; returns a check value for `read`."""
        from synthrad.data.near_copies import picture_of

        data = picture_of(channels).tobytes()
        with naming(self.path):
            os.pwrite(self._file, data, row * len(data))
        return zlib.crc32(data)

    def read(self, row: int, check: int | None) -> np.ndarray | None:
        """A row's thumbnail, float32 [FULL, FULL]; None where none was kept, or where a crash of the system lost it."""
        from synthrad.data.near_copies import FULL

        size = 4 * FULL * FULL
        data = b"" if check is None else os.pread(self._file, size, row * size)
        return np.frombuffer(data, np.float32).reshape(FULL, FULL) if data and zlib.crc32(data) == check else None

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

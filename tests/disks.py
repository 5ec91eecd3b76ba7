"""A disk that is full from a chosen moment on."""

import errno
import os


def full_disk(patch, after=0):
    """No byte reaches the disk after so many flushes; patch: pytest's monkeypatch."""
    real, calls = os.fsync, [0]

    def fsync(handle):
        calls[0] += 1
        if calls[0] > after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle)

    patch.setattr(os, "fsync", fsync)

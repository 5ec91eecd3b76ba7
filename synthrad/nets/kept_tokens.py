"""What a frozen text encoder gave for prompts, on disk: read again by later fits, and by all processes of one."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

MOST_BYTES = 2**33  # in a folder; what comes later is computed each time that memory has let go of it
SEAL = 32  # bytes of a file before its array: the SHA-256 of it


class KeptTokens:
    """Tokens of prompts, one file a prompt, named by a hash of it; a file that is not as it was written is as good as none.

    Args:
        folder: of one encoder; made when there is something to keep.
    """

    def __init__(self, folder: Path):
        self.folder: Path | None = folder
        self._bytes = sum(p.stat().st_size for p in folder.iterdir()) if folder.is_dir() else 0

    def read(self, numbers: Sequence[int]) -> Tensor | None:
        """float16 [tokens, width] of a prompt.

        Args:
            numbers: of its tokens, as the tokenizer gives them.
        """
        if self.folder is None:
            return None
        try:
            sealed = (self.folder / _name(numbers)).read_bytes()
        except OSError:
            return None
        whole = hashlib.sha256(sealed[SEAL:]).digest() == sealed[:SEAL]
        return torch.from_numpy(np.load(io.BytesIO(sealed[SEAL:]), allow_pickle=False)) if whole else None

    def write(self, numbers: Sequence[int], tokens: Tensor) -> None:
        """Keep the tokens [tokens, width] of a prompt while there is room; a disk that is full is no reason to end a fit."""
        if self.folder is None or self._bytes > MOST_BYTES:
            return
        array = io.BytesIO()
        np.save(array, tokens.half().numpy())
        sealed = hashlib.sha256(array.getvalue()).digest() + array.getvalue()
        draft = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=self.folder, prefix=".draft.")
            with os.fdopen(handle, "wb") as file:
                file.write(sealed)
            os.replace(draft, self.folder / _name(numbers))  # a torn one is seen by its seal
            self._bytes += len(sealed)
        except OSError as e:
            warnings.warn(f"{self.folder}: embeddings of prompts are not kept there ({e.strerror})", stacklevel=2)
            if draft is not None:
                Path(draft).unlink(missing_ok=True)
            self.folder = None


def _name(numbers: Sequence[int]) -> str:
    return hashlib.sha256(",".join(map(str, numbers)).encode()).hexdigest()[:32]

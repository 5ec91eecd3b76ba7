"""Checkpoints as files: the sha256 beside each, and reading one without running anything that it holds."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from synthrad.errors import InputError
from synthrad.files import file_digest

KINDS = "a whole checkpoint of tensors and plain values"


def sidecar(path: Path | str) -> Path:
    """The file that holds a checkpoint's sha256."""
    return Path(f"{path}.sha256")


def is_valid(path: Path | str) -> bool:
    """Whether a checkpoint is whole: it has a sha256 beside it that it matches."""
    path, digest = Path(path), sidecar(path)
    return path.is_file() and digest.is_file() and digest.read_bytes().strip() == file_digest(path).encode()


def check_bytes(path: Path | str) -> None:
    """Refuse a file whose bytes changed since it was written: torch compares no checksum, and a flipped bit is another weight.

    The sha256 beside it decides; a file that came without one is compared with the CRC-32 that torch.save notes of each
    tensor (old formats and safetensors have none, and are taken as they are).

    Raises:
        InputError: no regular file, other bytes, or packed entries (torch.save packs none; a zip bomb does).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), "no such file", "a checkpoint")
    if sidecar(path).is_file():
        if not is_valid(path):
            raise InputError(str(path), "bytes that differ from its sha256", "the checkpoint as written",
                             "use another checkpoint of the folder, or fit again")
        return
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            if packed := [i.filename for i in archive.infolist() if i.compress_type != zipfile.ZIP_STORED]:
                raise InputError(str(path), f"a packed entry {packed[0]!r}", KINDS, "save it again with torch.save")
            torn = archive.testzip()
    except InputError:
        raise
    except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile) as e:  # what zipfile raises for torn archives
        raise InputError(str(path), f"a checkpoint that cannot be read ({e})", KINDS) from e
    if torn is not None:
        raise InputError(str(path), f"bytes that differ from the checksum of {torn!r}", "the checkpoint as written",
                         "copy it again from where it was made")


def read_checkpoint(path: Path | str, map_location: Any = None) -> Any:
    """What a file of torch.save holds, after `check_bytes`; `weights_only` is always on, because a checkpoint must not run code.

    Raises:
        InputError: missing, torn, or holding more than tensors and plain values.
    """
    import torch

    check_bytes(path)
    try:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)
    except Exception as e:  # torch raises many kinds for a torn or foreign file
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        raise InputError(str(path), f"a checkpoint that cannot be read ({reason})", KINDS) from e

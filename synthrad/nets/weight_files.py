"""What an identity says of a net's weights: what the files hold, wherever they lie."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from synthrad.files import file_digest, read_facts, write_durably
from synthrad.lineage import project_folder
from synthrad.nets.loading import HUB_FILES, HUB_ID, local_path

KEPT = "weights.json"  # digests of files that were read, in the project's folder
FOR_READERS = (".md", ".png", ".jpg")  # files of a folder that no net reads


def with_digests(init_args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a net whose `weights` are what `said_of` says of them; without weights, the same as they are."""
    return {k: said_of(v) if k == "weights" and isinstance(v, str) and v not in ("None", "null", "") else v for k, v in init_args.items()}


def said_of(weights: str) -> str:
    """Weights as an identity names them.

    `sha256:...` of a file; of a folder, of the names and contents of its files (hidden ones and texts for readers left out); a hub id with the revision that is in the
    local cache; whatever else as it is. A file of gigabytes is read once: its digest is kept in the project's folder under its path, size, times and inode. A
    file that is gone has the digest that it had, so that a finished study can be reported without it.

    Args:
        weights: a path, or `owner/name` of the Hugging Face hub, as `nets.loading.locate` takes it.
    """
    path = local_path(weights)
    if path.is_file():
        return f"sha256:{_digests([path])[0]}"
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.is_file() and _is_read(f.relative_to(path)))
        told = list(zip([f.relative_to(path).as_posix() for f in files], _digests(files), strict=True))
        digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        _keep({os.path.abspath(path): [digest]})
        return f"sha256:{digest}"
    if HUB_ID.match(weights) and (revision := _revision(weights)):
        return f"{weights}@{revision}"
    known = read_facts(project_folder() / KEPT).get(os.path.abspath(path))
    return f"sha256:{known[0]}" if known else weights


def _is_read(name: Path) -> bool:
    return not any(part.startswith(".") for part in name.parts) and name.suffix.lower() not in FOR_READERS


def _digests(files: Sequence[Path]) -> list[str]:
    """SHA-256 of each file, of those that are as they were when they were read from what was kept."""
    known, found, new = read_facts(project_folder() / KEPT), [], {}
    for file in files:
        about, place = file.stat(), os.path.abspath(file)
        stamp = [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]
        kept = known.get(place)
        if not kept or kept[1:] != stamp:
            kept = new[place] = [file_digest(file), *stamp]
        found.append(kept[0])
    _keep(new)
    return found


def _keep(new: Mapping[str, list[Any]]) -> None:
    """Add to what is kept; of two processes that write at once one may lose its digests, and where nothing can be written all are: they are computed again."""
    path = project_folder() / KEPT
    known = read_facts(path)
    if any(known.get(k) != v for k, v in new.items()):
        with suppress(OSError):
            write_durably(path, json.dumps({**known, **new}, indent=1).encode())


def _revision(hub_id: str) -> str | None:
    """The commit of a hub id's files in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", *HUB_FILES):
        cached = try_to_load_from_cache(hub_id, name)
        if isinstance(cached, str):
            return Path(cached).parent.name
    return None

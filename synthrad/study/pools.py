"""Where the synthetic pools of a run folder are."""

from __future__ import annotations

import json
from pathlib import Path


def pools_of(folder: Path, source: str) -> list[Path]:
    """Manifest folders of a source's pools, one a draw; pool.json names them relative to the run folder (older ones absolute)."""
    names = json.loads((folder / "sources" / source / "pool.json").read_text())["manifests"]
    return [folder / name for name in names]

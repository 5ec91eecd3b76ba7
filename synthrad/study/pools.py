"""Where a run folder keeps its sources: the checkpoint that samples, the folder of its fit, the pools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def checkpoint_of(folder: Path, source: str) -> Path:
    """The checkpoint of a trained source; generator.json names it relative to the run folder."""
    return folder / json.loads((folder / "sources" / source / "generator.json").read_text())["checkpoint"]


def checks_of(folder: Path, source: str, check: str) -> list[dict[str, Any]]:
    """What a check of that name (fidelity, adherence) wrote while the source's generator trained; [] where it did not."""
    if not (folder / "sources" / source / "generator.json").is_file():
        return []  # not trained here
    path = checkpoint_of(folder, source).parent.parent / f"{check}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.is_file() else []


def pools_of(folder: Path, source: str) -> list[Path]:
    """Manifest folders of a source's pools, one a draw; pool.json names them relative to the run folder (older ones absolute)."""
    names = json.loads((folder / "sources" / source / "pool.json").read_text())["manifests"]
    return [folder / name for name in names]

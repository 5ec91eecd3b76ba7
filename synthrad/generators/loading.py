"""A trained generator from its checkpoint, with what it says of its data."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthrad.errors import InputError
from synthrad.lineage import Fitted, Lineage
from synthrad.records import DatasetInfo, file_digest


def load_generator(checkpoint: Path | str) -> tuple[Any, DatasetInfo, Lineage, dict[str, Any]]:
    """A trained generator with what its checkpoint says of its data.

    Returns:
        the module in evaluation mode on the CPU, the dataset's info, the lineage of what it draws, and its spec
        (`classes`, `attributes` -> values, `layers`, `size`).

    Raises:
        InputError: no such file, or not a checkpoint of a synthrad generator.
    """
    import torch

    where = str(checkpoint)
    if not Path(checkpoint).is_file():
        raise InputError(where, "no such file", "a checkpoint", "give the path of a generator's last.ckpt")
    try:
        raw = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as e:  # torch raises many kinds for a torn or foreign file
        raise InputError(where, f"a file that torch cannot load safely ({type(e).__name__})", "a Lightning checkpoint") from e
    entry = raw.get("synthrad") if isinstance(raw, dict) else None
    if not isinstance(entry, dict) or not str(entry.get("class", "")).startswith("synthrad.generators."):
        raise InputError(where, "no generator of synthrad in it", "a checkpoint of a class in synthrad.generators",
                         "train one with `synthrad fit --config configs/generators/...`")
    module, name = entry["class"].rsplit(".", 1)
    made = getattr(importlib.import_module(module), name).load_from_checkpoint(
        checkpoint, map_location="cpu", weights_only=True)
    # what an older generator was trained without, it never learned
    spec = {**entry["spec"], "label_dropout": raw.get("hyper_parameters", {}).get("label_dropout", 0.0)}
    info = DatasetInfo.from_dict(dict(spec["info"]), where)
    fitted = Fitted("generator", file_digest(checkpoint), "known", frozenset(spec["trained_on"]),
                    frozenset(spec.get("selected_on", ())), frozenset(spec["fingerprints"]), spec.get("selected_by", ""),
                    spec.get("key_id", ""), frozenset({info.id}))
    return made.eval(), info, info.lineage + Lineage((fitted,)), spec


def check_same_dataset(info: DatasetInfo, real: DatasetInfo, where: str) -> None:
    """Refuse a checkpoint of another dataset than the manifest's, or of the same one read in another way."""
    for key in ("id", "classes", "layers", "channels", "resize", "intensity"):
        if getattr(info, key) != getattr(real, key):
            raise InputError(f"{where}: {key}", str(getattr(info, key)), f"{getattr(real, key)}, as --manifest has it",
                             "give the manifest that the generator was trained on, or its own checkpoint")


def wanted_layers(generator: Any, spec: Mapping[str, Any]) -> list[str]:
    """The mask layers that a generator draws from: those it was trained on if it has `wants_masks`, else none."""
    return list(spec["layers"]) if getattr(generator, "wants_masks", False) else []

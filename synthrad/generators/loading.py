"""A trained generator from its checkpoint, with what it says of its data."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthrad.checkpoints import read_checkpoint
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.files import file_digest
from synthrad.lineage import Fitted, Lineage

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule


def load_generator(checkpoint: Path | str) -> tuple[Any, DatasetInfo, Lineage, dict[str, Any]]:
    """A trained generator with what its checkpoint says of its data.

    Returns:
        the module in evaluation mode on the CPU, the dataset's info, the lineage of what it draws, and its spec
        (`classes`, `attributes` -> values, `layers`, `size`).

    Raises:
        InputError: no such file, or not a checkpoint of a synthrad generator.
    """
    where = str(checkpoint)
    if not Path(checkpoint).is_file():
        raise InputError(where, "no such file", "a checkpoint", "give the path of a generator's last.ckpt")
    raw = read_checkpoint(checkpoint)
    entry = raw.get("synthrad") if isinstance(raw, dict) else None
    if not isinstance(entry, dict) or not str(entry.get("class", "")).startswith("synthrad.generators."):
        raise InputError(where, "no generator of synthrad in it", "a checkpoint of a class in synthrad.generators",
                         "train one with `synthrad fit --config configs/generators/...`")
    kind = _class_of(str(entry["class"]), where)
    try:
        made = kind.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
        # what an older generator was trained without, it never learned
        spec = {**entry["spec"], "label_dropout": raw.get("hyper_parameters", {}).get("label_dropout", 0.0)}
        info = DatasetInfo.from_dict(dict(spec["info"]), where)
        fitted = Fitted("generator", file_digest(checkpoint), "known", frozenset(spec["trained_on"]),
                        frozenset(spec.get("selected_on", ())), frozenset(spec["fingerprints"]), spec.get("selected_by", ""),
                        spec.get("key_id", ""), frozenset({info.id}))
    except InputError:
        raise
    except Exception as e:  # a stranger's arguments fail in as many ways as there are
        reason = " ".join(str(e).split())[:200]
        raise InputError(where, f"parts that do not fit together ({type(e).__name__}: {reason})",
                         "a checkpoint as `synthrad fit` wrote it", "copy it again from where it was made") from e
    return made.eval(), info, info.lineage + Lineage((fitted,)), spec


def _class_of(class_path: str, where: str) -> type[LightningModule]:
    """A generator of ours: a checkpoint is a stranger's file, and names nothing else."""
    from lightning.pytorch import LightningModule

    module, _, name = class_path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        kind = None
    if not (isinstance(kind, type) and issubclass(kind, LightningModule) and kind.__module__ == module):
        raise InputError(where, f"the class {class_path[:100]!r}", "a generator of synthrad.generators", "use the version that wrote it")
    return kind


def check_same_dataset(info: DatasetInfo, real: DatasetInfo, where: str) -> None:
    """Refuse a checkpoint of another dataset than the manifest's, or of the same one read in another way."""
    for key in ("id", "classes", "layers", "channels", "resize", "intensity"):
        if getattr(info, key) != getattr(real, key):
            raise InputError(f"{where}: {key}", str(getattr(info, key)), f"{getattr(real, key)}, as --manifest has it",
                             "give the manifest that the generator was trained on, or its own checkpoint")


def wanted_layers(generator: Any, spec: Mapping[str, Any]) -> list[str]:
    """The mask layers that a generator draws from: those it was trained on if it has `wants_masks`, else none."""
    return list(spec["layers"]) if getattr(generator, "wants_masks", False) else []

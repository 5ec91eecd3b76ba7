"""A set from a checkpoint: the generator on its device, with the conditions and masks that it can be asked for."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from synthrad.data.conditions import blank_unlearned, complete, with_prompts
from synthrad.data.mask_conditions import MaskConditions, mask_conditions
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.generators.loading import load_generator, wanted_layers
from synthrad.lineage import Lineage
from synthrad.records import Manifest
from synthrad.sampling.drawing import sample_set


def sample_from_checkpoint(checkpoint: Path | str, conditions: pd.DataFrame, seed: int, out: Path | str,
                           block_size: int = 16, truncation: float = 1.0, device: str = "auto",
                           real: Manifest | None = None, mask_transform: str = "none") -> Manifest:
    """sample_set with the generator, info and lineage of a checkpoint.

    Args:
        real: manifest of the real images, for a generator that draws from masks.
        mask_transform: see data.mask_conditions.mask_conditions.
    """
    loaded = load_generator(checkpoint)
    generator, conditions, masks = ready(loaded, str(checkpoint), conditions, seed, device, real, mask_transform)
    return sample_set(generator, checkpoint, conditions, seed, out, loaded[1], loaded[2], block_size, truncation, masks)


def ready(loaded: tuple[Any, DatasetInfo, Lineage, dict[str, Any]], where: str, conditions: pd.DataFrame, seed: int,
          device: str, real: Manifest | None, mask_transform: str, local: int = 0) -> tuple[Any, pd.DataFrame, MaskConditions | None]:
    """The generator on its device, of several GPUs number `local`, its conditions without what it never learned, and their masks if it draws from masks."""
    import torch

    generator, info, _, spec = loaded
    masks = None
    if layers := wanted_layers(generator, spec):
        masks = mask_conditions(conditions, real, {x: info.layers[x] for x in layers}, spec["size"], seed, mask_transform)
    elif mask_transform != "none" or any(c.startswith("mask:") for c in conditions):
        what = "--mask-transform" if mask_transform != "none" else "conditions: mask:<layer>"
        raise InputError(what, f"masks for {where}, which draws its own", "a generator that draws from masks", "leave it out")
    conditions = blank_unlearned(with_prompts(conditions, spec, info, where), spec, info)  # a report is no value, and is read here
    labels = conditions.reindex(columns=[f"label:{c}" for c in info.classes if c not in spec.get("untaught", [])])
    if (opened := int(labels.isna().any(axis=1).sum())) and not spec["label_dropout"]:
        warnings.warn(f"{opened} of {len(conditions)} conditions leave a label open, and {where} was trained without "
                      "label_dropout: it may never have seen an open label, so name every label, or train it anew", stacklevel=3)
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device", "cuda, and torch finds no GPU here", "cpu or auto", "see `synthrad doctor`")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if device == "cuda":
        device = f"cuda:{local % torch.cuda.device_count()}"  # srun may show each process its own alone
    return generator.to(device), complete(conditions, info), masks

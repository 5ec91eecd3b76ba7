"""The latent pictures that a diffusion model learns: of a frozen autoencoder, encoded once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor

from synthrad.cases import collate
from synthrad.errors import InputError
from synthrad.generators.autoencoder import Autoencoder
from synthrad.generators.conditional import ordered
from synthrad.generators.loading import load_generator
from synthrad.lineage import Lineage
from synthrad.progress import progress

KEY = "model.autoencoder"
VERSION = 1  # raise by hand when kept latents change
SAME = ("size", "channels")  # of what an autoencoder and a diffusion model on top of it learned from


def read_autoencoder(path: str, spec: Mapping[str, Any], masks: str) -> tuple[Autoencoder, dict[str, Any], Lineage]:
    """A trained autoencoder for a diffusion model, with what the model's checkpoint must keep of it.

    Args:
        spec: of the data that the diffusion model learns from. masks: draw or given, as the diffusion model has it.

    Returns:
        the frozen autoencoder, an entry in plain types from which `remake` makes it without the file, and its lineage.

    Raises:
        InputError: no such file, no autoencoder, or one of another size, of other channels or of other masks.
    """
    if not Path(path).is_file():
        raise InputError(KEY, f"no file {path!r}", "null (pixels) or the checkpoint of an Autoencoder", "train one first: "
                         "synthrad fit --config configs/generators/autoencoder_64_cpu.yaml")
    module, info, lineage, theirs = load_generator(path)
    if not isinstance(module, Autoencoder):
        raise InputError(f"{KEY} {path}", f"a {type(module).__name__}", "an Autoencoder", "name the checkpoint of an autoencoder")
    for name in SAME:
        if list(theirs[name]) != list(spec[name]):
            raise InputError(f"{KEY} {path}", f"{name} {theirs[name]}", f"{spec[name]}, as data gives it",
                             "train an autoencoder on pictures like these")
    if info.intensity != spec["info"]["intensity"]:
        raise InputError(f"{KEY} {path}", f"grey values {dict(info.intensity)}", f"{spec['info']['intensity']}, as the manifest has it",
                         "prepare both datasets with the same --intensity")
    wanted = "draw" if masks == "draw" and spec["layers"] else "none"
    encoded = "draw" if module.hparams.masks == "draw" and theirs["layers"] else "none"
    if encoded != wanted:
        raise InputError(f"{KEY} {path}", "images with their masks" if encoded == "draw" else "images alone",
                         "images alone, for model.masks=given" if wanted == "none" else "images with their masks, for model.masks=draw",
                         f"train the autoencoder with model.masks={wanted}")
    if wanted == "draw" and ordered(theirs["layers"]) != ordered(spec["layers"]):
        raise InputError(f"{KEY} {path}", f"layers {theirs['layers']}", f"{spec['layers']}, as data gives them",
                         "train an autoencoder on these masks")
    entry = {"hparams": {k: v for k, v in module.hparams.items() if not k.startswith("_")}, "spec": {k: theirs[k] for k in ("size", "channels", "classes", "layers", "attributes")},
             "digest": lineage.fitted[-1].digest}
    *before, own = lineage.fitted
    return _frozen(module), entry, Lineage((*before, replace(own, kind="autoencoder")))


def remake(entry: Mapping[str, Any]) -> Autoencoder:
    """The autoencoder of an entry, without its weights: those are in the diffusion model's checkpoint."""
    made = Autoencoder(**{**entry["hparams"], "perceptual": None, "perceptual_linear": None})  # its losses are over
    made.build(dict(entry["spec"]))
    return _frozen(made)


def _frozen(module: Autoencoder) -> Autoencoder:
    """Without what only its own training needs."""
    module.net = module.discriminator = module.distance = None
    return module.requires_grad_(False).eval()


class KeptLatents:
    """Means and deviations of the latents of all training rows, made once and read from disk.

    Args:
        data: the GenerationDataModule. folder: where to keep them, beside the images' cache.
        autoencoder: frozen, on the device that encodes. digest: of its checkpoint.
        batch: rows encoded at once.
    """

    def __init__(self, data: Any, folder: Path, autoencoder: Autoencoder, digest: str, batch: int = 16):
        told = [VERSION, digest, data.train.digest, list(data.size), list(data.layers)]
        name = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
        self.path, self._made = folder / f"latents-{name}.npy", None
        self._shape = (len(data.train), 2, *autoencoder.net_ema.latent_shape)
        self._data, self._autoencoder, self._batch = data, autoencoder, batch

    def make(self, strategy: Strategy | None = None) -> None:
        """Encode what is not on disk yet, each process its share of the batches, and map all into memory.

        Args:
            strategy: of the Trainer, whose processes all call this and see the same folder; None = this process alone.
        """
        rank, ranks = (strategy.global_rank, strategy.world_size) if strategy is not None else (0, 1)
        tell = strategy.broadcast if strategy is not None else lambda value: value
        meet = strategy.barrier if strategy is not None else lambda: None
        draft = tell(self._begin() if rank == 0 else None)
        if draft is not None:
            try:
                whole = self._encode(draft, rank, ranks)
                if not (strategy.reduce_boolean_decision(whole) if strategy is not None else whole):
                    raise InputError(KEY, "latents that are not finite", "a trained autoencoder", "train it again, or name an earlier checkpoint")
                if rank == 0:
                    os.replace(draft, self.path)
            finally:
                if rank == 0:
                    Path(draft).unlink(missing_ok=True)
            meet()
        self._made = np.load(self.path, mmap_mode="r")

    def _begin(self) -> str | None:
        """An empty file of the right size; None where the latents are there already."""
        if self.path.is_file() and self._readable():
            return None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        os.close(handle)
        np.lib.format.open_memmap(draft, "w+", np.float32, self._shape).flush()
        return draft

    def _encode(self, draft: str, rank: int, ranks: int) -> bool:
        """One process's share; whether all latents are finite."""
        net, rows, made = self._autoencoder, len(self._data.train), np.lib.format.open_memmap(draft, "r+")
        starts = range(rank * self._batch, rows, ranks * self._batch)
        for start in progress(starts, desc="encoding latents", unit="batch", show=rank == 0):
            case = collate([self._data.case(i) for i in range(start, min(start + self._batch, rows))])
            latents = torch.stack(net.to_latents(net.pictures(case)[:, : net.picture_channels]), 1).float().cpu().numpy()
            if not np.isfinite(latents).all():
                return False
            made[start : start + len(latents)] = latents
        made.flush()
        with open(draft, "rb") as file:
            os.fsync(file.fileno())
        return True

    def draw(self, rows: Tensor, noise: Tensor) -> Tensor:
        """Latents [n, channels, h, w] of training rows: their means with `noise` of their deviations."""
        mean, deviation = torch.from_numpy(self._made[rows.cpu().numpy()]).to(noise).unbind(1)
        return mean + deviation * noise

    def _readable(self) -> bool:
        try:
            return np.load(self.path, mmap_mode="r").shape == self._shape
        except (ValueError, OSError, EOFError):
            return False  # half a file


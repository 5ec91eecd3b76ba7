"""Shadow generators: of the architecture and recipe of one that is attacked, each trained on a known half of the patients.

Their patients are training and test patients pooled: only of those does the attack need to know how they score in and out of training. So test
patients are learned from here, by nets that are thrown away: what is kept of a shadow is how well it knows each patient, and nothing that is
released ever meets them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from synthrad.callbacks.preemption import interruptible
from synthrad.cases import Case, collate
from synthrad.checkpoints import read_checkpoint
from synthrad.datamodules.endless import EndlessBatches, EndlessLoader
from synthrad.errors import InputError
from synthrad.files import write_durably
from synthrad.generators.autoencoder import Autoencoder
from synthrad.generators.diffusion import Diffusion
from synthrad.generators.familiarity import Pictures, parts_of
from synthrad.generators.gan import StyleGAN2
from synthrad.lineage import hash_subjects, project_key
from synthrad.progress import progress
from synthrad.records import Manifest

VERSION = 2  # raise by hand when shadows are trained, or asked, in another way: those that are kept are trained again then
FEWEST = 8  # shadows: four with each patient, four without


@dataclass(frozen=True)
class Recipe:
    """How shadows are trained.

    Args:
        number: of shadows, even. images: that each is shown; None = as many as the generator was. folder: where they are kept.
    """

    number: int
    images: int | None
    folder: Path

    def __post_init__(self) -> None:
        if self.number < FEWEST or self.number % 2:
            raise InputError("--shadows", str(self.number), f"an even number of at least {FEWEST}: each patient is in half of them",
                             f"give {FEWEST}, or 64 where there is time")
        if self.images is not None and self.images < 1:
            raise InputError("--shadow-images", str(self.images), "at least 1", "leave it out for as many as the generator was shown")


def not_built(module: Any) -> str:
    """Why there are no shadows of a generator; "" = there are."""
    h = module.hparams
    if type(module) not in (Diffusion, Autoencoder, StyleGAN2):
        return f"there are no shadows of a {type(module).__name__}"
    if h.get("text") is not None:
        return "there are no shadows of a generator that reads prompts"
    if h.get("autoencoder") is not None:
        return "there are no shadows of a latent diffusion model: each would need an autoencoder of its own; attack the autoencoder's checkpoint"
    if h.get("init_from") is not None:
        return "there are no shadows of a generator that started from another's weights"
    return ""


def halves(patients: int, number: int, seed: int) -> np.ndarray:
    """bool [number, patients]: whom each shadow is trained on; of a pair of shadows, each patient is in one."""
    rng = np.random.default_rng([seed, 3])
    first = np.stack([rng.permutation(patients) < patients // 2 for _ in range(number // 2)])
    return np.stack([first, ~first], 1).reshape(number, patients)


@dataclass(frozen=True)
class Pool:
    """Patients whom shadows are trained on.

    Args:
        pictures: R of them, rows: their manifest. patient: [R], from 0. statistic: of generators.familiarity that is asked for.
    """

    pictures: Pictures
    rows: Manifest
    patient: np.ndarray
    statistic: str

    def known(self, module: Any, bar: tqdm) -> np.ndarray:
        """How well a generator knows each patient, mean over pictures."""
        scores = parts_of(module)[0].scores(self.pictures, bar.update)[self.statistic]
        return np.bincount(self.patient, scores) / np.bincount(self.patient)


class ShadowData(L.LightningDataModule):
    """Some pictures as the generator's own datamodule gave them.

    Args:
        at: rows of the pool. spec: of the generator that is attacked: a shadow can be asked for the same.
    """

    def __init__(self, pool: Pool, at: np.ndarray, spec: Mapping[str, Any], batch_size: int, seed: int):
        super().__init__()
        self.train, self.seed = pool.rows.take(at), seed
        self.batch_size = min(batch_size, len(at))
        self._case, self._spec = pool.pictures.take(at).case, spec

    def spec(self) -> dict[str, Any]:
        """With the patients of this shadow as its own."""
        people = hash_subjects(self.train.info.id, self.train.column("subject"), project_key())
        return {**self._spec, "trained_on": sorted(people), "fingerprints": sorted(set(self.train.column("digest")))}

    def train_dataloader(self) -> EndlessLoader:
        """As datamodules.generation."""
        n = len(self.train)
        return EndlessLoader(_Rows(self._case), EndlessBatches(n, self.batch_size, self.seed, max(1, n // self.batch_size)), collate)


class _Rows(Dataset):
    """Items (row, draw) of EndlessBatches."""

    def __init__(self, case: Case):
        self.case = case

    def __getitem__(self, item: tuple[int, int]) -> Case:
        c, i = self.case, item[0]
        return Case(c.image[i], c.masks[i], c.labels[i], torch.tensor(i), c.attributes[i])


class _Count(L.Callback):
    """Images on a bar that is not its own."""

    def __init__(self, bar: tqdm):
        self.bar = bar

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Case, batch_idx: int) -> None:
        """Count a batch."""
        self.bar.update(len(batch.image))


def train_shadow(target: Any, data: ShadowData, images: int, bar: tqdm) -> Any:
    """A fresh generator with the target's hyperparameters, trained for so many images; in evaluation mode, on the target's device."""
    device = target.device
    with torch.random.fork_rng():
        torch.manual_seed(data.seed)
        made = type(target)(**{**target.hparams, "max_images": images})
        trainer = L.Trainer(max_epochs=-1, accelerator="gpu" if device.type == "cuda" else "cpu", devices=1, callbacks=[_Count(bar)], logger=False,
                            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
        with interruptible():
            trainer.fit(made, datamodule=data)
    return made.eval().requires_grad_(False).to(device)


def batch_of(checkpoint: str) -> int:
    """Images of a training step of a checkpoint.

    Raises:
        InputError: it does not say how many batches it was given.
    """
    raw = read_checkpoint(checkpoint)
    done = _batches(raw.get("loops", {}))
    if not done:
        raise InputError(f"--checkpoint {checkpoint}", "no count of the batches that it was given", "a checkpoint as `synthrad fit` wrote it",
                         "leave --shadows out")
    return max(1, round(raw["synthrad"]["images_seen"] / done))


def _batches(tree: Any) -> int:
    """`done` of datamodules.endless, somewhere in what Lightning keeps of its loops."""
    if isinstance(tree, Mapping):
        own = int(tree["done"]) if {"done", "rows", "batch_size"} <= set(tree) else 0
        return own or max((_batches(v) for v in tree.values()), default=0)
    return max((_batches(v) for v in tree), default=0) if isinstance(tree, list | tuple) else 0


def shadow_scores(target: Any, digest: str, pool: Pool, inside: np.ndarray, recipe: Recipe, batch_size: int, seed: int) -> np.ndarray:
    """[shadows, patients]: how well each shadow knows each patient; those that are kept in the folder are not trained again.

    Args:
        target: the generator that is attacked. digest: of its checkpoint. inside: bool [shadows, patients], from `halves`.
    """
    images = recipe.images or target.images_seen
    about = [VERSION, digest, list(pool.rows.column("digest")), pool.statistic, recipe.number, images, batch_size, seed]
    identity = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    paths = [recipe.folder / f"{k}.json" for k in range(recipe.number)]
    found = [_kept(path, identity) for path in paths]
    missing = sum(f is None for f in found)
    with progress(total=missing * (images + len(pool.rows)), desc=f"{missing} shadows", unit="image", show=bool(missing)) as bar:
        for k, path in enumerate(paths):
            if found[k] is None:
                data = ShadowData(pool, np.flatnonzero(inside[k][pool.patient]), target.spec, batch_size, int(np.random.default_rng([seed, k, 4]).integers(2**31)))
                found[k] = pool.known(train_shadow(target, data, images, bar), bar)
                write_durably(path, json.dumps({"identity": identity, "shadow": k, "known": found[k].tolist()}).encode())
    return np.stack(found)


def _kept(path: Path, identity: str) -> np.ndarray | None:
    """The scores of a finished shadow of this very attack."""
    try:
        found = json.loads(path.read_text())
        return np.asarray(found["known"], float) if found["identity"] == identity else None
    except (OSError, ValueError, KeyError, TypeError):
        return None

"""Judges of mask quality: segmentation nets cross-fitted over the training subjects, each leaving out one part of them.

They train for a fixed number of steps with nothing selected; no downstream fit reuses them.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from synthrad.cases import Case
from synthrad.data.batches import light_batches
from synthrad.data.cache import UNKNOWN, ImageCache
from synthrad.errors import InputError
from synthrad.files import file_digest, write_durably
from synthrad.lineage import Fitted, hash_subjects, key_id, project_key
from synthrad.metrics.regions import agreement
from synthrad.nets.losses import layers_loss
from synthrad.nets.short_fit import fit_briefly, likeliest
from synthrad.nets.smp_net import SmpNet
from synthrad.progress import progress
from synthrad.records import Manifest

VERSION = 1  # raise by hand when judges change
Layers = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Judges:
    """How the judges are fitted; with the training rows this names their weights on disk.

    Args:
        folds: nets; each leaves out one part of the training subjects.
        steps, batch_size, lr: optimizer steps of each, images a step, learning rate (Adam, one cycle).
        arch, encoder: of segmentation_models_pytorch, randomly initialised.
        layer: the mask layer judged; None = all.
        size: (height, width) at which images are compared and judged.
        seed: of folds, initial weights, order and augmentation.
    """

    folds: int = 3
    steps: int = 400
    arch: str = "Unet"
    encoder: str = "resnet18"
    layer: str | None = None
    size: tuple[int, int] = (64, 64)
    seed: int = 0
    batch_size: int = 16
    lr: float = 1e-3


def fold_of_subjects(subjects: list[str], folds: int, seed: int) -> dict[str, int]:
    """Which judge leaves out which subject: a random partition in parts that differ by at most one subject.

    Raises:
        InputError: fewer subjects than folds, or fewer than two folds.
    """
    names = sorted(set(subjects))
    if folds < 2 or len(names) < folds:
        raise InputError(
            "--folds",
            f"{folds} folds over {len(names)} training subject(s)",
            "at least 2, and no more than there are subjects",
            "lower --folds or prepare more patients",
        )
    order = np.random.default_rng([seed, 7]).permutation(len(names))
    return {names[i]: int(k % folds) for k, i in enumerate(order)}


def fit_judges(
    train: Manifest,
    cache: ImageCache,
    of_train: np.ndarray,
    layers: Layers,
    settings: Judges,
    folder: Path,
) -> tuple[list[nn.Module], tuple[Fitted, ...]]:
    """One net a fold, fitted or read from `folder`, and what each has seen."""
    known = np.any([train.column(f"mask:{k}") != "" for k in layers], axis=0)
    key, nets, fitted = project_key(), [], []
    identity = digest_of(
        ["judge", VERSION, train.digest, asdict(settings), {k: list(v) for k, v in layers.items()}]
    )
    for fold in range(settings.folds):
        rows = np.flatnonzero(known & (of_train != fold))
        if not len(rows):
            raise InputError(
                "--real",
                f"no training mask outside fold {fold} of {', '.join(layers)}",
                "masks of subjects in at least two folds",
                "prepare more masks or judge another --layer",
            )
        path = folder / f"judge-{identity[:16]}-{fold}.pt"
        net = _net(layers, len(train.info.channels), settings, fold)
        if path.is_file():
            net.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
        else:
            _train(net, train, cache, rows, layers, settings, fold)
            buffer = io.BytesIO()
            torch.save(net.state_dict(), buffer)
            write_durably(path, buffer.getvalue())
        nets.append(net.eval())
        seen = train.take(rows)
        fitted.append(
            Fitted(
                "judge",
                file_digest(path),
                trained_on=hash_subjects(train.info.id, seen.column("subject"), key),
                fingerprints=frozenset(d for d in seen.column("digest") if d),
                key_id=key_id(key),
                datasets=frozenset({train.info.id}),
                notes=f"mask judge {fold + 1} of {settings.folds}",
            )
        )
    return nets, tuple(fitted)


def _net(layers: Layers, channels: int, settings: Judges, fold: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 * settings.seed + fold)
        outputs = sum(1 + len(s) for s in layers.values())
        net = SmpNet(settings.arch, settings.encoder, None, in_channels=channels, out_channels=outputs)
    return net.to(memory_format=torch.channels_last)  # fitted or read: the same arithmetic


def _train(net: nn.Module, train: Manifest, cache: ImageCache, rows: np.ndarray, layers: Layers, settings: Judges,
           fold: int) -> None:
    """Fit one judge in place."""
    at, none, sizes = places(train, layers), torch.zeros(0), [1 + len(s) for s in layers.values()]

    def case_of(i: int) -> Case:
        masks = cache.masks(i)[at].astype(np.int64)
        masks[masks == UNKNOWN] = -1
        return Case(torch.from_numpy(cache.scaled(i)), torch.from_numpy(masks), none, torch.tensor(i), none)

    def loss(logits: Tensor, batch: Case) -> Tensor:
        return layers_loss(logits.split(sizes, dim=1), batch.masks.to(logits.device))

    batches = light_batches(case_of, rows, settings.batch_size, np.random.default_rng([settings.seed, 11, fold]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    fit_briefly(net, batches, loss, settings.steps, settings.lr, device, f"fitting judge {fold + 1} of {settings.folds}")
    net.to("cpu")


def places(manifest: Manifest, layers: Layers) -> list[int]:
    """Where the judged layers stand among a manifest's layers."""
    names = list(manifest.info.layers)
    return [names.index(k) for k in layers]


def predict(net: nn.Module, images: np.ndarray, structures: list[int]) -> np.ndarray:
    """What a judge sees: float32 [n, C, h, w] in [-1, 1] to uint8 [n, L, h, w], the likeliest structure a layer."""
    with torch.inference_mode():
        return likeliest(net(torch.from_numpy(images)), structures).numpy()


def dice_columns(
    nets: list[nn.Module],
    cache: ImageCache,
    judge: np.ndarray,
    layers: Layers,
    manifest: Manifest,
    title: str,
) -> dict[str, Any]:
    """score:dice and score:dice/<layer>/<structure> of every row, each by its judge."""
    structures = [len(s) for s in layers.values()]
    at = places(manifest, layers)
    names = [(k, s) for k, group in layers.items() for s in group]
    each = np.full((len(manifest), len(names)), np.nan)
    whole = np.full(len(manifest), np.nan)
    asked = np.zeros((len(manifest), len(names)), dtype=bool)
    for j, (_, s) in enumerate(names):
        if s in manifest.info.classes:
            asked[:, j] = manifest.column(f"label:{s}") == 1
    with progress(total=len(manifest), desc=title, unit="image") as bar:
        for k, net in enumerate(nets):
            mine = np.flatnonzero(judge == k)
            for start in range(0, len(mine), 32):
                rows = mine[start : start + 32]
                seen = predict(net, np.stack([cache.scaled(i) for i in rows]), structures)
                for i, prediction in zip(rows, seen, strict=True):
                    whole[i], each[i] = agreement(cache.masks(i)[at], prediction, structures, asked[i])
                bar.update(len(rows))
    return {"score:dice": whole} | {f"score:dice/{k}/{s}": each[:, j] for j, (k, s) in enumerate(names)}


def digest_of(parts: Any) -> str:
    """SHA-256 of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=list).encode()).hexdigest()

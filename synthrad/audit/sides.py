"""What an audit compares: a synthetic set, the patients its generator saw, and patients that nothing has seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from synthrad.data.cache import UNKNOWN, ImageCache
from synthrad.data.images import image_size
from synthrad.errors import InputError
from synthrad.lineage import Lineage, hash_subjects, project_key
from synthrad.records import Manifest

LARGEST = 128  # pixels on the shorter side: nothing looks closer than this
SMALLEST = 16


@dataclass(frozen=True)
class Sides:
    """Images at one size.

    Args:
        synthetic: float [S, C, H, W] in [-1, 1]. real: [R, C, H, W], training and test images.
        masks, real_masks: float [S, L, H, W] and [R', L, H, W], 1 in a structure of the layer, -1 elsewhere; None without masks.
        with_masks: rows of `real` that `real_masks` has; synthetic_with_masks: rows of `synthetic` that `masks` has.
        rows: Manifest of the real images. drawn: that of the synthetic ones.
        other: [n, C, H, W], real images of the other splits, for what must be fitted on neither side; None = there are none.
        banner: what is not verified; "" where the lineage says who was trained on.
    """

    synthetic: Tensor
    real: Tensor
    masks: Tensor | None
    real_masks: Tensor | None
    with_masks: np.ndarray
    synthetic_with_masks: np.ndarray
    rows: Manifest
    drawn: Manifest
    other: Tensor | None
    banner: str

    @property
    def subjects(self) -> np.ndarray:
        """[R]."""
        return np.asarray(self.rows.column("subject"))

    @property
    def member(self) -> np.ndarray:
        """bool [R]: training images."""
        return np.asarray(self.rows.column("split") == "train")


def read_sides(drawn: Manifest, real: Manifest) -> Sides:
    """Read both sets at the size of the synthetic images, at most LARGEST on the shorter side.

    Raises:
        InputError: sets that do not belong together, or a split without images.
    """
    if not len(drawn):
        raise InputError("SYNTHETIC", "a set without images", "at least one synthetic image", "draw some: `synthrad sample`")
    if (drawn.column("source") != "synthetic").any():
        raise InputError("SYNTHETIC", "real images in the set", "a synthetic set", "swap it with --real")
    if drawn.info.channels != real.info.channels:
        raise InputError(f"channels of {drawn.info.name!r}", str(drawn.info.channels), f"{real.info.channels}, as in --real",
                         "audit a set against the data that its generator was trained on")
    split = real.column("split")
    rows = real.take(np.flatnonzero(((split == "train") | (split == "test")) & (real.column("source") == "real")))
    for name in ("train", "test"):
        if not (rows.column("split") == name).any():
            raise InputError("--real", f"no real images in the split {name!r}", "training patients and test patients to set beside them",
                             "prepare it with --fractions that give both a share")
    size = _size(drawn)
    layers = {k: s for k, s in drawn.info.layers.items() if real.info.layers.get(k) == s}
    synthetic, masks, kept = _read(drawn, size, layers, "reading synthetic images")
    images, real_masks, with_masks = _read(rows, size, layers, "reading real images")
    if masks is None or real_masks is None:
        masks = real_masks = None
    rest = real.take(np.flatnonzero(((split == "val") | (split == "audit")) & (real.column("source") == "real")))
    other = _read(rest, size, {}, "reading other real images")[0] if len(rest) else None
    return Sides(synthetic, images, masks, real_masks, with_masks, kept, rows, drawn, other, banner(drawn.info.lineage, rows))


def banner(lineage: Lineage, rows: Manifest) -> str:
    """Who the lineage says was trained on, against the training split of these rows; "" where they agree."""
    seen = lineage.seen_with(project_key())
    if seen.origin != "known":
        return (f"the lineage of this set is {seen.origin}: that its generator was trained on the training split of --real, and on nobody "
                "of the test split, is taken on trust")
    train, test = (hash_subjects(rows.info.id, rows.where(split=s).column("subject"), project_key()) for s in ("train", "test"))
    shared = test & (seen.trained_on() | seen.selected_on())
    if shared:
        raise InputError("--real", f"{len(shared)} of {len(test)} test patients that made this set", "test patients that nothing has seen",
                         "audit it against the manifest that its generator was trained on")
    if seen.trained_on() and not train & seen.trained_on():
        raise InputError("--real", "training patients that this set has never seen", "the manifest that its generator was trained on")
    return ""


def _size(drawn: Manifest) -> tuple[int, int]:
    height, width = image_size(drawn[0].channels[0])
    if min(height, width) < SMALLEST:
        raise InputError("SYNTHETIC", f"images of {height} x {width} pixels", f"at least {SMALLEST} on each side")
    scale = min(1.0, LARGEST / min(height, width))
    return round(height * scale), round(width * scale)


def _read(manifest: Manifest, size: tuple[int, int], layers: dict, title: str) -> tuple[Tensor, Tensor | None, np.ndarray]:
    """Images; the foreground of each layer where all are known, or None; which rows those are."""
    cache = ImageCache(manifest, size)
    images = torch.stack([torch.from_numpy(cache.scaled(i)) for i in tqdm(range(len(cache)), desc=title, unit="image", disable=None)])
    at = [list(manifest.info.layers).index(layer) for layer in layers]
    masks, kept = [], []
    for i in range(len(cache) if layers else 0):
        mask = cache.masks(i)[at]
        if not (mask == UNKNOWN).any():
            masks.append(torch.from_numpy(np.where(mask > 0, np.float32(1), np.float32(-1))))
            kept.append(i)
    return images, torch.stack(masks) if masks else None, np.array(kept, int)

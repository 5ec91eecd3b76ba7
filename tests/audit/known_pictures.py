"""Manifests and pictures whose truth is known, for judges of an audit."""

import numpy as np
import pandas as pd
import torch

from synthrad.dataset_info import DatasetInfo
from synthrad.records import Manifest


def manifest(subjects, split="", **columns):
    classes = tuple(c[6:] for c in columns if c.startswith("label:"))
    attributes = tuple(c[10:] for c in columns if c.startswith("attribute:"))
    layers = {"blob": ("blob",)}
    table = pd.DataFrame({"subject": [str(s) for s in subjects], "split": split, **columns})
    return Manifest(table, DatasetInfo("t", "t", classes, layers, attributes=attributes))


def textures(seed, n, bright=None):
    """Smooth noise; a bright square in the middle where asked."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(-0.6, 0.2, (n, 1, 8, 8)).astype(np.float32))
    images = torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear")
    masks = -torch.ones_like(images)
    if bright is not None:
        at = np.flatnonzero(np.asarray(bright) == 1)
        for k in at:
            y, x = rng.integers(4, 16, 2)
            images[k, :, y : y + 12, x : x + 12] += 0.8
            masks[k, :, y : y + 12, x : x + 12] = 1
    return images.clamp(-1, 1), masks


def coins(seed, n):
    return np.random.default_rng(seed).integers(0, 2, n).astype(float)

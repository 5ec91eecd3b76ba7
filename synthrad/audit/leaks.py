"""Planted leaks: training images as a generator that memorised might draw them, to see whether an audit would notice.

Every leak takes a picture [C, H, W] in [-1, 1], another one of the synthetic set and a random generator, and returns a picture
of that shape; `plant` rounds to 8 bits, as a file would.
Those of `WITHIN` are moves and changes that the search for copies is made for; those of `BEYOND` are not in its grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from synthrad.metrics.copies import moved


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Either sign, magnitude from low to high."""
    return float(rng.uniform(low, high) * rng.choice([-1, 1]))


def _move(image: Tensor, angle: float = 0.0, log_scale: float = 0.0, right: float = 0.0, down: float = 0.0, mirrored: float = 1.0) -> Tensor:
    return moved(image[None], torch.tensor([[angle, log_scale, right, down, mirrored]], dtype=torch.float32))[0]


def exact(image: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """As it is."""
    return image


def flipped(image: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """Left and right exchanged."""
    return image.flip(-1)


def shifted(image: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """By 2 to 8 % of the shorter side in each direction."""
    return _move(image, right=_uniform(rng, 0.04, 0.16), down=_uniform(rng, 0.04, 0.16))


def rotated(image: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """By 2 to 9 degrees."""
    return _move(image, angle=math.radians(_uniform(rng, 2, 9)))


def rescaled(image: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """To 83 to 95 % or 105 to 120 % of its size."""
    return _move(image, log_scale=math.log(rng.uniform(1.05, 1.2)) * rng.choice([-1, 1]))


def cropped(image: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """A part of 83 to 95 % of each side, anywhere in the image."""
    scale = rng.uniform(1.05, 1.2)
    room = np.array(image.shape[:0:-1]) / min(image.shape[1:]) * (scale - 1)  # right, down; in half shorter sides
    right, down = rng.uniform(-room, room)
    return _move(image, log_scale=math.log(scale), right=float(right), down=float(down))


def intensity(image: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """Gamma 0.6 to 1.6, contrast 70 to 100 %, brightness by up to a tenth."""
    grey = ((image + 1) / 2).clamp(0, 1) ** math.exp(rng.uniform(math.log(0.6), math.log(1.6)))
    return (grey * 2 - 1) * rng.uniform(0.7, 1) + rng.uniform(-0.2, 0.2)


def noised(image: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """Gaussian noise of 4 to 8 % of the range."""
    return image + torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32)) * rng.uniform(0.08, 0.16)


def blurred(image: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """Halved and enlarged again, as by a poor autoencoder."""
    size = [max(1, s // 2) for s in image.shape[1:]]
    return F.interpolate(F.interpolate(image[None], size, mode="area"), image.shape[1:], mode="bilinear")[0]


def elastic(image: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """Bent: a smooth field with deviations of 2 % of the shorter side."""
    h, w = image.shape[1:]
    coarse = torch.from_numpy(rng.normal(0, 0.04, (1, 2, 5, 5)).astype(np.float32))
    field = F.interpolate(coarse, (h, w), mode="bicubic")[0]
    grid = F.affine_grid(torch.eye(2, 3)[None], [1, 1, h, w], align_corners=False)
    bend = torch.stack([field[0] * min(h, w) / w, field[1] * min(h, w) / h], -1)
    return F.grid_sample(image[None], grid + bend, padding_mode="border", align_corners=False)[0]


def half(image: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """Blended in equal parts with another image."""
    return (image + other) / 2


Leak = Callable[[Tensor, Tensor, np.random.Generator], Tensor]
WITHIN: dict[str, Leak] = {f.__name__: f for f in (exact, flipped, shifted, rotated, rescaled, cropped, intensity, noised)}
BEYOND: dict[str, Leak] = {f.__name__: f for f in (blurred, elastic, half)}
GREY_LEVELS = 255


def plant(leak: str, images: Tensor, others: Tensor, seed: int) -> Tensor:
    """Copies of images [n, C, H, W]; the same seed gives the same ones.

    Args:
        leak: one of WITHIN or BEYOND. others: [m, C, H, W], images of the set that the copies are planted in.
    """
    rng = np.random.default_rng([seed, sum(leak.encode())])
    made = [{**WITHIN, **BEYOND}[leak](i, others[rng.integers(len(others))], rng) for i in images]
    return ((torch.stack(made).clamp(-1, 1) + 1) / 2 * GREY_LEVELS).round() / GREY_LEVELS * 2 - 1

"""The averaged weights of a generator, which are the ones that sample."""

from __future__ import annotations

import torch


def ramped_half_life(half_life_images: float, images_seen: int, rampup: float) -> float:
    """Half life of the averaged generator: at most `rampup` times the images shown so far, at least 1 image."""
    return min(half_life_images, max(images_seen * rampup, 1.0))


def half_life_decay(images: int, half_life_images: float) -> float:
    """Decay of a moving average that halves old weights every `half_life_images` images, for a step of `images`."""
    return 0.5 ** (images / max(half_life_images, 1e-8))


@torch.no_grad()
def update_average(average: torch.nn.Module, source: torch.nn.Module, decay: float) -> None:
    """average <- decay average + (1 - decay) source for parameters; buffers are copied."""
    for a, s in zip(average.parameters(), source.parameters(), strict=True):
        a.lerp_(s.to(a.dtype), 1 - decay)
    for a, s in zip(average.buffers(), source.buffers(), strict=True):
        a.copy_(s)

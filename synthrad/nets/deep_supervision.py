"""What nets give in training that are supervised at several places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Supervised(NamedTuple):
    """Logits of the head and of further places of a net, each compared with the masks on its own grid.

    Nets give it while they train, and the head's logits alone otherwise.
    """

    logits: Sequence[Tensor]  # the head's first, [B, out_channels, H, W] at the picture's size; then others, [B, out_channels, h, w]
    weights: Sequence[float]  # of the loss of each


def supervised(found: Tensor | Supervised) -> Supervised:
    """What a net gave, in training or not."""
    return found if isinstance(found, Supervised) else Supervised([found], [1.0])


def masks_at(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Masks [B, L, H, W] at the nearest pixels of another grid; layers that are unknown (-1) stay so."""
    if tuple(masks.shape[-2:]) == tuple(size):
        return masks
    rows, columns = (((torch.arange(n, device=masks.device) + 0.5) * whole / n).long() for n, whole in zip(size, masks.shape[-2:], strict=True))
    return masks[..., rows[:, None], columns]

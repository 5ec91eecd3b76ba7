"""Losses of nets that read pictures: labels that may be unknown, and layers whose structures exclude each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def label_loss(logits: Tensor, labels: Tensor, pos_weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy, mean over the known labels; 0 where none is known.

    Args:
        logits: [B, K]. labels: [B, K] of 0, 1 or NaN (unknown). pos_weight: [K], of the positives.
    """
    known = ~torch.isnan(labels)
    each = F.binary_cross_entropy_with_logits(logits.float(), labels.nan_to_num(0.0), pos_weight=pos_weight, reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def layers_loss(logits: Sequence[Tensor], masks: Tensor, dice_weight: float = 1.0) -> Tensor:
    """Cross-entropy plus Dice loss, mean over the layers that some image of the batch knows.

    Args:
        logits: of each layer [B, 1 + structures, H, W]. masks: int64 [B, L, H, W], -1 where a layer is unknown.
        dice_weight: weight of the Dice loss beside the cross-entropy.
    """
    losses = []
    for scores, target in zip(logits, masks.unbind(dim=1), strict=True):
        known = target.amin(dim=(1, 2)) >= 0
        if known.any():
            scores, target = scores[known].float(), target[known]
            losses.append(F.cross_entropy(scores, target) + dice_weight * dice_loss(scores, target))
    if not losses:
        return sum(s.sum() for s in logits) * 0.0  # no layer known in this batch: a zero that has a gradient
    return torch.stack(losses).mean()


def dice_loss(scores: Tensor, target: Tensor) -> Tensor:
    """1 - mean soft Dice of the structures that the batch holds, pixels summed over the batch (Milletari et al. 2016).

    A structure that no image of the batch shows has no overlap to raise; cross-entropy alone pushes it down there.

    Args:
        scores: logits [B, 1 + K, H, W]. target: int64 [B, H, W] in 0..K.
    """
    p = scores.softmax(dim=1)[:, 1:]
    t = F.one_hot(target, scores.shape[1]).movedim(-1, 1)[:, 1:].to(p.dtype)
    overlap, size = (p * t).sum((0, 2, 3)), (p + t).sum((0, 2, 3))
    there = t.sum((0, 2, 3)) > 0
    if not there.any():
        return overlap.sum() * 0.0
    return 1 - ((2 * overlap[there] + 1.0) / (size[there] + 1.0)).mean()

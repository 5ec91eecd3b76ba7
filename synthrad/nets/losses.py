"""Losses of nets that read pictures: labels that may be unknown, and layers whose structures exclude each other.

With `together` they are those of the batches of all processes as one, which a mean of the processes' losses is not: a batch
may know more labels than another, and Dice is a ratio of sums. Every process must call them then.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def sum_of_ranks(value: Tensor, together: bool) -> Tensor:
    """The sum over all processes, if together; its gradient is such that DDP's mean over processes is the gradient of the sum."""
    if not (together and torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    own, whole = value * torch.distributed.get_world_size(), value.detach().clone()
    torch.distributed.all_reduce(whole)
    return own + (whole - own.detach())


def label_loss(logits: Tensor, labels: Tensor, pos_weight: Tensor | None = None, together: bool = False) -> Tensor:
    """Binary cross-entropy, mean over the known labels; 0 where none is known.

    Args:
        logits: [B, K]. labels: [B, K] in [0, 1] (a share is a soft label) or NaN (unknown). pos_weight: [K], of the positives.
        together: see above.
    """
    known, exact = ~torch.isnan(labels), at_least_float(logits)
    weight = None if pos_weight is None else pos_weight.to(exact)
    each = F.binary_cross_entropy_with_logits(exact, labels.nan_to_num(0.0).to(exact), pos_weight=weight, reduction="none")
    return sum_of_ranks((each * known).sum(), together) / sum_of_ranks(known.sum(), together).clamp(min=1)


def at_least_float(logits: Tensor) -> Tensor:
    """float32, or float64 as it is."""
    return logits if logits.dtype == torch.float64 else logits.float()


def layers_loss(logits: Sequence[Tensor], masks: Tensor, dice_weight: float = 1.0, together: bool = False) -> Tensor:
    """Cross-entropy plus Dice loss, mean over the layers that some image of the batch knows.

    Args:
        logits: of each layer [B, 1 + structures, H, W]. masks: int64 [B, L, H, W], -1 where a layer is unknown.
        dice_weight: weight of the Dice loss beside the cross-entropy. together: see above.
    """
    losses = []
    for scores, target in zip(logits, masks.unbind(dim=1), strict=True):
        known = target.amin(dim=(1, 2)) >= 0
        scores, target = at_least_float(scores[known]), target[known]
        if pixels := int(sum_of_ranks(torch.tensor(target.numel(), device=scores.device), together)):
            entropy = sum_of_ranks(F.cross_entropy(scores, target, reduction="sum"), together) / pixels
            losses.append(entropy + dice_weight * dice_loss(scores, target, together))
    if not losses:
        return sum(s.sum() for s in logits) * 0.0  # no layer known in this batch: a zero that has a gradient
    return torch.stack(losses).mean()


def dice_loss(scores: Tensor, target: Tensor, together: bool = False) -> Tensor:
    """1 - mean soft Dice of the structures that the batch holds, pixels summed over the batch (Milletari et al. 2016).

    A structure that no image of the batch shows has no overlap to raise; cross-entropy alone pushes it down there.

    Args:
        scores: logits [B, 1 + K, H, W]. target: int64 [B, H, W] in 0..K. together: see above.
    """
    p = scores.softmax(dim=1)[:, 1:]
    t = F.one_hot(target, scores.shape[1]).movedim(-1, 1)[:, 1:].to(p.dtype)
    overlap, size = (sum_of_ranks(x.sum((0, 2, 3)), together) for x in (p * t, p + t))
    there = sum_of_ranks(t.sum((0, 2, 3)), together) > 0
    if not there.any():
        return overlap.sum() * 0.0
    return 1 - ((2 * overlap[there] + 1.0) / (size[there] + 1.0)).mean()

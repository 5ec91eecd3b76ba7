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


def focusing_loss(logits: Tensor, labels: Tensor, gamma: tuple[float, float] = (2.0, 2.0), weight: tuple[float, float] = (1.0, 1.0), margin: float = 0.0,
                  together: bool = False) -> Tensor:
    """Cross-entropy whose easy labels count less, mean over the known labels; 0 where none is known.

    -w+ t (1 - p)^g+ log p - w- (1 - t) q^g- log(1 - q) with q = max(p - margin, 0): focal loss (Lin et al. 2017, eq. 5) with equal gammas and weights
    (alpha, 1 - alpha), asymmetric loss (Ridnik et al. 2021, eq. 7) with g- > g+ and a margin. A soft label t weighs both terms.

    Args:
        logits, labels, together: as of `label_loss`. gamma, weight: of present and of absent findings. margin: probability below which an
            absent finding costs nothing.
    """
    known, x = ~torch.isnan(labels), at_least_float(logits)
    t, p = labels.nan_to_num(0.0).to(x), x.sigmoid()
    q = (p - margin).clamp(min=1e-8)  # not 0: the slope of a power below 1 is infinite there
    rest = F.logsigmoid(-x) if margin == 0 else torch.log1p(-q)
    there = weight[0] * F.sigmoid(-x) ** gamma[0] * F.logsigmoid(x)
    absent = weight[1] * q ** gamma[1] * rest
    return sum_of_ranks((-(t * there + (1 - t) * absent) * known).sum(), together) / sum_of_ranks(known.sum(), together).clamp(min=1)


def balanced_loss(logits: Tensor, labels: Tensor, weights: Tensor, together: bool = False) -> Tensor:
    """Binary cross-entropy with a weight for present and one for absent findings of each class, mean over the known labels.

    Args:
        logits, labels, together: as of `label_loss`. weights: [2, K], of present and of absent findings; see `effective_number_weights`.
    """
    known, x = ~torch.isnan(labels), at_least_float(logits)
    t, (there, absent) = labels.nan_to_num(0.0).to(x), weights.to(x)
    each = -(t * there * F.logsigmoid(x) + (1 - t) * absent * F.logsigmoid(-x))
    return sum_of_ranks((each * known).sum(), together) / sum_of_ranks(known.sum(), together).clamp(min=1)


def effective_number_weights(counts: Tensor, beta: float) -> Tensor:
    """Weights of class-balanced loss (Cui et al. 2019, eq. 4), each finding as a problem of two classes: present and absent.

    (1 - beta) / (1 - beta^n), scaled so that the two weights of a finding sum to 2; a side without rows weighs as one with one row.

    Args:
        counts: float [2, K], training rows with and without each finding. beta: 0 (all rows alike) to below 1 (by inverse counts).

    Returns:
        [2, K].
    """
    exact = counts.double().clamp(min=1)
    weights = 1 / -torch.expm1(exact * torch.log(torch.tensor(beta, dtype=torch.float64))) if beta > 0 else torch.ones_like(exact)
    return (2 * weights / weights.sum(0)).to(counts.dtype)


def prior_log_odds(counts: Tensor) -> Tensor:
    """Log-odds [K] of each finding among the training rows, half a row added to both sides: what logit adjustment adds to logits in training.

    Menon et al. 2021 (eq. 10) add tau log prior to the logits of a softmax; of two classes with the logits x and 0 that is tau times these log-odds. The
    logits themselves then rank findings as if all were as often present as absent.

    Args:
        counts: float [2, K], training rows with and without each finding.
    """
    return torch.log(counts[0] + 0.5) - torch.log(counts[1] + 0.5)


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

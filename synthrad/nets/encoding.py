"""Masks, labels and attributes as channels and vectors that the nets see, and back.

A layer of S structures is `onehot`, S + 1 channels with background first, read back as the largest of them, or
`scalar`, one channel with value 2 k / S - 1 for mask pixel k, read back as the nearest k: 1 channel instead of 33 for
numbered teeth, but between two structures it passes through those numbered between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from synthrad.conditioning import Condition
from synthrad.errors import InputError

MaskEncoding = Literal["onehot", "scalar"]
LEAST_DEVIATION = 0.2  # of a label or value that 4 % or fewer of the images have: rarer ones do not outweigh all others


def encode_masks(masks: Tensor, structures: Sequence[int], encoding: MaskEncoding) -> Tensor:
    """int64 [N, L, H, W] without unknown layers to float [N, mask channels, H, W] in [-1, 1].

    Args:
        structures: number of structures of each layer.
    """
    parts = []
    for i, s in enumerate(structures):
        if encoding == "onehot":
            parts.append(torch.nn.functional.one_hot(masks[:, i], s + 1).permute(0, 3, 1, 2).float() * 2 - 1)
        else:
            parts.append(masks[:, i : i + 1].float() * 2 / s - 1)
    return torch.cat(parts, 1) if parts else masks.new_zeros((len(masks), 0, *masks.shape[2:]), dtype=torch.float)


def squash_masks(channels: Tensor, structures: Sequence[int], encoding: MaskEncoding) -> Tensor:
    """Mask channels as the discriminator sees them: one-hot layers by 2 softmax(2 x) - 1 (slope 1 at an edge), [N, C, H, W].

    It keeps the order of channels, so that decode_masks gives the same mask before and after.
    """
    if encoding == "scalar":
        return channels
    layers = channels.split([s + 1 for s in structures], 1) if structures else []
    return torch.cat([2 * torch.softmax(2 * x, 1) - 1 for x in layers], 1) if layers else channels


def decode_masks(channels: Tensor, structures: Sequence[int], encoding: MaskEncoding) -> Tensor:
    """The inverse of encode_masks: int64 [N, L, H, W]."""
    parts, start = [], 0
    for s in structures:
        if encoding == "onehot":
            parts.append(channels[:, start : start + s + 1].argmax(1))
            start += s + 1
        else:
            parts.append(((channels[:, start] + 1) / 2 * s).round().clamp(0, s).long())
            start += 1
    empty = torch.zeros((len(channels), 0, *channels.shape[2:]), dtype=torch.long, device=channels.device)
    return torch.stack(parts, 1) if parts else empty


def encode_condition(condition: Condition, n: int, classes: Sequence[str], attributes: Mapping[str, Sequence[str]]) -> Tensor:
    """[n, 2 K + values]: each label as (value, known), then each attribute one-hot over its training values.

    An unknown label is (0, 0); an unknown attribute value (blank or absent) is all zeros.

    Raises:
        InputError: an attribute value that the generator has never seen, or a label that is not 0, 1 or unknown.
    """
    labels = np.full((n, len(classes)), np.nan) if condition.labels is None else np.asarray(condition.labels, dtype=float)
    rows = list(condition.attributes) or [{}] * n
    if labels.shape != (n, len(classes)) or len(rows) != n:
        raise InputError("condition", f"labels {labels.shape}, {len(rows)} attribute rows", f"({n}, {len(classes)}) and {n}")
    if (strange := labels[~(np.isin(labels, (0, 1)) | np.isnan(labels))]).size:
        raise InputError("condition: labels", str(strange[0]), "0, 1 or NaN (unknown)")
    parts = [np.nan_to_num(labels), (~np.isnan(labels)).astype(float)]
    for name, values in attributes.items():
        one_hot = np.zeros((n, len(values)))
        for i, row in enumerate(rows):
            value = row.get(name, "")
            if value and value not in values:
                raise InputError(f"condition: attribute {name!r}", repr(value), f"one of {list(values)} or blank",
                                 "ask only for values that the generator was trained on")
            if value:
                one_hot[i, list(values).index(value)] = 1
        parts.append(one_hot)
    return torch.from_numpy(np.concatenate(parts, 1)).float()


def forget(c: Tensor, classes: int, values: Sequence[int], rate: float) -> Tensor:
    """Condition vectors [n, 2 K + values] in which some images have some labels and attributes made unknown.

    An image is chosen with probability `rate`; the number of parts that it forgets is uniform, so that conditions of
    one known label and of none are learned too, also where the data knows every label.

    Args:
        classes: K. values: number of values of each attribute.
    """
    parts = classes + len(values)
    if not rate or not parts:
        return c
    gone = torch.rand(len(c), parts, device=c.device) < torch.rand(len(c), 1, device=c.device)
    gone &= torch.rand(len(c), 1, device=c.device) < rate
    sizes = torch.tensor(list(values), dtype=torch.long, device=c.device)
    columns = torch.cat([gone[:, :classes], gone[:, :classes], gone[:, classes:].repeat_interleave(sizes, 1)], 1)
    return c.masked_fill(columns, 0)


def standardise(c: Tensor, classes: int, values: Sequence[int], rates: Sequence[float] | None) -> Tensor:
    """Condition vectors [n, 2 K + values] as the nets see them: what differs between images is large, what all share is small.

    Nets scale an embedded condition to a fixed length. Of raw vectors the known bits, 1 for almost all images, would take
    most of that length, and two conditions that differ in one label would look alike (cosine 0.95 for five labels). So each
    entry gets mean 0 and variance 1 over the training images that it is known of (LeCun et al. 1998, "Efficient BackProp",
    section 4.3); what is unknown is 0, the mean; all known bits together have the length of one such entry.

    Args:
        classes: K. values: number of values of each attribute.
        rates: [K + values], the share of training images that have a label or value among those where it is known.
            None = leave the vectors as they are, as checkpoints have it that know no rates.
    """
    if rates is None or not c.shape[1]:
        return c
    mean = torch.tensor(list(rates), dtype=c.dtype, device=c.device)
    deviation = (mean * (1 - mean)).sqrt().clamp(min=LEAST_DEVIATION)
    labels, bits, attributes = c.split([classes, classes, c.shape[1] - 2 * classes], 1)
    known = [bits, *(group.sum(1, keepdim=True).expand_as(group) for group in attributes.split(list(values), 1))]
    scaled = (torch.cat([labels, attributes], 1) - mean) / deviation * torch.cat(known, 1)
    return torch.cat([scaled[:, :classes], bits / max(classes, 1) ** 0.5, scaled[:, classes:]], 1)

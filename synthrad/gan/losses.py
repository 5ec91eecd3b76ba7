"""Losses of StyleGAN2 (Karras et al. 2020, sections 2 and 3.2) as plain functions of logits and images."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(fake: Tensor) -> Tensor:
    """Non-saturating loss (Goodfellow et al. 2014): mean of -log sigmoid(D(G(z)))."""
    return F.softplus(-fake).mean()


def real_loss(real: Tensor) -> Tensor:
    """The discriminator's logistic loss of real pictures: mean of -log sigmoid(D(x))."""
    return F.softplus(-real).mean()


def fake_loss(fake: Tensor) -> Tensor:
    """The discriminator's logistic loss of fake pictures: mean of -log(1 - sigmoid(D(G(z))))."""
    return F.softplus(fake).mean()


def both(loss: Callable[[Tensor], Tensor], logits: Tensor, share: float) -> Tensor:
    """A loss of logits [N], or of [N, 2]: that of pictures alone plus `share` times that under their conditions.

    Shahbazi et al. 2022, "Collapse by conditioning", section 3: the sum stays when share has reached 1.
    """
    return loss(logits) if logits.ndim == 1 else loss(logits[:, 0]) + share * loss(logits[:, 1])


def r1_penalty(logits: Tensor, images: Tensor, gamma: float) -> Tensor:
    """R1 (Mescheder et al. 2018): gamma / 2 times the mean squared norm of the gradient of D at real images.

    Args:
        logits: [N], computed from `images` [N, C, H, W], which must require a gradient.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gamma / 2 * gradient.square().sum((1, 2, 3)).mean()


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor | None = None, create_graph: bool = True) -> Tensor:
    """|J^T y| of eq. 4 with y ~ N(0, I) / sqrt(H W), a root mean square over the styles of all layers.

    Args:
        images: [N, C, H, W], computed from ws [N, layers, D], which must require a gradient.
        noise: y times sqrt(H W); None draws it.
        create_graph: off where the lengths themselves are all that is wanted.

    Returns:
        [N].
    """
    noise = torch.randn_like(images) if noise is None else noise
    noise = noise / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=create_graph)
    return (gradient.square().sum(2).mean(1) + 1e-12).sqrt()


def path_penalty(lengths: Tensor, mean: Tensor, decay: float = 0.01, batch_mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Eq. 4: mean squared distance of path lengths from their running mean.

    Args:
        batch_mean: mean length of the whole batch, where `lengths` are a part of it.

    Returns:
        the penalty, and the new running mean (detached).
    """
    fresh = mean.lerp((lengths.detach().mean() if batch_mean is None else batch_mean).to(mean.dtype), decay)
    return (lengths - fresh).square().mean(), fresh

"""What a net is asked to predict of a noised picture, how the loss weighs it, and the picture that an answer implies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from synthrad.diffusion.schedules import Schedule

Prediction = Literal["v", "epsilon", "x0", "velocity"]


def target_of(prediction: Prediction, picture: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What the net should answer.

    Args:
        prediction: epsilon, the noise (Ho et al. 2020); x0, the picture; v = alpha noise - sigma picture, for schedules that
            keep the variance (Salimans and Ho 2022, appendix D); velocity = noise - picture, for a rectified flow (Liu et
            al. 2023).
        alpha, sigma: of each picture, broadcast over it.
    """
    return {"epsilon": lambda: noise, "x0": lambda: picture, "v": lambda: alpha * noise - sigma * picture,
            "velocity": lambda: noise - picture}[prediction]()


def picture_of(prediction: Prediction, answer: Tensor, noised: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The picture x_0 that an answer implies; the inverse of `target_of` in noised = alpha picture + sigma noise.

    For epsilon at alpha = 0 the answer says nothing of the picture: NaN or infinite (generators.diffusion refuses the pair).
    """
    return {"epsilon": lambda: (noised - sigma * answer) / alpha, "x0": lambda: answer,
            "v": lambda: alpha * noised - sigma * answer, "velocity": lambda: noised - sigma * answer}[prediction]()


def weight_of(prediction: Prediction, alpha: Tensor, sigma: Tensor, min_snr: float | None) -> Tensor:
    """Weight of the squared error of an answer: 1, or min-SNR (Hang et al. 2023, eq. 8, and section 3.4 for v).

    The error of the picture is weighted by min(SNR, gamma), SNR = (alpha / sigma)^2: less than by the plain loss of epsilon
    where there is little noise, where that loss spends most of a net's capacity on what cannot be seen.

    Args:
        min_snr: gamma, 5 in the paper; None = no weights.
    """
    if min_snr is None:
        return torch.ones_like(alpha)
    snr = alpha.square() / sigma.square().clamp(min=1e-12)
    kept = snr.clamp(max=min_snr)
    # squared errors of picture and answer differ by this factor
    scale = {"epsilon": snr, "x0": torch.ones_like(snr), "v": snr + 1, "velocity": 1 / sigma.square().clamp(min=1e-12)}[prediction]
    return kept / scale.clamp(min=1e-12)


def noised_loss(net: Callable[[Tensor, Tensor], Tensor], picture: Tensor, noise: Tensor, t: Tensor, schedule: Schedule,
                prediction: Prediction, min_snr: float | None = None) -> Tensor:
    """The squared error of the net's answers, mean over channels and pixels, weighted: one number a picture, [n].

    Args:
        net: (noised pictures [n, C, h, w], times [n]) to answers of the pictures' shape.
        picture: x_0. noise: standard normal, of its shape. t: in [0, 1].
    """
    alpha, sigma = (a.to(picture).view(-1, *[1] * (picture.dim() - 1)) for a in schedule(t))
    answer = net(alpha * picture + sigma * noise, t)
    error = (answer.to(picture.dtype) - target_of(prediction, picture, noise, alpha, sigma)).square().flatten(1).mean(1)
    return error * weight_of(prediction, alpha.flatten(), sigma.flatten(), min_snr)


def spread_times(n: int, at: Literal["uniform", "logit_normal"], generator: torch.Generator | None = None,
                 device: torch.device | str = "cpu") -> Tensor:
    """Times of a training batch, [n], spread evenly over the batch so that losses of batches differ less.

    One random offset for all, as in Kingma et al. 2021 (appendix I.1); each time by itself is distributed as if drawn alone.

    Args:
        at: uniform in (0, 1), or logit_normal, more of the middle (Esser et al. 2024, eq. 19, mean 0, deviation 1).
    """
    offset = torch.rand((), generator=generator, dtype=torch.float64, device=device)
    u = (torch.arange(n, dtype=torch.float64, device=device) / n + offset) % 1.0
    u = u[torch.randperm(n, generator=generator, device=device)]
    if at == "logit_normal":
        return torch.sigmoid(torch.special.ndtri(u.clamp(1e-9, 1 - 1e-9)))
    return u

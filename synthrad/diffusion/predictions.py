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
    """Weight of the squared error of an answer: 1, or min-SNR (Hang et al. 2023).

    The plain loss of an answer weighs the error of the picture that it implies by SNR = (alpha / sigma)^2 for epsilon, SNR + 1
    for v and 1 / sigma^2 for velocity. Where there is little noise that is most of the loss, spent on what cannot be seen, so
    the weight of the picture gets min(SNR, gamma) in place of SNR: for epsilon this is the paper's (eq. 8), for v and x0 it is
    min(SNR, gamma) + 1, for velocity the square of 1 + min(alpha / sigma, sqrt gamma). The paper's min(SNR, gamma) for v as
    well would be 0 where nothing of the picture is left, and leave the first step of a sampler, which sets the brightness,
    untaught.

    Args:
        min_snr: gamma, 5 in the paper; None = no weights.
    """
    if min_snr is None:
        return torch.ones_like(alpha)
    quiet = sigma.square().clamp(min=1e-12)
    snr = alpha.square() / quiet
    bounded = snr.clamp(max=min_snr)
    return {"epsilon": lambda: (min_snr / snr.clamp(min=1e-12)).clamp(max=1.0), "v": lambda: (bounded + 1) / (snr + 1),
            "x0": lambda: bounded + 1, "velocity": lambda: (quiet * (1 + min_snr**0.5) ** 2).clamp(max=1.0)}[prediction]()


def noised_loss(net: Callable[[Tensor, Tensor], Tensor], picture: Tensor, noise: Tensor, t: Tensor, schedule: Schedule,
                prediction: Prediction, min_snr: float | None = None) -> Tensor:
    """The squared error of the net's answers, mean over channels and pixels, weighted: one number a picture, [n].

    Args:
        net: (noised pictures [n, C, h, w], times [n]) to answers of the pictures' shape.
        picture: x_0. noise: standard normal, of its shape. t: in [0, 1]; the net gets them on the picture's device.
    """
    alpha, sigma = (a.to(picture).view(-1, *[1] * (picture.dim() - 1)) for a in schedule(t))
    answer = net(alpha * picture + sigma * noise, t.float().to(picture.device) if picture.device.type == "mps" else t.to(picture.device))
    error = (answer.to(picture.dtype) - target_of(prediction, picture, noise, alpha, sigma)).square().flatten(1).mean(1)
    return error * weight_of(prediction, alpha.flatten(), sigma.flatten(), min_snr)


def spread_times(n: int, at: Literal["uniform", "logit_normal"], generator: torch.Generator | None = None) -> Tensor:
    """Times of a training batch, float64 [n] on the CPU (some devices have no float64), spread evenly over the batch so that losses of batches differ less.

    One random offset for all, as in Kingma et al. 2021 (appendix I.1); each time by itself is distributed as if drawn alone.

    Args:
        at: uniform in (0, 1), or logit_normal, more of the middle (Esser et al. 2024, eq. 19, mean 0, deviation 1).
    """
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    u = (torch.arange(n, dtype=torch.float64) / n + offset) % 1.0
    u = u[torch.randperm(n, generator=generator)]
    if at == "logit_normal":
        return torch.sigmoid(torch.special.ndtri(u.clamp(1e-9, 1 - 1e-9)))
    return u

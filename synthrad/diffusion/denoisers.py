"""Denoisers: a trained net as a function from noised pictures to the pictures that it expects, guided or not.

A denoiser is called with (x [n, C, h, w], t: a float in [0, 1]) and gives its estimate of x_0, in the shape of x. Samplers know
nothing else of a net (the idea of Karras et al. 2022, appendix, and of the k-diffusion library).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from synthrad.diffusion.predictions import Prediction, picture_of
from synthrad.diffusion.schedules import Schedule

Denoise = Callable[[Tensor, float], Tensor]
LEAST_ALPHA = 1e-4  # an answer of `epsilon` is divided by alpha: before that little of the picture is left it says nothing


def denoiser(net: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, prediction: Prediction) -> Denoise:
    """The denoiser of a net.

    Args:
        net: (x, times [n]) to answers.
    """

    def denoise(x: Tensor, t: float) -> Tensor:
        at = torch.full((len(x),), t, dtype=torch.float32 if x.device.type == "mps" else torch.float64, device=x.device)
        alpha, sigma = (float(a) for a in schedule(torch.tensor(t, dtype=torch.float64)))
        alpha = max(alpha, LEAST_ALPHA) if prediction == "epsilon" else alpha
        answer = net(x, at).to(x.dtype)
        return picture_of(prediction, answer, x, torch.tensor(alpha, dtype=x.dtype), torch.tensor(sigma, dtype=x.dtype))

    return denoise


def guided(conditional: Denoise, unconditional: Denoise, scale: float, interval: tuple[float, float] = (0.0, 1.0)) -> Denoise:
    """Classifier-free guidance (Ho and Salimans 2022, eq. 6, whose w is scale - 1): away from what no condition lets expect.

    Estimates of x_0 and answers are linear in each other at one time, so this is the guidance of the paper whatever the net
    predicts; it is no longer where either was clipped before.

    Args:
        scale: 1 = the condition as learned, 0 = none of it, more = exaggerated, with less variety.
        interval: times at which it is applied, elsewhere the scale is 1: guidance in the middle alone keeps variety
            (Kynkaanniemi et al. 2024).
    """
    if scale == 1:
        return conditional

    def denoise(x: Tensor, t: float) -> Tensor:
        told = conditional(x, t)
        if not interval[0] <= t <= interval[1]:
            return told
        untold = unconditional(x, t)
        return untold + scale * (told - untold)

    return denoise


def inpainting(denoise: Denoise, known: Tensor, inside: Tensor) -> Denoise:
    """A denoiser that knows the picture outside a region: there its estimate is that picture, whatever the net says.

    A sampler then takes the outside along the known picture's own path to it, so that the inside is always drawn beside what
    will stand there (the replacement of Song et al. 2021, appendix I.2, made on the estimate of x_0).

    Args:
        known: [n, C, h, w]. inside: [n, 1, h, w], 1 where the picture is drawn, 0 where it is known.
    """
    return lambda x, t: torch.where(inside > 0, denoise(x, t), known.to(x.dtype))


def clipped(denoise: Denoise, bound: float) -> Denoise:
    """A denoiser whose pictures are known to lie within +- bound (Ho et al. 2020 clip so)."""
    return lambda x, t: denoise(x, t).clamp(-bound, bound)

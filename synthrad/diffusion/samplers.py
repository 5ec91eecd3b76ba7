"""Samplers: plain functions that walk from noise to pictures with any denoiser and any schedule.

All take a denoiser (see diffusion.denoisers), a schedule, x at the first of `times` and decreasing times; all but PNDM end with
the denoiser's last estimate where the last time is 0. Those that add noise draw it from `noise()`, a function that gives a fresh
standard normal tensor in the shape of x, so that each picture can have noise of its own seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

from torch import Tensor

from synthrad.diffusion.denoisers import Denoise
from synthrad.diffusion.multistep import dpm_multistep, pndm, unipc
from synthrad.diffusion.schedules import Schedule, Spacing

Sampler = Literal["ddpm", "ddim", "pndm", "dpm_multistep", "unipc", "heun"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
Noise = Callable[[], Tensor]


def sample(sampler: Sampler, denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, noise: Noise) -> Tensor:
    """Pictures by a sampler of that name."""
    if sampler in ("ddpm", "ddim"):
        return ancestral(denoise, schedule, x, times, noise, eta=float(sampler == "ddpm"))
    return {"pndm": pndm, "dpm_multistep": dpm_multistep, "unipc": unipc, "heun": heun}[sampler](denoise, schedule, x, times)


def spacing_of(sampler: Sampler) -> Spacing:
    """How a sampler's times are spread (diffusion.schedules.times): even for those that were published so, and that reckon with it."""
    return "even" if sampler in ("ddpm", "ddim", "pndm") else "log_snr"


def ancestral(denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, noise: Noise, eta: float = 1.0) -> Tensor:
    """DDPM for eta = 1 (Ho et al. 2020, eq. 7, the smaller of their variances), DDIM for eta = 0 (Song et al. 2021, eq. 12, 16).

    Written for any alpha and sigma, with q(x_t | x_s, x_0) of two times s > t, so that steps may be of any length.
    """
    alphas, sigmas = (a.tolist() for a in schedule(times))
    for k, t in enumerate(times.tolist()[:-1]):
        picture = denoise(x, t)
        (a_s, a_t), (s_s, s_t) = alphas[k : k + 2], sigmas[k : k + 2]
        variance = s_t**2 * max(1 - (a_s * s_t / (a_t * s_s)) ** 2, 0.0)  # of x_t, known x_s and x_0
        spread = eta * math.sqrt(variance)
        toward = math.sqrt(max(s_t**2 - spread**2, 0.0)) / s_s
        x = a_t * picture + toward * (x - a_s * picture)
        if spread:
            x = x + spread * noise()
    return x


def heun(denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor) -> Tensor:
    """Heun's method on the probability flow (Karras et al. 2022, algorithm 1): two calls a step, no noise.

    Any schedule is a rectified flow in other coordinates, y = x / (alpha + sigma) at the time sigma / (alpha + sigma); the
    steps are taken there, where nothing is infinite at either end. The last step, to no noise, is Euler's.
    """
    alphas, sigmas = (a.tolist() for a in schedule(times))
    scale = [a + s for a, s in zip(alphas, sigmas, strict=True)]
    share = [s / c for s, c in zip(sigmas, scale, strict=True)]
    y, at = x / scale[0], times.tolist()
    for k in range(len(at) - 1):
        slope = (y - denoise(y * scale[k], at[k])) / share[k]
        step = share[k + 1] - share[k]
        ahead = y + step * slope
        if share[k + 1] > 0:
            slope = (slope + (ahead - denoise(ahead * scale[k + 1], at[k + 1])) / share[k + 1]) / 2
            ahead = y + step * slope
        y = ahead
    return y * scale[-1]

"""Samplers that remember: each step reads what the denoiser said at earlier ones, for higher order at one call a step.

They are called as those of diffusion.samplers are, and add no noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from synthrad.diffusion.denoisers import LEAST_ALPHA, Denoise
from synthrad.diffusion.schedules import Schedule

ADAMS = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))  # Adams-Bashforth, newest first


def dpm_multistep(denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): second order, one call of the denoiser a step, no noise.

    The first step, which has no estimate before it, and a step to or from a time without noise or without picture, where
    log(alpha / sigma) is infinite, are of first order.
    """
    alphas, sigmas = (a.tolist() for a in schedule(times))
    before, last_step = None, math.inf
    for k, t in enumerate(times.tolist()[:-1]):
        picture = denoise(x, t)
        (a_s, a_t), (s_s, s_t) = alphas[k : k + 2], sigmas[k : k + 2]
        step = _log_ratio(a_t, s_t) - _log_ratio(a_s, s_s)
        expected = picture
        if before is not None and math.isfinite(step) and math.isfinite(last_step):
            expected = picture + (picture - before) * (step / (2 * last_step))
        x = (s_t / s_s) * x + (a_t - a_s * s_t / s_s) * expected
        before, last_step = picture, step
    return x


def unipc(denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor, order: int = 2) -> Tensor:
    """UniPC (Zhao et al. 2023, their multistep UniPC-p for estimates of the picture, with B2(h) = e^h - 1), no noise.

    The predictor of order p reads the p newest estimates; the estimate at where it leads corrects it to order p + 1 and is the
    newest one of the next step: one call of the denoiser a step. Steps are of lower order where fewer estimates lie before
    them or, to a time without noise, fewer steps ahead; one from a time without picture is of first order and not corrected.

    Args:
        order: p, 2 or 3.
    """
    alphas, sigmas = (a.tolist() for a in schedule(times))
    logs, steps = [_log_ratio(*pair) for pair in zip(alphas, sigmas, strict=True)], len(alphas) - 1
    known: list[tuple[float, Tensor]] = []  # log(alpha / sigma) and picture, newest last
    start, used = x, 0  # of the step to here: x before it, and estimates that it read
    for k, t in enumerate(times.tolist()[:-1]):
        picture = denoise(x, t)
        if used:
            here = (logs[k], picture)
            x = _unified(start, alphas[k - 1 : k + 1], sigmas[k - 1 : k + 1], logs[k], [here, *known[-used:]])
        known = [*known, (logs[k], picture)][-order:]
        left = steps - k if sigmas[-1] <= 0 else order
        used = min(order, left, sum(math.isfinite(log) for log, _ in known))
        start, x = x, _unified(x, alphas[k : k + 2], sigmas[k : k + 2], logs[k + 1], known[-max(used, 1):])
    return x


def _unified(x: Tensor, alphas: Sequence[float], sigmas: Sequence[float], end: float, known: Sequence[tuple[float, Tensor]]) -> Tensor:
    """One step of UniPC: the predictor's, or the corrector's where one of `known` is at its end.

    Args:
        alphas, sigmas: at its start and its end. end: log(alpha / sigma) there.
        known: log(alpha / sigma) and estimates, the last one at the start.
    """
    (a_s, a_t), (s_s, s_t) = alphas, sigmas
    *others, (start, expected) = known
    step, picture = end - start, expected
    nodes = [(log - start) / step for log, _ in others]
    for node, weight, (_, other) in zip(nodes, _weights(step, nodes), others, strict=True):
        expected = expected + (weight / node) * (other - picture)
    return (s_t / s_s) * x + (a_t - a_s * s_t / s_s) * expected


def _weights(step: float, nodes: Sequence[float]) -> list[float]:
    """Of differences at `nodes` (in steps from the start), with which the step is exact for polynomials; of a single one 1/2, as in the paper."""
    if len(nodes) < 2:
        return [0.5] * len(nodes)
    whole = math.expm1(-step)
    phi, factorial, wanted = whole / -step - 1, 1, []
    for i in range(1, len(nodes) + 1):
        wanted.append(phi * factorial / whole)
        factorial *= i + 1
        phi = phi / -step - 1 / factorial
    powers = torch.tensor([[node**i for node in nodes] for i in range(len(nodes))], dtype=torch.float64)
    return torch.linalg.solve(powers, torch.tensor(wanted, dtype=torch.float64)).tolist()


def pndm(denoise: Denoise, schedule: Schedule, x: Tensor, times: Tensor) -> Tensor:
    """PNDM (Liu et al. 2022) with linear multisteps alone, known as PLMS: second order, for even times, no noise.

    The noise in the picture is extrapolated by Adams and Bashforth (equation 12), and the step is made with it as DDIM makes its own
    (equation 11). The first step takes the mean of the noise at both its ends, which is one more call of the denoiser; where
    nothing of the picture is in x yet it is DDIM's.
    """
    alphas, sigmas = (a.tolist() for a in schedule(times))
    at, found = times.tolist(), []  # noises, newest first
    for k, t in enumerate(at[:-1]):
        (a_s, a_t), (s_s, s_t) = alphas[k : k + 2], sigmas[k : k + 2]
        picture = denoise(x, t)
        noise = (x - a_s * picture) / s_s
        found = [noise, *found[:3]]
        mean = sum(w * e for w, e in zip(ADAMS[len(found) - 1], found, strict=True))
        if k == 0 and a_s > LEAST_ALPHA and s_t > 0:
            ahead = a_t * picture + s_t * noise
            mean = (noise + (ahead - a_t * denoise(ahead, at[1])) / s_t) / 2
        if k > 0 or a_s > LEAST_ALPHA:
            picture = picture - (s_s / a_s) * (mean - noise)  # what it is if `mean` is the noise
        x = a_t * picture + s_t * mean
    return x


def _log_ratio(alpha: float, sigma: float) -> float:
    return math.inf if sigma <= 0 else -math.inf if alpha <= 0 else math.log(alpha / sigma)

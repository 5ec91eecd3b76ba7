"""Noise schedules: how much of a picture and how much noise a noised picture holds at a time t in [0, 1].

x_t = alpha(t) x_0 + sigma(t) noise; t = 0 is the picture, t = 1 (nearly) noise. Times are continuous: a net trained at
1,000 steps has seen t = k / 1000. All but the rectified flow keep the variance: alpha^2 + sigma^2 = 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from synthrad.errors import InputError, near

Kind = Literal["cosine", "linear", "scaled_linear", "rectified_flow"]


class Schedule(Protocol):
    """What samplers and losses need of a schedule."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at times t, in the shape of t, float64."""
        ...


@dataclass(frozen=True)
class NoiseSchedule:
    """A schedule of one of the published kinds.

    Args:
        kind: cosine (Nichol and Dhariwal 2021, eq. 17); linear (Ho et al. 2020: beta from 1e-4 to 0.02 over 1,000 steps, in the
            continuous limit of Song et al. 2021, eq. 33); scaled_linear (the released Stable Diffusion: the square root of beta
            rises linearly, beta from 0.00085 to 0.012); rectified_flow (Liu et al. 2023: alpha = 1 - t, sigma = t).
        shift: factor of alpha / sigma at every time. Neighbouring pixels of larger pictures share more, so they need more
            noise: 64 / size (Hoogeboom et al. 2023, eq. 4); for a rectified flow this is the shift of Esser et al. 2024,
            eq. 23, by 1 / shift.
        zero_terminal_snr: nothing of the picture is left at t = 1 (Lin et al. 2024, algorithm 1), so that a sampler, which
            starts from noise alone, starts where training ended. The cosine and the rectified flow are so without it.

    Raises:
        InputError: an unknown kind, or a shift that is not above 0.
    """

    kind: Kind = "cosine"
    shift: float = 1.0
    zero_terminal_snr: bool = False

    def __post_init__(self) -> None:
        if self.kind not in _ALPHAS:
            raise InputError("schedule.kind", repr(self.kind), f"one of {', '.join(_ALPHAS)}", near(str(self.kind), list(_ALPHAS)))
        if not 0 < self.shift < math.inf:
            raise InputError("schedule.shift", str(self.shift), "a number above 0: 1 = as published, less = more noise")

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at times t, in the shape of t, float64."""
        t = t.double()
        alpha = _ALPHAS[self.kind](t)
        if self.kind == "rectified_flow":
            alpha, sigma = alpha * self.shift, t
            total = alpha + sigma
            return alpha / total, sigma / total
        if self.zero_terminal_snr:
            first, last = (_ALPHAS[self.kind](t.new_tensor(end)) for end in (0.0, 1.0))
            alpha = (alpha - last) * first / (first - last)
        sigma = (1 - alpha.square()).clamp(min=0).sqrt()
        alpha = alpha * self.shift
        total = torch.hypot(alpha, sigma)
        return alpha / total, sigma / total


Spacing = Literal["even", "log_snr"]
LEAST = 0.004  # sigma / alpha of the last step but one: half a step of 8 bits


def times(steps: int, spacing: Spacing = "even", schedule: Schedule | None = None, last: float = 1.0, most: float = 160.0) -> Tensor:
    """float64 [steps + 1] from `last` down to 0: where a sampler stands before, between and after its steps.

    Args:
        spacing: even in t, as ancestral samplers were published; or log_snr, even in log(alpha / sigma) (Lu et al. 2022): shorter
            steps where little noise is left, which is what few steps of higher order need.
        schedule: needed for log_snr.
        last: 1 = from pure noise; less = from a picture that was noised to that time.
        most: sigma / alpha from which the steps are spread, beyond which nothing of a picture is known. What all pixels share,
            such as the mean brightness, is known from the more noise the larger the picture: a first step that jumps over
            that gives every sample the mean brightness of the data. 160 for 64 px is 80 of Karras et al. 2022 over their
            deviation of the data, 0.5; divide it by the shift of a larger picture's schedule.
    """
    even = torch.linspace(last, 0.0, steps + 1, dtype=torch.float64)
    if spacing == "even" or steps < 2:
        return even
    alpha, sigma = (float(a) for a in schedule(torch.tensor(last, dtype=torch.float64)))
    most = most if alpha * most <= sigma else sigma / alpha
    ratios = torch.logspace(math.log10(most), math.log10(min(LEAST, most / 2)), steps, dtype=torch.float64)
    found = _time_of(ratios, schedule)
    return torch.cat([found.new_tensor([last]), found[1:], found.new_zeros(1)])


def _time_of(ratios: Tensor, schedule: Schedule) -> Tensor:
    """Times at which sigma / alpha has these values, by halving [0, 1] sixty times."""
    low, high = torch.zeros_like(ratios), torch.ones_like(ratios)
    for _ in range(60):
        middle = (low + high) / 2
        alpha, sigma = schedule(middle)
        early = sigma < ratios * alpha
        low, high = torch.where(early, middle, low), torch.where(early, high, middle)
    return (low + high) / 2


def _cosine(t: Tensor) -> Tensor:
    offset = 0.008  # section 3.2: at t = 0 the noise would else be smaller than a step of 8 bits
    at = lambda u: torch.cos((u + offset) / (1 + offset) * math.pi / 2)  # noqa: E731
    return (at(t) / at(t.new_zeros(()))).clamp(min=0)


def _linear(t: Tensor) -> Tensor:
    low, high = 0.1, 20.0  # 1,000 times beta
    return torch.exp(-0.5 * (low * t + (high - low) * t.square() / 2))


def _scaled_linear(t: Tensor) -> Tensor:
    low, high = math.sqrt(0.85), math.sqrt(12.0)  # square roots of 1,000 times beta
    grow = high - low
    return torch.exp(-0.5 * (low**2 * t + low * grow * t.square() + grow**2 * t**3 / 3))


_ALPHAS: dict[str, Callable[[Tensor], Tensor]] = {
    "cosine": _cosine, "linear": _linear, "scaled_linear": _scaled_linear, "rectified_flow": lambda t: 1 - t,
}

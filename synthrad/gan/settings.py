"""What a training derives from its sizes: learning rate, R1 weight, averaging, and Adam under lazy regularisation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Auto = Literal["auto"]


@dataclass(frozen=True)
class Settings:
    """Numbers that the training works with.

    Args:
        batch_images: real images a step, all processes together.
        lr: of both optimizers. r1_gamma: weight of R1. ema_half_life_images: of the averaged generator.
        derived: names of those that were derived from the sizes.
    """

    batch_images: int
    lr: float
    r1_gamma: float
    ema_half_life_images: float
    derived: frozenset[str] = frozenset()

    def __str__(self) -> str:
        said = lambda name, text: text + (" (auto)" if name in self.derived else "")  # noqa: E731
        return ", ".join([said("lr", f"lr {self.lr:g}"), said("r1_gamma", f"R1 weight {self.r1_gamma:.4g}"),
                          said("ema_half_life_images", f"EMA half life {self.ema_half_life_images:,.0f} images")])


def settle(size: Sequence[int], batch_images: int, lr: float | Auto, r1_gamma: float | Auto,
           ema_half_life_images: float | Auto) -> Settings:
    """Replace each "auto" by what the paper derives from the size (h, w) and the images of a step.

    R1: 0.0002 pixels / batch (Karras et al. 2020, limited data, appendix C). Learning rate: 0.0025, from 1024 px on
    0.002. Averaging: half an old weight is forgotten in 10 / 32 thousand images for each image of the batch. The last
    two are those of the automatic configuration that the paper's authors published.
    """
    pixels = size[0] * size[1]
    values = {"lr": 0.002 if max(size) >= 1024 else 0.0025, "r1_gamma": 0.0002 * pixels / batch_images,
              "ema_half_life_images": batch_images * 10_000 / 32}
    given = {"lr": lr, "r1_gamma": r1_gamma, "ema_half_life_images": ema_half_life_images}
    derived = frozenset(k for k, v in given.items() if v == "auto")
    return Settings(batch_images, **{k: float(values[k] if k in derived else given[k]) for k in given}, derived=derived)


def condition_share(images: int, ramp: Sequence[int] | None) -> float:
    """How much conditions count after so many images: 0 up to ramp[0], 1 from ramp[1] on, a line between; 1 without a ramp."""
    if ramp is None:
        return 1.0
    start, end = ramp
    return min(max((images - start) / (end - start), 0.0), 1.0)


def lazy_adam(parameters: Iterable[Tensor], lr: float, every: int) -> torch.optim.Adam:
    """Adam (betas 0 and 0.99) for steps of which one in `every` is followed by a step of a regulariser.

    With c = every / (every + 1), lr is c lr and each beta is beta^c (Karras et al. 2020, StyleGAN2, section 3.1 and appendix B): the
    every + 1 steps of a cycle then move and forget as much as `every` steps would. every = 0: no regulariser.
    """
    c = every / (every + 1) if every else 1.0
    return torch.optim.Adam(parameters, lr=lr * c, betas=(0.0**c, 0.99**c), eps=1e-8)

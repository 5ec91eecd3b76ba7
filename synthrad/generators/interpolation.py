"""A walk through a generator's latent space: from the image of one seed to that of the next.

How a seed, a condition and a truncation become styles is known to the generator's own `sample` alone. So its call of
`synthesize(ws, noise)` is listened to for the ends of the walk, and then given what lies between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synthrad.conditioning import Condition, Images
from synthrad.errors import InputError


def check_latent_path(module: Any) -> None:
    """Refuse a generator whose images are not functions of styles and noise alone.

    Raises:
        InputError: names the generator's class.
    """
    drawn = getattr(getattr(module, "generator_ema", None), "synthesize", None)
    if drawn is None or getattr(module, "wants_masks", False):
        raise InputError("--interpolate", f"{type(module).__name__}: this generator has no latent path",
                         "a StyleGAN2 that draws from labels and attributes", "look at single images of it: --out with --sheet")


def count_frames(images: int, steps: int, closed: bool) -> int:
    """How many pictures `walk` gives."""
    return images * steps if closed and images > 1 else (images - 1) * steps + 1


@torch.no_grad()
def walk(module: Any, condition: Condition, seeds: Sequence[int], steps: int, truncation: float = 1.0,
         closed: bool = False, batch: int = 16) -> Iterator[Images]:
    """Pictures from each seed's image to the next, `steps` a stretch, in batches of at most `batch`.

    Styles w are interpolated linearly (Karras et al. 2019, section 4.1), each from its own condition and seed. Noise maps
    go along the circle through both ends, which keeps their distribution, so that picture i * steps is what `sample`
    draws of seed i.

    Args:
        module: see check_latent_path.
        condition: labels and attributes of the seeds' images.
        truncation: as `sample` takes it.
        closed: go on from the last seed to the first, for an endless animation.

    Returns:
        Images as `sample` gives them, count_frames(...) in all.
    """
    check_latent_path(module)
    net, ends = module.generator_ema, []
    synthesize = net.synthesize

    def listen(ws: Tensor, noise: Sequence[Tensor], _: None) -> Tensor:  # no mask: check_latent_path
        ends.append((ws, *noise))
        return synthesize(ws, noise)

    for part in np.array_split(np.arange(len(seeds)), -(-len(seeds) // batch)):
        _sample(module, condition, seeds, part, truncation, listen)
    styles, *maps = [torch.cat(tensors) for tensors in zip(*ends, strict=True)]
    frames = np.arange(count_frames(len(seeds), steps, closed))
    for start in range(0, len(frames), batch):
        here = frames[start : start + batch]
        first = here // steps
        last = (first + 1) % len(seeds)  # beyond the end only where share is 0, or where the walk is closed
        share = torch.from_numpy(here % steps / steps).to(styles)
        ws = torch.lerp(styles[first], styles[last], share[:, None, None])
        noise = [_on_circle(m[first], m[last], share) for m in maps]
        yield _sample(module, condition, seeds, first, truncation, lambda *_: synthesize(ws, noise))  # noqa: B023


def _sample(module: Any, condition: Condition, seeds: Sequence[int], rows: np.ndarray, truncation: float,
            synthesize: Callable[[Tensor, Sequence[Tensor], None], Tensor]) -> Images:
    """`module.sample` of some seeds with another `synthesize`."""
    labels = None if condition.labels is None else condition.labels[rows]
    part = Condition(labels, [condition.attributes[i] for i in rows] if condition.attributes else ())
    with _in_place_of(module.generator_ema, synthesize):
        return module.sample(part, [seeds[i] for i in rows], truncation=truncation)


@contextmanager
def _in_place_of(net: Any, synthesize: Callable[[Tensor, Sequence[Tensor], None], Tensor]) -> Iterator[None]:
    net.synthesize = synthesize  # the instance's comes before the class's
    try:
        yield
    finally:
        del net.synthesize


def _on_circle(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Noise [n, 1, H, W] between a and b: cos and sin of `share` of a quarter turn keep the variance at 1."""
    angle = (share * (math.pi / 2))[:, None, None, None]
    return angle.cos() * a + angle.sin() * b

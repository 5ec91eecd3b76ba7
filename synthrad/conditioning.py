"""Condition, Images and the Generator protocol: what every generator takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Condition:
    """What is asked of the images of one call; a field that is None or empty is unconditioned.

    Args:
        labels: [n, K] float, 0, 1 or NaN (unknown), in Manifest.info.classes order.
        attributes: one mapping an image, attribute name -> value ("" or absent = unknown).
        masks: int64 [n, L, H, W].
        text: one prompt an image. image: float [n, C, H, W], for image-to-image; strength in [0, 1].
    """

    labels: np.ndarray | None = None
    attributes: Sequence[Mapping[str, str]] = field(default_factory=tuple)
    masks: torch.Tensor | None = None
    text: Sequence[str] | None = None
    image: torch.Tensor | None = None
    strength: float = 1.0


@dataclass(frozen=True)
class Images:
    """What a generator gives: image float [n, C, H, W] in [-1, 1], masks int64 [n, L, H, W] or None."""

    image: torch.Tensor
    masks: torch.Tensor | None = None


@runtime_checkable
class Generator(Protocol):
    """A GAN, a diffusion model, an autoencoder: noise of image k comes from seeds[k] alone."""

    def sample(self, condition: Condition, seeds: Sequence[int]) -> Images:
        """Draw len(seeds) images."""
        ...

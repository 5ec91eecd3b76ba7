"""Condition, Images and the Generator protocol: what every generator takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Condition:
    """What is asked of the images of one call; a field that is None or empty is unconditioned.

    Args:
        labels: [n, K] float, 0, 1 or NaN (unknown), in Manifest.info.classes order.
        attributes: one mapping an image, attribute name -> value ("" or absent = unknown).
        masks: int64 [n, L, H, W].
        text: one prompt an image.
        image: float [n, C, H, W] in [-1, 1] to start from, for a diffusion model; strength: the time of its noise, in (0, 1]:
            1 = nothing of the image is left but what `inside` keeps, less = more of it.
        inside: bool [n, H, W], where the image may change; None = everywhere. Outside it stays as it is, bit for bit.
    """

    labels: np.ndarray | None = None
    attributes: Sequence[Mapping[str, str]] = field(default_factory=tuple)
    masks: torch.Tensor | None = None
    text: Sequence[str] | None = None
    image: torch.Tensor | None = None
    strength: float = 1.0
    inside: torch.Tensor | None = None


@dataclass(frozen=True)
class Images:
    """What a generator gives: image float [n, C, H, W] in [-1, 1], masks int64 [n, L, H, W] or None."""

    image: torch.Tensor
    masks: torch.Tensor | None = None


@runtime_checkable
class Generator(Protocol):
    """A GAN, a diffusion model, an autoencoder: noise of image k comes from seeds[k] alone.

    One that draws from masks has a true `wants_masks`; its images carry the masks of the condition.
    """

    def sample(self, condition: Condition, seeds: Sequence[int], truncation: float = 1.0) -> Images:
        """Draw len(seeds) images; truncation in (0, 1]: 1 = as trained, less = closer to the mean picture."""
        ...


def size_attribute(structure: str) -> str:
    """The attribute that holds the size bin of `layer/structure`, so that a generator can be asked for a size."""
    return f"size({structure})"


def size_bins(areas: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """The size bin of each area, as cells and attributes write it.

    Args:
        areas: [n] share of the picture; NaN = unknown. edges: increasing, in (0, 1).

    Returns:
        object [n]: "..0.01" (above 0, below the first edge), "0.01..0.05", "0.05..", "none" (absent), "" (unknown).
    """
    ends = ["", *(repr(float(e)) for e in edges), ""]
    names = np.array([f"{a}..{b}" for a, b in zip(ends[:-1], ends[1:], strict=True)], dtype=object)
    values = names[np.searchsorted(edges, np.nan_to_num(areas), side="right")]
    values[areas == 0] = "none"
    values[np.isnan(areas)] = ""
    return values

"""What is random in a fake picture, mixing of styles, and the mean styles that truncation pulls towards."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

CENTRE_DRAWS = 1024  # latents in the mean style of a condition: its error is 1/32 of the spread of styles


class Latents(NamedTuple):
    """Everything that is random in n fake pictures.

    Args:
        z: [2, n, z_dim], two latents a picture. cuts: int64 [n], the first layer of the second one.
        noise: maps [n, 1, H, W], one a convolution.
    """

    z: Tensor
    cuts: Tensor
    noise: list[Tensor]

    def part(self, rows: slice) -> Latents:
        """Those of some of the pictures."""
        return Latents(self.z[:, rows], self.cuts[rows], [x[rows] for x in self.noise])


def draw_cuts(n: int, layers: int, probability: float, device: torch.device) -> Tensor:
    """int64 [n]: from which layer on a picture takes its second latent; `layers` = it has one latent only.

    With the given probability the layer is uniform in 1 ... layers - 1, so that both latents are used (Karras et al.
    2018, section 3.1).
    """
    cuts = torch.randint(1, layers, (n,), device=device)
    return torch.where(torch.rand(n, device=device) < probability, cuts, layers)


def mix_styles(w: Tensor, other: Tensor, cuts: Tensor, layers: int) -> Tensor:
    """[n, layers, D]: w before the layer `cuts`, other [n, D] from there on."""
    first = torch.arange(layers, device=w.device)[None] < cuts[:, None]
    return torch.where(first[:, :, None], w[:, None], other[:, None])


class Centres:
    """Mean styles of conditions: truncation pulls a picture towards the mean of its own condition.

    Towards the mean over all conditions, a picture would lose what was asked for together with its variety: a rare
    class would become the average picture (Dobler et al. 2022, "Art creation with multi-conditional StyleGANs"). The
    mean is over the same latents for every condition, one condition at a time, so that it does not depend on what
    else is drawn; it is computed once a condition and device, and anew when the mapping network has changed.
    """

    def __init__(self) -> None:
        self._known: dict[tuple, Tensor] = {}
        self._versions: tuple = ()

    @torch.no_grad()
    def of(self, mapping: torch.nn.Module, z_dim: int, c: Tensor) -> Tensor:
        """[n, w_dim] for conditions c [n, c_dim]; mapping takes (z, c)."""
        # every in-place change of a parameter (a training step, load_state_dict) raises its version
        versions = tuple((id(p), p._version) for p in mapping.parameters())
        if versions != self._versions:
            self._known, self._versions = {}, versions
        rows = []
        for row in c:
            key = (str(c.device), c.dtype, row.cpu().numpy().tobytes())
            if key not in self._known:
                self._known[key] = mean_style(mapping, z_dim, row)
            rows.append(self._known[key])
        return torch.stack(rows)


def mean_style(mapping: Callable[[Tensor, Tensor], Tensor], z_dim: int, c: Tensor) -> Tensor:
    """[w_dim]: mean of mapping(z, c) over CENTRE_DRAWS fixed latents, for one condition c [c_dim]."""
    z = np.random.Generator(np.random.PCG64(0)).standard_normal((CENTRE_DRAWS, z_dim), dtype=np.float32)
    w = mapping(torch.from_numpy(z).to(c), c.expand(CENTRE_DRAWS, -1))
    return w.double().mean(0).to(w.dtype)


def parts(n: int, wanted: int) -> list[slice]:
    """`wanted` parts of n pictures (n where there are fewer): picture k is in part k mod wanted.

    Taking every so many, and not neighbours, keeps the groups of nets.stylegan2.minibatch_stddev together: they are
    the same with and without parts wherever a part holds a whole number of groups.
    """
    step = min(wanted, n)
    return [slice(k, None, step) for k in range(step)]

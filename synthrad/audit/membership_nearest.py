"""The rung `membership/nearest`: do synthetic images lie nearer to training than to test patients? It needs the set alone.

Hilprecht et al. 2019 (section 4.1) count samples near a picture, and find the nearest one's distance to be what tells; Chen et al. 2020
(GAN-Leaks, eq. 12) calibrate it: a picture that is near to everything is no member for that, so its distance to a generator that never
saw it is taken off. Here real images of other patients stand for that generator. Distances are between directions of edges,
cell by cell, a space that neither search for copies works in.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from synthrad.audit.copying import Subjects, copy_rung
from synthrad.audit.leaks import plant
from synthrad.audit.membership import attack
from synthrad.audit.rungs import ALPHA, Rung
from synthrad.audit.sides import Sides
from synthrad.errors import InputError

NAME = "membership/nearest"
DIRECTIONS = 8  # of edges, over half a turn
CELLS = 8  # on the shorter side
LEAST = 1e-6  # below it two pictures are the same
CHUNK = 64  # pictures at once


def edges(images: Tensor) -> Tensor:
    """How much edge of each direction lies in each cell (histograms of oriented gradients, Dalal and Triggs 2005).

    Args:
        images: float [N, C, H, W], H and W at least 16.

    Returns:
        float32 [N, C DIRECTIONS h w] of unit length: of overlapping cells, CELLS on the shorter side; square roots of
        magnitudes, so that few hard edges do not outweigh all others.
    """
    n, channels, height, width = images.shape
    scale = CELLS / min(height, width)
    grid = (round(height * scale), round(width * scale))
    if not n:
        return torch.zeros(0, channels * DIRECTIONS * grid[0] * grid[1])
    found = [_edges(part.flatten(0, 1)[:, None].float(), grid).view(len(part), -1) for part in images.split(CHUNK)]
    return torch.cat([F.normalize(rows, eps=LEAST) for rows in found])  # over all channels: one by one they would add up to lengths above 1


def _edges(planes: Tensor, grid: tuple[int, int]) -> Tensor:
    smooth = F.avg_pool2d(F.pad(planes, (1, 1, 1, 1), mode="replicate"), 3, 1)
    padded = F.pad(smooth, (1, 1, 1, 1), mode="replicate")
    right, down = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2], padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    strength = torch.hypot(right, down).sqrt()
    turn = torch.atan2(down, right) / torch.pi % 1 * DIRECTIONS  # a direction and its opposite are one
    below = turn.floor()
    share = turn - below
    first = F.one_hot(below[:, 0].long() % DIRECTIONS, DIRECTIONS).permute(0, 3, 1, 2)
    second = F.one_hot((below[:, 0].long() + 1) % DIRECTIONS, DIRECTIONS).permute(0, 3, 1, 2)
    return F.adaptive_avg_pool2d(strength * ((1 - share) * first + share * second), grid).flatten(1)


class NearestSpace:
    """Nearest distances between edges, calibrated; a Space of audit.copying.

    Args:
        synthetic: [S, C, H, W]. real: [R, C, H, W]. other: [n, C, H, W], images of patients that are on neither side; None = not
            calibrated.
    """

    name, claims = NAME, ("exact", "flipped", "blurred")

    def __init__(self, synthetic: Tensor, real: Tensor, other: Tensor | None, seed: int):
        self.seed, self._images, self._synthetic_images = seed, real, synthetic
        self._views = [edges(real), edges(real.flip(-1))]
        self._synthetic = edges(synthetic)
        self._usual = np.zeros(len(real)) if other is None else np.log(self._distances(edges(other)).min(1))

    def _distances(self, drawn: Tensor) -> np.ndarray:
        """[R, drawn] to the nearer of both views."""
        correlation = torch.maximum(*(v @ drawn.T for v in self._views)).double().numpy()
        return np.sqrt(np.maximum(2 - 2 * correlation, LEAST))

    def best(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See copying.Space."""
        distance = self._distances(self._synthetic)
        index = distance.argmin(1)
        nearest = distance[np.arange(len(index)), index]
        return self._usual - np.log(nearest), index, nearest

    def planted(self, leak: str, chosen: np.ndarray) -> list[dict[int, float]]:
        """See copying.Space."""
        copies = edges(plant(leak, self._images[chosen], self._synthetic_images, self.seed))
        scores = self._usual[:, None] - np.log(self._distances(copies))
        return [dict(enumerate(column)) for column in scores.T]


def nearest_rung(sides: Sides, suffix: str = "", *, rungs: int, seed: int = 0, trials: int = 50) -> Rung:
    """The rung, with its power on planted copies.

    Args:
        suffix: of its name. rungs: of the whole audit.
    """
    try:
        subjects = Subjects(sides.subjects, sides.member, seed, ALPHA / rungs)
    except InputError as e:
        return Rung(NAME + suffix, reason=f"{e.found}; needs {e.expected}")
    space = NearestSpace(sides.synthetic, sides.real, sides.other, seed)
    rung, found = copy_rung(space, subjects, rungs=rungs, trials=trials, seed=seed)
    made = attack(found.scores, subjects.exchange)
    plain = "" if sides.other is not None else "; not calibrated: no patients in splits val and audit"
    return replace(rung, name=NAME + suffix, auc=made.auc, reason=made.said + plain, facts=made.facts)

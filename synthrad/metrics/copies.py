"""Copies: how much of each real image stands in any image of a set, through moves, contrast and grain.

The statistic of a pair is Pearson's correlation of the middle of the synthetic image with the real image under the best of
many moves (mirrored, turned, scaled, shifted; a crop is a scale and a shift). Both are first freed of their shading: at low
frequencies all radiographs of one body part are alike. Correlation does not see brightness and contrast.

The search has two stages. At a coarse size every move of a grid is one row of a matrix product. The best pairs of each real
image are then refined at a finer size by gradient ascent over angle, scale and shift, so that moves between the points of the
grid are found, too. Both stages treat every real image alike, whoever's it is: what members and non-members of a
training set reach can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from synthrad.errors import InputError

LEAST_SIZE = 16  # pixels on the shorter side: below it a middle says nothing
IMAGES_AT_ONCE = 256  # that are filtered
ROWS_AT_ONCE = 2048  # synthetic images of a matrix product
PAIRS_AT_ONCE = 128  # of the refinement
GRAIN, SHADING = 1 / 64, 1 / 8  # deviations of the two blurs, as shares of the shorter side
STEPS = 30  # of the refinement
LIMITS = (math.radians(20), math.log(1.5), 0.5, 0.5)  # of angle, log scale and shift in the refinement


@dataclass(frozen=True)
class Moves:
    """The grid of the coarse stage.

    Args:
        degrees: angles. scales: of the real image; above 1 the synthetic one shows a part of it.
        shift: largest, as a share of the shorter side; every pixel of the coarse size in between is tried.
        flip: left and right exchanged as well.
        window: share of each side, in the middle of the synthetic image, that is compared. What is moved stays known there.
        coarse, fine: pixels on the shorter side of the two stages, at most those of the images.
        refined: pairs of each real image that are refined.
    """

    degrees: tuple[float, ...] = (-10.0, -5.0, 0.0, 5.0, 10.0)
    scales: tuple[float, ...] = (0.8, 0.87, 0.93, 1.0, 1.08, 1.16, 1.25)
    shift: float = 0.1
    flip: bool = True
    window: float = 0.75
    coarse: int = 32
    fine: int = 64
    refined: int = 8


class Found(NamedTuple):
    """For each real image: its best similarity, in [-1, 1], the synthetic image that has it, and the move [angle in radians,
    log scale, shift right and down in half shorter sides, 1 or -1 for mirrored], and the coarse similarity from which on a pair was refined."""

    similarity: Tensor
    index: Tensor
    move: Tensor
    refined_from: Tensor


def band(images: Tensor, shorter: int) -> Tensor:
    """Images at that size without their grain (a Gaussian blur of GRAIN) and less their own shading (one of SHADING).

    Args:
        images: float [n, C, H, W]. shorter: pixels of the shorter side, at most the images' own.

    Returns:
        float32 [n, C, h, w].
    """
    scale = min(1.0, shorter / min(images.shape[2:]))
    size = [max(1, round(s * scale)) for s in images.shape[2:]]

    def one(part: Tensor) -> Tensor:
        small = part.float() if scale == 1 else F.interpolate(part.float(), size, mode="area")
        return _blur(small, GRAIN * min(size)) - _blur(small, SHADING * min(size))

    return torch.cat([one(part) for part in images.split(IMAGES_AT_ONCE)])


def _blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian, borders repeated; sigma in pixels."""
    reach = min(math.ceil(2.5 * sigma), min(images.shape[2:]) - 1)
    taps = torch.exp(-torch.arange(-reach, reach + 1, device=images.device).float().square() / (2 * sigma**2))
    taps = taps / taps.sum()
    flat = F.pad(images.flatten(0, 1)[:, None], (reach, reach, reach, reach), mode="replicate")
    flat = F.conv2d(F.conv2d(flat, taps[None, None, None, :]), taps[None, None, :, None])
    return flat[:, 0].unflatten(0, images.shape[:2])


def margins(size: tuple[int, int], window: float) -> tuple[int, int]:
    """Pixels above (and below), left (and right) of the window that is compared."""
    return tuple(max(1, round(s * (1 - window) / 2)) for s in size)


def middle(images: Tensor, window: float) -> Tensor:
    """The compared window of [n, C, h, w]: rows of mean 0 and norm 1, [n, C h' w'] (0 where flat)."""
    y, x = margins(tuple(images.shape[2:]), window)
    return _standard(images[..., y : images.shape[2] - y, x : images.shape[3] - x].flatten(1))


def _standard(rows: Tensor) -> Tensor:
    rows = rows - rows.mean(1, keepdim=True)
    return F.normalize(rows, eps=1e-3)


def moved(images: Tensor, move: Tensor) -> Tensor:
    """Real images as the synthetic one may show them.

    Args:
        images: [n, C, h, w]. move: [n, 5], see Found; differentiable.

    Returns:
        [n, C, h, w]; what lies outside repeats the border.
    """
    n, _, h, w = images.shape
    short = min(h, w)
    y, x = ((torch.arange(s, device=images.device) + 0.5) * 2 / short - s / short for s in (h, w))
    angle, log_scale, right, down, mirrored = move.unbind(1)
    cos, sin, zoom = angle.cos(), angle.sin(), (-log_scale).exp()
    px = x[None, None, :] - right[:, None, None]
    py = y[None, :, None] - down[:, None, None]
    sx = (cos[:, None, None] * px + sin[:, None, None] * py) * (zoom * mirrored)[:, None, None]
    sy = (-sin[:, None, None] * px + cos[:, None, None] * py) * zoom[:, None, None]
    grid = torch.stack([sx * (short / w), sy * (short / h)], -1)
    return F.grid_sample(images, grid.expand(n, h, w, 2), mode="bilinear", padding_mode="border", align_corners=False)


class _Coarse:
    """Every move of a real image as a row of a matrix.

    Args:
        synthetic: [S, C, h, w] at the coarse size (`band`).
    """

    def __init__(self, synthetic: Tensor, moves: Moves):
        self.rows, self.moves, self.size = middle(synthetic, moves.window), moves, tuple(synthetic.shape[2:])
        turned = [(math.radians(d), math.log(s), 0.0, 0.0, m) for m in ((1.0, -1.0) if moves.flip else (1.0,))
                  for d in moves.degrees for s in moves.scales]
        self.turned = torch.tensor(turned, device=synthetic.device)
        margin = margins(self.size, moves.window)
        self.reach = min(round(moves.shift * min(self.size)), *margin)
        steps = torch.arange(-self.reach, self.reach + 1, device=synthetic.device) * (2 / min(self.size))
        down, right = torch.meshgrid(-steps, -steps, indexing="ij")
        self.shifts = torch.stack([right.flatten(), down.flatten()], 1)

    def templates(self, real: Tensor) -> Tensor:
        """[moves, C h' w'] of a real image [C, h, w]: mean 0 and norm 1."""
        (y, x), (h, w), r = margins(self.size, self.moves.window), self.size, self.reach
        turned = moved(real.expand(len(self.turned), *real.shape), self.turned)
        wide = turned[..., y - r : h - y + r, x - r : w - x + r]
        windows = wide.unfold(2, h - 2 * y, 1).unfold(3, w - 2 * x, 1)  # [turned, C, shifts down, shifts right, h', w']
        return _standard(windows.permute(0, 2, 3, 1, 4, 5).reshape(len(self.turned) * len(self.shifts), -1))

    def scores(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """Best correlation of each synthetic image [S] with a real one [C, h, w], and the number of its move [S]."""
        templates = self.templates(real).T.contiguous()
        best = [(part @ templates).max(1) for part in self.rows.split(ROWS_AT_ONCE)]
        return torch.cat([b.values for b in best]), torch.cat([b.indices for b in best])

    def move(self, number: Tensor) -> Tensor:
        """[k, 5] of numbers [k]."""
        found = self.turned[number // len(self.shifts)].clone()
        found[:, 2:4] = self.shifts[number % len(self.shifts)]
        return found


class Pairs:
    """Similarities of real and synthetic images.

    Args:
        synthetic: float [S, C, H, W] in [-1, 1]; real: float [R, C, H, W] of the same size.
        moves: the grid.

    Raises:
        InputError: other shapes, images that are too small, values that are not finite.
    """

    def __init__(self, synthetic: Tensor, real: Tensor, moves: Moves = Moves()):  # noqa: B008
        for name, images in (("synthetic images", synthetic), ("real images", real)):
            if images.ndim != 4 or min(images.shape[2:]) < LEAST_SIZE or images.shape[1:] != real.shape[1:]:
                raise InputError(name, f"shape {tuple(images.shape)}", f"[n, C, H, W] of one size, at least {LEAST_SIZE} pixels a side")
            if not torch.isfinite(images).all():
                raise InputError(name, "NaN or Inf", "finite numbers")
        self.moves = moves
        self._coarse = _Coarse(band(synthetic, moves.coarse), moves)
        self._small = band(real, moves.coarse)
        self._synthetic, self._real = band(synthetic, moves.fine), band(real, moves.fine)

    def coarse(self) -> Iterator[tuple[Tensor, Tensor]]:
        """For each real image: similarity of every synthetic one at the coarse size, [S], and the moves, [S, 5]."""
        for real in self._small:
            values, numbers = self._coarse.scores(real)
            yield values, self._coarse.move(numbers)

    def best(self, progress: Callable[[int], object] | None = None) -> Found:
        """The most similar synthetic image of each real one; `progress` is called with the number of real images done."""
        count = min(self.moves.refined, len(self._synthetic))
        index, move, least = [], [], []
        for values, moves in self.coarse():
            best, top = values.topk(count)
            least.append(best[-1] if count < len(values) else best.new_full((), -1.0))
            index.append(top)
            move.append(moves[top])
            if progress:
                progress(1)
        index, move = torch.stack(index), torch.stack(move)
        real = torch.arange(len(index), device=index.device).repeat_interleave(count)
        similarity, refined = self.refine(index.flatten(), real, move.flatten(0, 1))
        similarity, refined = similarity.unflatten(0, index.shape), refined.unflatten(0, index.shape)
        at = similarity.argmax(1, keepdim=True)
        pick = at[..., None].expand(-1, -1, refined.shape[-1])
        return Found(similarity.gather(1, at)[:, 0], index.gather(1, at)[:, 0], refined.gather(1, pick)[:, 0], torch.stack(least))

    def refine(self, synthetic: Tensor, real: Tensor, move: Tensor) -> tuple[Tensor, Tensor]:
        """Similarity of given pairs at the fine size, [k], after ascent from given moves, and the moves, [k, 5].

        Args:
            synthetic, real: int [k], which images. move: [k, 5], where to start.
        """
        parts = [self._ascend(self._synthetic[s], self._real[r], m) for s, r, m in
                 zip(synthetic.split(PAIRS_AT_ONCE), real.split(PAIRS_AT_ONCE), move.split(PAIRS_AT_ONCE), strict=True)]
        values, moves = zip(*parts, strict=True)
        return torch.cat(values), torch.cat(moves)

    @torch.enable_grad()
    def _ascend(self, synthetic: Tensor, real: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        target = middle(synthetic, self.moves.window)
        limits = torch.tensor(LIMITS, device=start.device)
        place, mirrored = start[:, :4].clone().requires_grad_(), start[:, 4:]
        optimizer = torch.optim.Adam([place], lr=0.03)
        best, where = torch.full((len(start),), -1.0, device=start.device), start.clone()
        for step in range(STEPS + 1):
            move = torch.cat([place, mirrored], 1)
            value = (middle(moved(real, move), self.moves.window) * target).sum(1)
            better = value.detach() > best
            best, where = torch.where(better, value.detach(), best), torch.where(better[:, None], move.detach(), where)
            if step < STEPS:
                optimizer.param_groups[0]["lr"] = 0.03 * 0.5 * (1 + math.cos(math.pi * step / STEPS))
                optimizer.zero_grad()
                (-value.sum()).backward()
                optimizer.step()
                with torch.no_grad():
                    place.clamp_(-limits, limits)
        return best.clamp(-1, 1), where

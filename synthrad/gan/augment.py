"""Adaptive discriminator augmentation: one differentiable batched pipeline, and the control of its probability.

Written from Karras et al. 2020, "Training generative adversarial networks with limited data" (section 3, appendix B).
Geometry moves image and mask channels together; photometry touches image channels only. Each transform is applied to
each image independently with probability p (rotations with 1 - sqrt(1 - p) before and after the anisotropic scaling).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthrad.gan.resample import (
    HALF_TAPS,
    downsample2x,
    filter_each,
    half_band,
    mirror_pad,
    octave_bands,
    upsample2x,
)

PAD = 16  # mirrored pixels around the image while it is resampled: more than the filters reach


def _shift(x: Tensor, y: Tensor) -> Tensor:
    """[N, 3, 3] translations."""
    out = torch.eye(3, device=x.device).repeat(len(x), 1, 1)
    out[:, 0, 2], out[:, 1, 2] = x, y
    return out


def _scale(x: Tensor, y: Tensor) -> Tensor:
    """[N, 3, 3] scalings."""
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], 1))


def _rotate(angle: Tensor) -> Tensor:
    """[N, 3, 3] rotations (radians, from x to y)."""
    out = torch.eye(3, device=angle.device).repeat(len(angle), 1, 1)
    out[:, 0, 0] = out[:, 1, 1] = angle.cos()
    out[:, 1, 0] = angle.sin()
    out[:, 0, 1] = -angle.sin()
    return out


def _grid(inverse: Tensor, size: tuple[int, int], out: tuple[int, int], step: float, like: Tensor) -> Tensor:
    """[N, *out, 2] sampling grid of grid_sample (without corner alignment) for a picture of `size`.

    inverse: [N, 3, 3], output to input position in pixels from the centre; step: pixels between two output positions.
    """
    axes = [(torch.arange(k, device=like.device, dtype=like.dtype) - (k - 1) / 2) * step for k in out]
    y, x = torch.meshgrid(*axes, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], -1).reshape(1, -1, 3)
    moved = points @ inverse[:, :2].to(like.dtype).transpose(1, 2)
    half = torch.tensor([size[1] / 2, size[0] / 2], device=like.device, dtype=like.dtype)
    return (moved / half).reshape(len(inverse), *out, 2)


def blit(images: Tensor, inverse: Tensor) -> Tensor:
    """Copy pixels of [N, C, H, W] under maps that take pixel centres to pixel centres; mirrored outside."""
    size = (images.shape[2], images.shape[3])
    grid = _grid(inverse, size, size, 1.0, images)
    return F.grid_sample(images, grid, mode="nearest", padding_mode="reflection", align_corners=False)


def warp(images: Tensor, inverse: Tensor) -> Tensor:
    """Resample images under affine maps with the anti-aliased scheme of ADA: twice the resolution, bilinear, half.

    Args:
        images: [N, C, H, W].
        inverse: [N, 3, 3], output to input position in pixels from the centre (x right, y down).

    Returns:
        [N, C, H, W]; outside the image its mirror image.
    """
    h, w = images.shape[2:]
    taps = half_band()
    pad = min(PAD, h, w)
    fine = upsample2x(mirror_pad(images, pad), 2 * taps)[:, :, 2 * pad : -2 * pad, 2 * pad : -2 * pad]
    margin = HALF_TAPS // 2  # the low-pass filter of the way back needs pixels beyond the output
    grid = _grid(inverse, (h, w), (2 * (h + 2 * margin), 2 * (w + 2 * margin)), 0.5, images)
    fine = F.grid_sample(fine, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return downsample2x(fine, taps)[:, :, margin : margin + h, margin : margin + w]


class Augment(nn.Module):
    """The augmentation pipeline; each strength multiplies p, 0 leaves a transform out.

    Args:
        image_channels: how many of the channels are image; the rest are masks.
        flip: left-right flips. Off by default: sides carry meaning in radiographs (heart, tooth numbers).
        rotate90: quarter turns (half turns only unless the image is square). shift: by whole pixels, up to 1/8.
        scale, rotate, stretch, move: isotropic scale, free rotation, anisotropic scale, fractional translation.
        brightness, contrast, invert: invert is the luma flip (of one channel: the negative).
        hue, saturation: of three channels that are RGB; off by default.
        filter, noise, cutout: off by default, as the paper found best.
    """

    GEOMETRY = ("flip", "rotate90", "shift", "scale", "rotate", "stretch", "move")

    def __init__(self, image_channels: int, flip: float = 0, rotate90: float = 1, shift: float = 1, scale: float = 1,
                 rotate: float = 1, stretch: float = 1, move: float = 1, brightness: float = 1, contrast: float = 1,
                 invert: float = 1, hue: float = 0, saturation: float = 0, filter: float = 0, noise: float = 0,
                 cutout: float = 0):
        super().__init__()
        self.image_channels = image_channels
        self.strength = {k: float(v) for k, v in locals().items() if k not in ("self", "image_channels", "__class__")}
        if image_channels != 3 and (hue or saturation):
            raise ValueError(f"hue and saturation need 3 image channels, not {image_channels}")
        self.register_buffer("bands", octave_bands(), persistent=False)

    def forward(self, images: Tensor, p: float) -> Tensor:
        """[N, C, H, W] to the same shape; p in [0, 1]. Randomness from torch's global state."""
        if p <= 0:
            return images
        for move, inverse in ((blit, self.draw_blits(images, p)), (warp, self.draw_affine(images, p))):
            moved = (inverse != torch.eye(3, device=images.device)).flatten(1).any(1).nonzero()[:, 0]
            if len(moved):  # the others stay as they are, bit for bit
                images = images.index_copy(0, moved, move(images[moved], inverse[moved]).to(images.dtype))
        photo, masks = images[:, : self.image_channels], images[:, self.image_channels :]
        photo = self.corrupt(self.colour(photo, p), p)
        return torch.cat([photo, masks], 1)

    def _on(self, n: int, name: str, p: float, device: torch.device) -> Tensor:
        """[N] bool: images that get a transform."""
        return torch.rand(n, device=device) < p * self.strength[name]

    def draw_blits(self, images: Tensor, p: float) -> Tensor:
        """[N, 3, 3] maps from output to input, in pixels from the centre, of the pixel blits (appendix B)."""
        n, _, h, w = images.shape
        device = images.device
        one, zero = torch.ones(n, device=device), torch.zeros(n, device=device)
        g = torch.eye(3, device=device).repeat(n, 1, 1)
        if self.strength["flip"]:
            half = torch.rand(n, device=device) < 0.5
            g = g @ _scale(torch.where(self._on(n, "flip", p, device) & half, -one, one), one)
        if self.strength["rotate90"]:
            turns = torch.randint(4, (n,), device=device) if h == w else 2 * torch.randint(2, (n,), device=device)
            turns = torch.where(self._on(n, "rotate90", p, device), turns, 0)
            cos = torch.tensor([1.0, 0, -1, 0], device=device)[turns]  # exact, unlike cos(pi / 2)
            sin = torch.tensor([0.0, 1, 0, -1], device=device)[turns]
            turn = torch.eye(3, device=device).repeat(n, 1, 1)
            turn[:, 0, 0], turn[:, 1, 1], turn[:, 1, 0], turn[:, 0, 1] = cos, cos, sin, -sin
            g = g @ turn
        if self.strength["shift"]:
            t = (torch.rand(2, n, device=device) * 2 - 1) * 0.125
            on = self._on(n, "shift", p, device)
            g = g @ _shift(torch.where(on, (t[0] * w).round(), zero), torch.where(on, (t[1] * h).round(), zero))
        return g

    def draw_affine(self, images: Tensor, p: float) -> Tensor:
        """[N, 3, 3] maps from output to input, in pixels from the centre, of the general geometry (appendix B)."""
        n, _, h, w = images.shape
        device = images.device
        one, zero = torch.ones(n, device=device), torch.zeros(n, device=device)
        g = torch.eye(3, device=device).repeat(n, 1, 1)
        if self.strength["scale"]:
            s = torch.where(self._on(n, "scale", p, device), torch.exp2(0.2 * torch.randn(n, device=device)), one)
            g = g @ _scale(1 / s, 1 / s)
        turning = 1 - math.sqrt(1 - min(p * self.strength["rotate"], 1.0))  # P(before or after) = p
        for step in ("rotate", "stretch", "rotate"):
            if step == "rotate" and turning:
                angle = (torch.rand(n, device=device) * 2 - 1) * math.pi
                g = g @ _rotate(torch.where(torch.rand(n, device=device) < turning, angle, zero))
            elif step == "stretch" and self.strength["stretch"]:
                s = torch.where(self._on(n, "stretch", p, device), torch.exp2(0.2 * torch.randn(n, device=device)), one)
                g = g @ _scale(1 / s, s)
        if self.strength["move"]:
            on, t = self._on(n, "move", p, device), 0.125 * torch.randn(2, n, device=device)
            g = g @ _shift(torch.where(on, w * t[0], zero), torch.where(on, h * t[1], zero))
        return g

    def colour(self, x: Tensor, p: float) -> Tensor:
        """Brightness, contrast, luma flip, and for RGB hue and saturation, of [N, C, H, W] image channels."""
        n, c, device = len(x), x.shape[1], x.device

        def pick(name: str, value: Tensor, neutral: float) -> Tensor:
            chosen = torch.where(self._on(n, name, p, device), value, torch.full_like(value, neutral))
            return chosen[:, None, None, None].to(x.dtype)

        if self.strength["brightness"]:
            x = x + pick("brightness", 0.2 * torch.randn(n, device=device), 0.0)
        if self.strength["contrast"]:
            x = x * pick("contrast", torch.exp2(0.5 * torch.randn(n, device=device)), 1.0)
        if self.strength["invert"]:  # reflection about the plane orthogonal to the luma axis (1, ..., 1) / sqrt(C)
            flipped = pick("invert", torch.randint(2, (n,), device=device).float(), 0.0)
            x = x - 2 * flipped * x.mean(1, keepdim=True)
        if self.strength["hue"]:  # rotation about the luma axis (Rodrigues)
            angle = pick("hue", (torch.rand(n, device=device) * 2 - 1) * math.pi, 0.0)
            luma = x.mean(1, keepdim=True)
            across = (x.roll(1, 1) - x.roll(-1, 1)) / math.sqrt(3)
            x = luma + (x - luma) * angle.cos() + across * angle.sin()
        if self.strength["saturation"]:
            luma = x.mean(1, keepdim=True)
            x = luma + (x - luma) * pick("saturation", torch.exp2(torch.randn(n, device=device)), 1.0)
        assert x.shape[1] == c
        return x

    def corrupt(self, x: Tensor, p: float) -> Tensor:
        """Image-space filtering of four octave bands, noise and cutout, of [N, C, H, W] image channels."""
        n, _, h, w = x.shape
        device = x.device
        if self.strength["filter"] and min(h, w) >= self.bands.shape[1] // 2:
            power = torch.tensor([10.0, 1, 1, 1], device=device) / 13  # expected spectrum 1/f (appendix B)
            gain = torch.ones(n, 4, device=device)
            for band in range(4):
                t = torch.ones(n, 4, device=device)
                drawn = torch.exp2(torch.randn(n, device=device))
                t[:, band] = torch.where(self._on(n, "filter", p, device), drawn, torch.ones_like(drawn))
                gain = gain * t / (power * t.square()).sum(1, keepdim=True).sqrt()
            x = filter_each(x, gain @ self.bands)
        if self.strength["noise"]:
            sigma = torch.where(self._on(n, "noise", p, device), 0.1 * torch.randn(n, device=device).abs(), 0.0)
            x = x + torch.randn_like(x) * sigma[:, None, None, None].to(x.dtype)
        if self.strength["cutout"]:
            centre = torch.rand(2, n, 1, device=device)
            far_y = ((torch.arange(h, device=device) + 0.5) / h - centre[0]).abs() >= 0.25
            far_x = ((torch.arange(w, device=device) + 0.5) / w - centre[1]).abs() >= 0.25
            keep = far_y[:, :, None] | far_x[:, None] | ~self._on(n, "cutout", p, device)[:, None, None]
            x = x * keep[:, None].to(x.dtype)
        return x


class AdaptiveProbability:
    """p follows the overfitting heuristic r_t = E[sign D(real)] (section 3.2, eq. 1).

    Args:
        target: r_t that p steers towards. speed_images: images over which p moves by 1 at most.
        fixed: a constant p instead of the control.
        every: steps between adjustments.
    """

    def __init__(self, target: float = 0.6, speed_images: float = 500_000, fixed: float | None = None, every: int = 4):
        self.target, self.speed_images, self.every = target, speed_images, every
        self.adapts = fixed is None
        self.p = 0.0 if fixed is None else float(fixed)
        self.r_t, self._sum, self._count, self._steps = 0.0, 0.0, 0, 0

    def update(self, mean_sign: float, images: int) -> None:
        """Take in one step: the mean sign of the real logits of `images` images (all devices together)."""
        self._sum += mean_sign * images
        self._count += images
        self._steps += 1
        if self._steps < self.every:
            return
        self.r_t = self._sum / self._count
        if self.adapts:
            direction = (self.r_t > self.target) - (self.r_t < self.target)
            self.p = min(max(self.p + direction * self._count / self.speed_images, 0.0), 1.0)
        self._sum, self._count, self._steps = 0.0, 0, 0

    def state_dict(self) -> dict[str, float]:
        """All that a resumed run needs."""
        return {"p": self.p, "r_t": self.r_t, "sum": self._sum, "count": self._count, "steps": self._steps}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue where state_dict was taken; a fixed p stays."""
        self.p = state["p"] if self.adapts else self.p
        self.r_t, self._sum = state["r_t"], state["sum"]
        self._count, self._steps = int(state["count"]), int(state["steps"])

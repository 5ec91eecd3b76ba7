"""Adaptive discriminator augmentation: one differentiable batched pipeline, and the control of its probability.

Written from Karras et al. 2020, "Training generative adversarial networks with limited data" (section 3, appendix B).
Geometry moves image and mask channels together; photometry touches image channels only. Each transform is applied to
each image independently with probability p (rotations with 1 - sqrt(1 - p) before and after the anisotropic scaling).

Two things differ from the appendix. Pixel blits copy pixels and the general geometry then resamples what they left,
where the appendix resamples once under the product of both: the same inside, but what is mirrored in at the edges of
a shifted picture is not. And the low-pass filter of the resampling is another one, see gan.resample.half_band.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

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
SPECTRUM = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # expected power of the four bands, 1/f
SMALLEST_FILTERED = octave_bands().shape[1] // 2  # pixels of the shorter side from which the octave bands fit


def _eye(n: int, like: Tensor) -> Tensor:
    """[n, 3, 3] identities."""
    return torch.eye(3, device=like.device, dtype=like.dtype).repeat(n, 1, 1)


def _shift(x: Tensor, y: Tensor) -> Tensor:
    """[N, 3, 3] translations."""
    out = _eye(len(x), x)
    out[:, 0, 2], out[:, 1, 2] = x, y
    return out


def _scale(x: Tensor, y: Tensor) -> Tensor:
    """[N, 3, 3] scalings."""
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], 1))


def _rotate(cos: Tensor, sin: Tensor) -> Tensor:
    """[N, 3, 3] rotations from x to y, given the cosine and sine of their angles."""
    out = _eye(len(cos), cos)
    out[:, 0, 0] = out[:, 1, 1] = cos
    out[:, 1, 0], out[:, 0, 1] = sin, -sin
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


@dataclass(frozen=True)
class Draws:
    """What is decided for each of N images; the neutral value where an image is left alone, None where all are.

    Args:
        flip: [N] -1 or 1, the factor of x.
        turns: int64 [N], quarter turns. rotate_before, rotate_after: [N] radians. All turn by minus that, as in the paper.
        shift, move: [N, 2] pixels along x and y; `shift` is whole.
        scale, stretch: [N] factors; `stretch` is that of x, its inverse that of y.
        brightness: [N], added. contrast, saturation: [N] factors.
        invert: [N] 0 or 1. hue: [N] radians.
        octaves: [N, 4] gains of the frequency bands.
        noise: [N, C, H, W], added. cutout: [N, 2] shares of width and height, the centre; far outside = none.
    """

    flip: Tensor | None = None
    turns: Tensor | None = None
    shift: Tensor | None = None
    scale: Tensor | None = None
    rotate_before: Tensor | None = None
    stretch: Tensor | None = None
    rotate_after: Tensor | None = None
    move: Tensor | None = None
    brightness: Tensor | None = None
    contrast: Tensor | None = None
    invert: Tensor | None = None
    hue: Tensor | None = None
    saturation: Tensor | None = None
    octaves: Tensor | None = None
    noise: Tensor | None = None
    cutout: Tensor | None = None


def blit_maps(d: Draws) -> Tensor | None:
    """[N, 3, 3] maps from output to input, in pixels from the centre, of the pixel blits; None = none was drawn."""
    inverse = []  # each transform follows those before it, so that its inverse stands on the right
    if d.flip is not None:
        inverse.append(_scale(d.flip, torch.ones_like(d.flip)))
    if d.turns is not None:
        cos = torch.tensor([1.0, 0, -1, 0], device=d.turns.device)[d.turns]  # exact, unlike cos(pi / 2)
        sin = torch.tensor([0.0, 1, 0, -1], device=d.turns.device)[d.turns]
        inverse.append(_rotate(cos, sin))
    if d.shift is not None:
        inverse.append(_shift(-d.shift[:, 0], -d.shift[:, 1]))
    return _product(inverse)


def affine_maps(d: Draws) -> Tensor | None:
    """[N, 3, 3] maps from output to input, in pixels from the centre, of the general geometry; None = none was drawn."""
    inverse = []
    if d.scale is not None:
        inverse.append(_scale(1 / d.scale, 1 / d.scale))
    if d.rotate_before is not None:
        inverse.append(_rotate(d.rotate_before.cos(), d.rotate_before.sin()))
    if d.stretch is not None:
        inverse.append(_scale(1 / d.stretch, d.stretch))
    if d.rotate_after is not None:
        inverse.append(_rotate(d.rotate_after.cos(), d.rotate_after.sin()))
    if d.move is not None:
        inverse.append(_shift(-d.move[:, 0], -d.move[:, 1]))
    return _product(inverse)


def _product(maps: list[Tensor]) -> Tensor | None:
    """The product of [N, 3, 3] maps, the first on the left."""
    if not maps:
        return None
    dtype = reduce(torch.promote_types, [m.dtype for m in maps])
    return reduce(torch.matmul, [m.to(dtype) for m in maps])


def colour(x: Tensor, d: Draws) -> Tensor:
    """Brightness, contrast, luma flip, and for RGB hue and saturation, of [N, C, H, W] image channels."""

    def each(value: Tensor) -> Tensor:
        return value[:, None, None, None].to(x.dtype)

    if d.brightness is not None:
        x = x + each(d.brightness)
    if d.contrast is not None:
        x = x * each(d.contrast)
    if d.invert is not None:  # reflection about the plane orthogonal to the luma axis (1, ..., 1) / sqrt(C)
        x = x - 2 * each(d.invert) * x.mean(1, keepdim=True)
    if d.hue is not None:  # rotation about the luma axis (Rodrigues)
        luma = x.mean(1, keepdim=True)
        across = (x.roll(1, 1) - x.roll(-1, 1)) / math.sqrt(3)
        x = luma + (x - luma) * each(d.hue.cos()) + across * each(d.hue.sin())
    if d.saturation is not None:
        luma = x.mean(1, keepdim=True)
        x = luma + (x - luma) * each(d.saturation)
    return x


def corrupt(x: Tensor, d: Draws) -> Tensor:
    """Image-space filtering of four octave bands, noise and cutout, of [N, C, H, W] image channels."""
    h, w = x.shape[2:]
    if d.octaves is not None:
        x = filter_each(x, d.octaves.to(x.dtype) @ octave_bands().to(x))
    if d.noise is not None:
        x = x + d.noise.to(x.dtype)
    if d.cutout is not None:  # half the width and half the height
        far_x = ((torch.arange(w, device=x.device) + 0.5) / w - d.cutout[:, :1]).abs() >= 0.25
        far_y = ((torch.arange(h, device=x.device) + 0.5) / h - d.cutout[:, 1:]).abs() >= 0.25
        x = x * (far_y[:, :, None] | far_x[:, None])[:, None].to(x.dtype)
    return x


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

    def forward(self, images: Tensor, p: float) -> Tensor:
        """[N, C, H, W] to the same shape; p in [0, 1]. Randomness from torch's global state."""
        return self.apply_draws(images, self.draw(images, p)) if p > 0 else images

    def apply_draws(self, images: Tensor, d: Draws) -> Tensor:
        """Images [N, C, H, W] under decisions that draw() made; float32 or float64, whatever the autocast.

        With 8 bits of mantissa, a position in a picture of 256 pixels would be wrong by up to half a pixel.
        """
        with torch.autocast(images.device.type, enabled=False):
            images = images.to(torch.promote_types(images.dtype, torch.float32))
            for move, inverse in ((blit, blit_maps(d)), (warp, affine_maps(d))):
                if inverse is None:
                    continue
                still = torch.eye(3, device=inverse.device, dtype=inverse.dtype)
                moved = (inverse != still).flatten(1).any(1).nonzero()[:, 0]
                if len(moved):  # the others stay as they are, bit for bit
                    images = images.index_copy(0, moved, move(images[moved], inverse[moved]))
            photo, masks = images[:, : self.image_channels], images[:, self.image_channels :]
            return torch.cat([corrupt(colour(photo, d), d), masks], 1)

    def draw(self, images: Tensor, p: float) -> Draws:
        """Decide for each of [N, C, H, W] images; a transform of strength 0 is None."""
        return Draws(**self._draw_geometry(images, p), **self._draw_photometry(images, p))

    def _on(self, n: int, name: str, p: float, device: torch.device) -> Tensor:
        """[N] bool: images that get a transform."""
        return torch.rand(n, device=device) < p * self.strength[name]

    def _draw_geometry(self, images: Tensor, p: float) -> dict[str, Tensor]:
        n, _, h, w = images.shape
        device, out = images.device, {}
        size = torch.tensor([w, h], device=device)

        def pick(name: str, value: Tensor, neutral: float) -> Tensor:
            on = self._on(n, name, p, device)
            return torch.where(on.reshape(n, *[1] * (value.ndim - 1)), value, neutral)

        def lognormal(octaves: float) -> Tensor:
            return torch.exp2(octaves * torch.randn(n, device=device))

        if self.strength["flip"]:
            out["flip"] = pick("flip", 1 - 2 * torch.randint(2, (n,), device=device).to(torch.get_default_dtype()), 1.0)
        if self.strength["rotate90"]:
            turns = torch.randint(4, (n,), device=device) if h == w else 2 * torch.randint(2, (n,), device=device)
            out["turns"] = pick("rotate90", turns, 0)
        if self.strength["shift"]:
            out["shift"] = pick("shift", ((torch.rand(n, 2, device=device) * 2 - 1) * 0.125 * size).round(), 0.0)
        if self.strength["scale"]:
            out["scale"] = pick("scale", lognormal(0.2), 1.0)
        turning = 1 - math.sqrt(1 - min(p * self.strength["rotate"], 1.0))  # P(before or after) = p
        for name in ("rotate_before", "rotate_after") if turning else ():
            angle = (torch.rand(n, device=device) * 2 - 1) * math.pi
            out[name] = torch.where(torch.rand(n, device=device) < turning, angle, 0.0)
        if self.strength["stretch"]:
            out["stretch"] = pick("stretch", lognormal(0.2), 1.0)
        if self.strength["move"]:
            out["move"] = pick("move", 0.125 * torch.randn(n, 2, device=device) * size, 0.0)
        return out

    def _draw_photometry(self, images: Tensor, p: float) -> dict[str, Tensor]:
        n, _, h, w = images.shape
        device, out = images.device, {}

        def normal() -> Tensor:
            return torch.randn(n, device=device)

        values = {"brightness": (lambda: 0.2 * normal(), 0.0), "contrast": (lambda: torch.exp2(0.5 * normal()), 1.0),
                  "invert": (lambda: torch.randint(2, (n,), device=device).to(torch.get_default_dtype()), 0.0),
                  "hue": (lambda: (torch.rand(n, device=device) * 2 - 1) * math.pi, 0.0),
                  "saturation": (lambda: torch.exp2(normal()), 1.0)}
        for name, (value, neutral) in values.items():
            if self.strength[name]:
                out[name] = torch.where(self._on(n, name, p, device), value(), neutral)
        if self.strength["filter"] and min(h, w) >= SMALLEST_FILTERED:
            power = torch.tensor(SPECTRUM, device=device, dtype=torch.get_default_dtype())
            out["octaves"] = torch.ones(n, 4, device=device)
            for band in range(4):
                t = torch.ones(n, 4, device=device)
                t[:, band] = torch.where(self._on(n, "filter", p, device), torch.exp2(normal()), 1.0)
                out["octaves"] = out["octaves"] * t / (power * t.square()).sum(1, keepdim=True).sqrt()
        if self.strength["noise"]:
            sigma = torch.where(self._on(n, "noise", p, device), 0.1 * normal().abs(), 0.0)
            out["noise"] = torch.randn(n, self.image_channels, h, w, device=device) * sigma[:, None, None, None]
        if self.strength["cutout"]:
            on = self._on(n, "cutout", p, device)[:, None]
            out["cutout"] = torch.where(on, torch.rand(n, 2, device=device), torch.inf)
        return out


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

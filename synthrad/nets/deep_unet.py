"""The U-Net of Akbar et al. (2024): six levels, instance normalization, unpadded convolutions and deep supervision."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthrad.errors import InputError
from synthrad.nets.deep_supervision import Supervised
from synthrad.nets.loading import load_into, load_plain, locate, unless_null


class DeepUnet(nn.Module):
    """A segmentation net: image [B, C, H, W] to logits [B, out_channels, H, W].

    Two 3 x 3 convolutions a level (instance normalization, leaky ReLU of slope 0.01), maximum pooling, channels doubled from level to level, bilinear upsampling with a
    1 x 1 convolution. Unpadded, 256 px need 636 (of which 260 come back, and 256 are kept): the picture's border is repeated outwards, which for a black border is black.
    In training the logits of coarser levels are given too, each with half the weight of the level before it, all together 1 (Isensee et al. 2021). What the
    authors' border, weights and limit of channels are is not known to us.

    Args:
        weights: null (random), or a file of weights of this net.
        depth: levels. filters: channels of the first one. most_filters: of any.
        padding: valid = unpadded convolutions; same = padded ones, at a fraction of the computation.
        supervised_levels: coarser levels that are supervised too, 0 to depth - 2.
        in_channels: image channels; linked from the data.
        out_channels: logits, over all layers; linked from the data.
    """

    def __init__(
        self,
        weights: str | None = None,
        depth: int = 6,
        filters: int = 64,
        most_filters: int = 2048,
        padding: Literal["valid", "same"] = "valid",
        supervised_levels: int = 4,
        in_channels: int = 1,
        out_channels: int = 2,
    ):
        super().__init__()
        weights = unless_null(weights)
        if depth < 2:
            raise InputError("model.net.depth", str(depth), "at least 2 levels")
        if not 0 <= supervised_levels <= depth - 2:
            raise InputError("model.net.supervised_levels", str(supervised_levels), f"0 to {depth - 2} with {depth} levels")
        if padding not in ("valid", "same"):
            raise InputError("model.net.padding", repr(padding), "valid or same")
        widths = [min(filters * 2**i, most_filters) for i in range(depth)]
        self.stride, self.valid = 2 ** (depth - 1), padding == "valid"
        margin = 0 if self.valid else 1
        self.down = nn.ModuleList([_two(a, b, margin) for a, b in zip([in_channels, *widths[:-1]], widths, strict=True)])
        self.reduce = nn.ModuleList([nn.Conv2d(b, a, 1) for a, b in zip(widths[:-1], widths[1:], strict=True)])
        self.up = nn.ModuleList([_two(2 * a, a, margin) for a in widths[:-1]])
        self.classify = nn.ModuleList([nn.Conv2d(w, out_channels, 1) for w in widths[: 1 + supervised_levels]])
        if weights is not None:
            load_into(self, load_plain(locate(weights, "model.net.weights")), f"model.net.weights {weights}")

    def forward(self, image: Tensor) -> Tensor | Supervised:
        """Logits [B, out_channels, H, W] of an image [B, C, H, W]; in training those of coarser levels too."""
        height, width = image.shape[-2:]
        if height % self.stride or width % self.stride:
            raise InputError("data.size", f"{height} x {width}", f"multiples of {self.stride} for this net", "change data.size, or use fewer levels")
        if not self.valid and height * width == self.stride**2:
            raise InputError("data.size", f"{height} x {width}", f"more than the one pixel at the last of {len(self.down)} levels, which has no variance to "
                             "normalize by", "use larger pictures, fewer levels, or padding valid")
        if self.valid:
            sides = [(padded_side(s, len(self.down)) - s) // 2 for s in (width, height)]
            image = F.pad(image, (sides[0], sides[0], sides[1], sides[1]), mode="replicate")
        kept = []
        for level in self.down:
            x = level(image if not kept else F.max_pool2d(kept[-1], 2))
            kept.append(x)
        logits: list[Tensor] = []
        for i in reversed(range(len(self.up))):
            x = self.reduce[i](F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
            x = self.up[i](torch.cat([centre(kept[i], x.shape[-2:]), x], 1))
            if i < len(self.classify) and (i == 0 or self.training):
                logits.insert(0, centre(self.classify[i](x), (height >> i, width >> i)))
        if len(logits) == 1:
            return logits[0]
        whole = sum(2.0**-i for i in range(len(logits)))
        return Supervised(logits, [2.0**-i / whole for i in range(len(logits))])


def _two(inputs: int, outputs: int, margin: int) -> nn.Sequential:
    """Two convolutions of 3 x 3, each with instance normalization and a leaky ReLU."""
    layers: list[nn.Module] = []
    for a in (inputs, outputs):
        layers += [nn.Conv2d(a, outputs, 3, padding=margin, bias=False), nn.InstanceNorm2d(outputs, affine=True), nn.LeakyReLU(0.01, inplace=True)]
    return nn.Sequential(*layers)


def centre(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """The middle of [B, C, h, w]."""
    top, left = ((have - want) // 2 for have, want in zip(x.shape[-2:], size, strict=True))
    return x[..., top : top + size[0], left : left + size[1]]


def padded_side(side: int, depth: int) -> int:
    """The least side of a picture of which unpadded convolutions leave `side` pixels or more: 636 for 256 and 6 levels."""
    bottom = 1
    while True:
        back, given = bottom, bottom + 4
        for _ in range(depth - 1):
            back, given = 2 * back - 4, 2 * given + 4
        if back >= side:
            return given
        bottom += 1

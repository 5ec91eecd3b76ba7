"""Heads that turn feature maps into logits: linear, UPerNet, DPT and a small convolutional one.

Normalization is by groups (Wu and He 2018), not over the batch as published: pictures of a batch are few here, and a batch of one has no variance to
normalize a pooled picture by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthrad.nets.normalization import GroupNorm

POOLED = (1, 2, 3, 6)  # sides of UPerNet's pooled pictures


def enlarged(x: Tensor, size: Sequence[int]) -> Tensor:
    """[B, C, h, w] on another grid, bilinear; unchanged on its own."""
    return x if tuple(x.shape[-2:]) == tuple(size) else F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def whole_patches(image: Tensor, patch: int, scale: float = 1.0) -> Tensor:
    """A picture [B, C, H, W] enlarged by `scale`, and further to sides that are whole multiples of `patch`, bilinear."""
    return enlarged(image, [patch * max(1, math.ceil(scale * side / patch - 1e-6)) for side in image.shape[-2:]])


def convolved(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution, normalization, ReLU; the size stays."""
    groups = next(g for g in (32, 16, 8, 4, 2, 1) if outputs % g == 0 and outputs > g)
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False), GroupNorm(groups, outputs), nn.ReLU())


class LinearHead(nn.Module):
    """One linear map of each place's features, normalized over the batch (Oquab et al. 2023, section 7.4).

    Args:
        widths: channels of each feature map; all maps are of one size.
    """

    def __init__(self, widths: Sequence[int], outputs: int):
        super().__init__()
        self.normalize = nn.BatchNorm2d(sum(widths))
        self.classify = nn.Conv2d(sum(widths), outputs, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """[B, width, h, w] each to logits [B, outputs, h, w]."""
        return self.classify(self.normalize(torch.cat(list(maps), 1)))


class ConvHead(nn.Module):
    """One 3 x 3 convolution, then a linear map: the auxiliary head beside UPerNet."""

    def __init__(self, width: int, channels: int, outputs: int):
        super().__init__()
        self.layers = nn.Sequential(convolved(width, channels, 3), nn.Conv2d(channels, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, width, h, w] to logits [B, outputs, h, w]."""
        return self.layers(x)


class UperNetHead(nn.Module):
    """Pyramid pooling of the coarsest map, a feature pyramid over all, and their fusion at the finest (Xiao et al. 2018).

    Args:
        widths: channels of each map, from the finest to the coarsest. channels: inside the head.
    """

    def __init__(self, widths: Sequence[int], outputs: int, channels: int = 256):
        super().__init__()
        self.pooled = nn.ModuleList([convolved(widths[-1], channels, 1) for _ in POOLED])
        self.coarsest = convolved(widths[-1] + len(POOLED) * channels, channels, 3)
        self.lateral = nn.ModuleList([convolved(w, channels, 1) for w in widths[:-1]])
        self.smooth = nn.ModuleList([convolved(channels, channels, 3) for _ in widths[:-1]])
        self.fuse = convolved(len(widths) * channels, channels, 3)
        self.classify = nn.Conv2d(channels, outputs, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps from the finest to the coarsest to logits on the grid of the finest."""
        last = maps[-1]
        pooled = [enlarged(conv(F.adaptive_avg_pool2d(last, side)), last.shape[-2:]) for conv, side in zip(self.pooled, POOLED, strict=True)]
        levels = [self.coarsest(torch.cat([last, *pooled], 1))]
        for conv, x in zip(reversed(self.lateral), reversed(maps[:-1]), strict=True):
            x = conv(x)
            levels.insert(0, x + enlarged(levels[0], x.shape[-2:]))
        levels = [*(conv(x) for conv, x in zip(self.smooth, levels[:-1], strict=True)), levels[-1]]
        return self.classify(self.fuse(torch.cat([enlarged(x, levels[0].shape[-2:]) for x in levels], 1)))


class Pyramid(nn.Module):
    """Four maps of one size to 4, 2, 1 and 0.5 times it, as plain vision transformers need for pyramid heads (Li et al. 2021, section 3)."""

    def __init__(self, width: int):
        super().__init__()
        twice = [nn.ConvTranspose2d(width, width, 2, 2) for _ in range(3)]
        self.steps = nn.ModuleList([nn.Sequential(twice[0], GroupNorm(1, width), nn.GELU(), twice[1]), twice[2], nn.Identity(),
                                    nn.MaxPool2d(2, ceil_mode=True)])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Four of [B, width, h, w] to four of the same width."""
        return [step(x) for step, x in zip(self.steps, maps, strict=True)]


class DptHead(nn.Module):
    """Reassembled maps of four depths, fused from the coarsest to the finest (Ranftl et al. 2021, section 3; readout "ignore").

    Args:
        widths: channels of the four maps, all of one size. channels: inside the head.
    """

    def __init__(self, widths: Sequence[int], outputs: int, channels: int = 256):
        super().__init__()
        self.project = nn.ModuleList([nn.Conv2d(w, channels, 1) for w in widths])
        self.resample = nn.ModuleList([nn.ConvTranspose2d(channels, channels, 4, 4), nn.ConvTranspose2d(channels, channels, 2, 2), nn.Identity(),
                                       nn.Conv2d(channels, channels, 3, 2, 1)])
        self.scratch = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in widths])
        self.skip = nn.ModuleList([Residual(channels) for _ in widths[:-1]])
        self.out = nn.ModuleList([Residual(channels) for _ in widths])
        self.classify = nn.Sequential(convolved(channels, channels, 3), nn.Conv2d(channels, outputs, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Four maps, from the first block to the last, to logits on a grid of 8 times theirs."""
        parts = zip(self.project, self.resample, self.scratch, maps, strict=True)
        levels = [scratch(resample(project(x))) for project, resample, scratch, x in parts]
        x = self.out[-1](levels[-1])
        for level, skip, out in zip(reversed(levels[:-1]), reversed(self.skip), reversed(self.out[:-1]), strict=True):
            x = out(enlarged(x, level.shape[-2:]) + skip(level))
        return self.classify(enlarged(x, [2 * s for s in x.shape[-2:]]))


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside the identity, each after a ReLU (Lin et al. 2017)."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] to the same."""
        return x + self.layers(x)

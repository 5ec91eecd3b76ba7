"""How unlike two pictures are to a net that has learned from pictures."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

from synthrad.errors import InputError
from synthrad.nets.loading import load_into, load_plain, locate


def feature_distance(own: list[Tensor], other: list[Tensor]) -> Tensor:
    """Mean over layers of the mean absolute difference of features (Wang et al. 2018, pix2pixHD, eq. 4).

    Args:
        own, other: [n, C, h, w] of each layer. Gradients reach the first only.
    """
    return torch.stack([(a - b.detach()).abs().mean() for a, b in zip(own, other, strict=True)]).mean()


class PerceptualDistance(nn.Module):
    """Distance of unit-length features of a frozen net (Zhang et al. 2018, eq. 1, all channels weighted alike).

    Args:
        weights: file of the net's weights, or a hub id that is in the cache; nothing is downloaded.
        arch: timm's name of the net.
        in_channels: of the pictures; the net's first layer is adapted to them.
    """

    def __init__(self, weights: str, arch: str = "vgg16", in_channels: int = 1):
        super().__init__()
        if not timm.is_model(arch):
            raise InputError("model.perceptual_arch", repr(arch), "a name that timm knows", "such as vgg16 or resnet18")
        self.net = timm.create_model(arch, pretrained=False, features_only=True, in_chans=in_channels)
        load_into(self.net, load_plain(locate(weights, "model.perceptual")), weights)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> PerceptualDistance:
        """It never trains: its running means are those of its weights."""
        return super().train(False)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Mean over pictures [n, C, h, w], pixels and layers: 0 = alike."""
        pairs = zip(self.net(one), self.net(other), strict=True)
        return torch.stack([(_unit(a) - _unit(b)).square().sum(1).mean() for a, b in pairs]).mean()


def _unit(x: Tensor) -> Tensor:
    return x * (x.square().sum(1, keepdim=True) + 1e-10).rsqrt()

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
        weights: file of the net's weights, or a hub id that is in the cache; nothing is downloaded. None = random ones, for
            a checkpoint to fill.
        arch: timm's name of the net.
        in_channels: of the pictures; the net's first layer is adapted to them.
    """

    def __init__(self, weights: str | None, arch: str = "vgg16", in_channels: int = 1):
        super().__init__()
        if not timm.is_model(arch):
            raise InputError("model.perceptual_arch", repr(arch), "a name that timm knows", "such as vgg16 or resnet18")
        self.net = timm.create_model(arch, pretrained=False, features_only=True, in_chans=in_channels)
        if weights is not None:
            whole = timm.create_model(arch, pretrained=False, in_chans=in_channels)  # some nets name layers otherwise for features
            load_into(whole, load_plain(locate(weights, "model.perceptual")), weights)
            named = {k.replace(".", "_"): v for k, v in whole.state_dict().items()}
            self.net.load_state_dict({k: named[k.replace(".", "_")] for k in self.net.state_dict()})
        usual = timm.get_pretrained_cfg(arch)  # what such weights expect of their pictures, a mean over red, green and blue
        self.mean, self.std = (sum(v) / len(v) for v in ((usual.mean, usual.std) if usual else ((0.5,), (0.5,))))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> PerceptualDistance:
        """It never trains: its running means are those of its weights."""
        return super().train(False)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Mean over pictures [n, C, h, w] in [-1, 1], pixels and layers: 0 = alike."""
        one, other = (((x + 1) / 2 - self.mean) / self.std for x in (one, other))
        pairs = zip(self.net(one), self.net(other), strict=True)
        return torch.stack([(_unit(a) - _unit(b)).square().sum(1).mean() for a, b in pairs]).mean()


def _unit(x: Tensor) -> Tensor:
    return x * (x.square().sum(1, keepdim=True) + 1e-10).rsqrt()

"""How unlike two pictures are to a net that has learned from pictures."""

from __future__ import annotations

import re

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
    """Distance of unit-length features of a frozen net (Zhang et al. 2018, eq. 1).

    Args:
        weights: file of the net's weights, or a hub id that is in the cache; nothing is downloaded. None = random ones, for
            a checkpoint to fill.
        arch: timm's name of the net.
        in_channels: of the pictures; the net's first layer is adapted to them.
        linear: file of LPIPS' weights of channels for this net, such as vgg.pth of its authors: the distance is then the sum over as many
            layers as it has, the first ones. A number = so many layers, for a checkpoint to fill. None or 0 = all channels alike,
            mean over all layers.
    """

    def __init__(self, weights: str | None, arch: str = "vgg16", in_channels: int = 1, linear: str | int | None = None):
        super().__init__()
        if not timm.is_model(arch):
            raise InputError("model.perceptual_arch", repr(arch), "a name that timm knows", "such as vgg16 or resnet18")
        self.net = timm.create_model(arch, pretrained=False, features_only=True, in_chans=in_channels)
        if weights is not None:
            whole = timm.create_model(arch, pretrained=False, in_chans=in_channels)  # some nets name layers otherwise for features
            load_into(whole, load_plain(locate(weights, "model.perceptual")), weights)
            named = {k.replace(".", "_"): v for k, v in whole.state_dict().items()}
            self.net.load_state_dict({k: named[k.replace(".", "_")] for k in self.net.state_dict()})
        self.linear = nn.ParameterList()
        channels = [f["num_chs"] for f in self.net.feature_info.info]
        if isinstance(linear, str):
            self.linear.extend(nn.Parameter(w) for w in _channel_weights(linear, channels, arch))
        else:
            self.linear.extend(nn.Parameter(torch.ones(n)) for n in channels[: linear or 0])
        usual = timm.get_pretrained_cfg(arch)  # what such weights expect of their pictures, a mean over red, green and blue
        self.mean, self.std = (sum(v) / len(v) for v in ((usual.mean, usual.std) if usual else ((0.5,), (0.5,))))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> PerceptualDistance:
        """It never trains: its running means are those of its weights."""
        return super().train(False)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Mean over pictures [n, C, h, w] in [-1, 1], pixels and layers: 0 = alike."""
        one, other = (((x + 1) / 2 - self.mean) / self.std for x in (one, other))
        squares = [(_unit(a) - _unit(b)).square() for a, b in zip(self.net(one), self.net(other), strict=True)]
        if not self.linear:
            return torch.stack([s.sum(1).mean() for s in squares]).mean()
        return torch.stack([torch.einsum("nchw,c->nhw", s, w).mean() for s, w in zip(squares, self.linear, strict=False)]).sum()


def _channel_weights(path: str, channels: list[int], arch: str) -> list[Tensor]:
    """Weights [C] of the first layers."""
    found = {int(m[1]): v.flatten() for k, v in load_plain(locate(path, "model.perceptual_linear")).items()
             if (m := re.fullmatch(r"lins?\.?(\d+)\.(?:model\.\d+\.)?weight", k))}
    sizes = [found[k].numel() for k in sorted(found)]
    if not found or sorted(found) != list(range(len(found))) or sizes != channels[: len(sizes)]:
        raise InputError("model.perceptual_linear", f"weights of {sizes or 'no'} channels in {path}", f"those of {arch}: {channels} or the first of these",
                         "take the file that belongs to model.perceptual_arch")
    if any((w < 0).any() or not torch.isfinite(w).all() for w in found.values()):
        raise InputError("model.perceptual_linear", f"negative weights or NaN in {path}", "finite weights of at least 0: it is a distance")
    return [found[k].float() for k in sorted(found)]


def _unit(x: Tensor) -> Tensor:
    return x * (x.square().sum(1, keepdim=True) + 1e-10).rsqrt()

"""StyleGAN2 computed plainly: the baseline of bench_gan.py, with the same parameters (a state_dict loads as it is).

What public implementations compute without custom kernels: demodulation norms from one weight tensor an image
([N, O, I, 3, 3]), resampling filters applied at every position of a zero-stuffed picture and then strided, gains,
biases and noise as passes of their own, contiguous float32. Training scales activations around a shared convolution;
sampling makes the kernels of each image and runs a grouped convolution (the public default).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from synthrad.nets import stylegan2 as fast

SQRT2 = math.sqrt(2)


def resample(x: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0), gain: float = 1.0) -> Tensor:
    """Stuff zeros, pad (before, after), filter at every position, keep every down-th."""
    n, c, h, w = x.shape
    taps = torch.tensor(fast.FIR, dtype=x.dtype, device=x.device)
    kernel = torch.outer(taps, taps) * (gain / taps.sum() ** 2)
    x = x.reshape(n, c, h, 1, w, 1)
    x = F.pad(x, [0, up - 1, 0, 0, 0, up - 1]).reshape(n, c, h * up, w * up)
    x = F.pad(x, [*pad, *pad])
    x = F.conv2d(x, kernel.expand(c, 1, 4, 4), groups=c)
    return x[:, :, ::down, ::down]


def upsample(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, C, 2H, 2W]."""
    return resample(x, up=2, pad=(2, 1), gain=4.0)


def downsample(x: Tensor) -> Tensor:
    """[N, C, 2H, 2W] to [N, C, H, W]."""
    return resample(x, down=2, pad=(1, 1))


def convolve(x: Tensor, weight: Tensor, up: bool, groups: int = 1) -> Tensor:
    """Same-size convolution, or with `up` the transposed one and the filter; weight [groups O, I, k, k]."""
    if not up:
        return F.conv2d(x, weight, padding=weight.shape[2] // 2, groups=groups)
    o, i, k, _ = weight.shape
    turned = weight.reshape(groups, o // groups, i, k, k).transpose(1, 2).reshape(groups * i, o // groups, k, k)
    return resample(F.conv_transpose2d(x, turned, stride=2, groups=groups), pad=(1, 1), gain=4.0)


def modulated_conv(x: Tensor, weight: Tensor, style: Tensor, demodulate: bool, up: bool, grouped: bool) -> Tensor:
    """Equations 1 to 3 with the weights of every image written out."""
    n = len(x)
    each = weight[None] * style[:, None, :, None, None]
    norm = (each.square().sum((2, 3, 4)) + 1e-8).rsqrt() if demodulate else None
    if grouped:
        each = each * norm[:, :, None, None, None] if demodulate else each
        y = convolve(x.reshape(1, -1, *x.shape[2:]), each.reshape(-1, *weight.shape[1:]), up, groups=n)
        return y.reshape(n, -1, *y.shape[2:])
    y = convolve(x * style[:, :, None, None], weight, up)
    return y * norm[:, :, None, None] if demodulate else y


def activate(x: Tensor, bias: Tensor) -> Tensor:
    """Bias, leaky ReLU and gain, one after the other."""
    return F.leaky_relu(x + bias[:, None, None], 0.2) * SQRT2


class Generator(fast.StyleGAN2Generator):
    """The skip generator; `grouped` = per-image kernels in a grouped convolution (sampling)."""

    grouped = False

    def synthesize(self, ws: Tensor, noise: list[Tensor] | None = None, mask: None = None) -> Tensor:
        """Styles [N, num_ws, w_dim] to pictures [N, C, h, w]; nets that are given masks have no plain counterpart."""
        noise = self.draw_noise(len(ws), ws.device) if noise is None else noise
        x, image = self.const.repeat(len(ws), 1, 1, 1), None
        for i, (conv, eta) in enumerate(zip(self.convs, noise, strict=True)):
            x = modulated_conv(x, conv.weight, conv.affine(ws[:, i]), True, conv.up, self.grouped)
            x = activate(x + eta * conv.noise_strength, conv.bias)
            if i % 2 == 0:
                last = self.to_image[i // 2]
                layer = modulated_conv(x, last.weight, last.affine(ws[:, i + 1]) * last.scale, False, False, self.grouped)
                layer = layer + last.bias[:, None, None]
                image = layer if image is None else upsample(image) + layer
        return image


class Discriminator(fast.StyleGAN2Discriminator):
    """The residual discriminator."""

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Pictures [N, C, h, w] and conditions [N, c_dim] to logits [N]."""
        x = self._conv(self.from_image, x)
        for block in self.blocks:
            skip = F.conv2d(downsample(x), block.skip.weight * block.skip.scale)
            y = resample(self._conv(block.conv0, x), pad=(2, 2))
            y = activate(F.conv2d(y, block.conv1.weight * block.conv1.scale, stride=2), block.conv1.bias)
            x = (y + skip) / SQRT2
        x = self._conv(self.conv, fast.minibatch_stddev(x, self.group))
        x = self.out(self.dense(x.flatten(1)))
        if self.mapping is None:
            return x[:, 0]
        return (x * fast.unit_moment(self.mapping(None, c))).sum(1) / math.sqrt(x.shape[1])

    @staticmethod
    def _conv(layer: fast.EqualConv, x: Tensor) -> Tensor:
        weight = layer.weight * layer.scale
        return activate(F.conv2d(x, weight, padding=weight.shape[2] // 2), layer.bias)

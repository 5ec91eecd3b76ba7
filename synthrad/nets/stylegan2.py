"""StyleGAN2: mapping network, skip generator and residual discriminator with a projected condition.

Written from Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN" (equation numbers below refer
to it), and Karras et al. 2018 (minibatch standard deviation, equalized learning rate). The condition enters the
discriminator by projection (Miyato and Koyama 2018).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthrad.errors import InputError

FIR = (1.0, 3.0, 3.0, 1.0)  # the low-pass filter of every resolution change
SQRT2 = math.sqrt(2)
LARGEST_HALF = 256 * SQRT2


def check_size(size: Sequence[int]) -> tuple[int, int]:
    """(h, w) as a tuple if both are powers of two >= 8 and their ratio is 1:1, 2:1 or 1:2.

    Raises:
        InputError: otherwise.
    """
    h, w = (int(s) for s in size)
    powers = all(s >= 8 and s & (s - 1) == 0 for s in (h, w))
    if not powers or max(h, w) > 2 * min(h, w):
        raise InputError("data.size", f"({h}, {w})", "powers of two of ratio 1:1, 1:2 or 2:1, such as (64, 64) or (64, 128)",
                         "choose the nearest such size; images are letterboxed or squeezed to it")
    return h, w


@functools.lru_cache(maxsize=32)
def _low_pass(gain: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[4, 4] low-pass kernel of sum `gain`, made once: a copy to a GPU in every call would wait for it."""
    with torch.inference_mode(False), torch.no_grad():
        taps = torch.tensor(FIR, dtype=dtype, device=device)
        return torch.outer(taps, taps) * (gain / taps.sum() ** 2)


class _Filter(torch.autograd.Function):
    """The low-pass filter with its derivatives of every order: each is the filter with other strides.

    Torch's second derivative of a depthwise convolution runs one convolution a channel. In the type of x also under
    autocast, which is on while a penalty takes its inner derivative.
    """

    @staticmethod
    def forward(x: Tensor, gain: float, up: bool, stride: int, pad: int) -> Tensor:
        kernel = _low_pass(gain, x.dtype, x.device).expand(x.shape[1], 1, 4, 4)
        convolve = F.conv_transpose2d if up else F.conv2d
        with torch.autocast(x.device.type, enabled=False):
            return convolve(x, kernel, stride=stride, padding=pad, groups=x.shape[1])

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
        ctx.settings = inputs[1:]

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        gain, up, stride, pad = ctx.settings  # the kernel is symmetric: a convolution's transpose is the transposed convolution
        return _Filter.apply(gradient, gain, not up, stride, pad), None, None, None, None


def smooth(x: Tensor, pad: int, gain: float = 1.0) -> Tensor:
    """Low-pass [N, C, H, W] with `pad` zeros on every side: [N, C, H + 2 pad - 3, W + 2 pad - 3]."""
    return _Filter.apply(x, gain, False, 1, pad)


def upsample(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, C, 2H, 2W]: zeros between pixels, then the low-pass filter with gain 4."""
    return _Filter.apply(x, 4.0, True, 2, 1)


def downsample(x: Tensor) -> Tensor:
    """[N, C, 2H, 2W] to [N, C, H, W]: the low-pass filter, computed at every other pixel only."""
    return _Filter.apply(x, 1.0, False, 2, 1)


def unit_moment(x: Tensor) -> Tensor:
    """Scale each row of [N, D] to second moment 1."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def _within_half(x: Tensor, weight: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and styles in units of their largest, where a demodulated convolution is computed in float16.

    Demodulation cancels their scale, but only afterwards: sums beyond 65,504 are infinite by then. With weights of at most
    1 / sqrt(inputs) and styles of at most 1, sums stay in the range of the features (Karras et al. 2020, ADA, appendix: mixed precision).
    """
    if not (x.dtype == torch.float16 or torch.is_autocast_enabled(x.device.type) and torch.get_autocast_dtype(x.device.type) == torch.float16):
        return weight, style
    largest = weight.detach().abs().amax((1, 2, 3), keepdim=True) * math.sqrt(weight[0].numel())
    return weight / largest.clamp(min=1e-8), style / style.detach().abs().amax(1, keepdim=True).clamp(min=1e-8)


def _clamped(x: Tensor) -> Tensor:
    """Features of float16 within [-256, 256] times the gain of the activation, far from what overflows (same place)."""
    return x.clamp(-LARGEST_HALF, LARGEST_HALF) if x.dtype == torch.float16 else x


def _convolve(x: Tensor, weight: Tensor, style: Tensor, up: bool) -> Tensor:
    """Convolution with weights scaled by style (eq. 1): scaling a weight's input channels equals scaling the input."""
    y = x * style.to(x.dtype)[:, :, None, None]
    if up:
        return smooth(F.conv_transpose2d(y, weight.transpose(0, 1), stride=2), pad=1, gain=4.0)
    return F.conv2d(y, weight, padding=weight.shape[2] // 2)


def demodulation(weight: Tensor, style: Tensor) -> Tensor:
    """[N, O] factors of eq. 3, 1 / norm of each image's scaled kernels: the norm is sqrt(sum_i s_i^2 sum_k w_oik^2), a matrix product.

    In the type of the weights also under autocast: a norm of 8 bits would show as a wrong gain of whole channels.
    """
    with torch.autocast(weight.device.type, enabled=False):
        power = style.to(weight.dtype).square() @ weight.square().sum((2, 3)).t()
        return (power + 1e-8).rsqrt()


def modulated_conv(x: Tensor, weight: Tensor, style: Tensor, demodulate: bool = True, up: bool = False) -> Tensor:
    """Convolution whose weights are scaled by style, then demodulated (eq. 1 and 3), without making them per image.

    Args:
        x: [N, I, H, W]. weight: [O, I, k, k], k odd. style: [N, I].
        up: double the resolution (transposed convolution, then the low-pass filter); the kernel then acts flipped.

    Returns:
        [N, O, H, W], or [N, O, 2H, 2W] with `up` (k must be 3).
    """
    if demodulate:
        weight, style = _within_half(x, weight, style)
    y = _convolve(x, weight, style, up)
    return y * demodulation(weight, style).to(y.dtype)[:, :, None, None] if demodulate else y


class EqualLinear(nn.Module):
    """Linear layer of equalized learning rate: weights ~ N(0, 1) in storage, scaled by lr_mult / sqrt(inputs) in use.

    Computed in the type of its weights also under autocast: styles and logits cost little and 8 bits would show in them.
    """

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, lr_mult: float = 1.0, activate: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mult)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_mult))
        self.scale, self.lr_mult, self.activate = lr_mult / math.sqrt(inputs), lr_mult, activate

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs] to [N, outputs]."""
        with torch.autocast(x.device.type, enabled=False):
            x = F.linear(x.to(self.weight.dtype), self.weight * self.scale, self.bias * self.lr_mult)
        return F.leaky_relu(x, 0.2) * SQRT2 if self.activate else x


class EqualConv(nn.Module):
    """Convolution of equalized learning rate, with bias and leaky ReLU, or plain; `down` halves the resolution.

    Args:
        gain: of the output, by default sqrt(2) after a leaky ReLU, else 1. It scales weights and bias instead of a
            picture: leaky ReLU commutes with it.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, down: bool = False, activate: bool = True,
                 gain: float | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if activate else None
        self.gain = (SQRT2 if activate else 1.0) if gain is None else gain
        self.scale, self.down = 1 / math.sqrt(inputs * kernel**2), down

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H, W], or half of it."""
        weight = self.weight * (self.scale * self.gain)
        bias = None if self.bias is None else self.bias * self.gain
        if self.down and weight.shape[2] == 1:
            x = F.conv2d(downsample(x), weight, bias)
        elif self.down:
            x = F.conv2d(smooth(x, pad=2), weight, bias, stride=2)
        else:
            x = F.conv2d(x, weight, bias, padding=weight.shape[2] // 2)
        return x if bias is None else _clamped(F.leaky_relu(x, 0.2, inplace=True))


class Mapping(nn.Module):
    """z and condition to w (z or condition may have no entries; not both).

    Args:
        depth: fully connected layers after the embedding.
        lr_mult: of all layers but the embedding (0.01 in the paper).

    The embedded condition counts `share` times, 1 unless set: from 0, where it changes nothing, to 1. The first layer takes
    z and condition side by side, so that it adds a map of z to share times a map of the condition.
    """

    share = 1.0

    def __init__(self, z_dim: int, c_dim: int, w_dim: int, depth: int, lr_mult: float = 0.01):
        super().__init__()
        self.embed = EqualLinear(c_dim, w_dim) if c_dim else None
        first = z_dim + (w_dim if c_dim else 0)
        sizes = [first, *[w_dim] * depth]
        self.layers = nn.Sequential(*[
            EqualLinear(a, b, lr_mult=lr_mult, activate=True) for a, b in zip(sizes[:-1], sizes[1:], strict=True)
        ])

    def forward(self, z: Tensor | None, c: Tensor) -> Tensor:
        """z [N, z_dim] or None, c [N, c_dim] to w [N, w_dim]."""
        parts = [] if z is None else [unit_moment(z)]
        if self.embed is not None:
            parts.append(unit_moment(self.embed(c)) * self.share)
        return self.layers(torch.cat(parts, 1))


class MaskModulation(nn.Module):
    """Scale and shift of each pixel's features by a mask around it (Park et al. 2019, SPADE, eq. 1 and fig. 3).

    The normalization of SPADE is what demodulation does here. The last convolution starts at zero: untrained, a mask
    changes nothing.
    """

    def __init__(self, mask_channels: int, outputs: int, hidden: int = 64):
        super().__init__()
        self.hidden = EqualConv(mask_channels, hidden, 3)
        self.last = EqualConv(hidden, 2 * outputs, 3, activate=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [N, outputs, H, W], mask [N, mask_channels, H', W'] of at least that size to x (1 + scale) + shift."""
        mask = F.adaptive_avg_pool2d(mask, x.shape[2:])  # one-hot channels become shares of the pixel
        scale, shift = self.last(self.hidden(mask)).to(x.dtype).chunk(2, 1)
        return torch.addcmul(x + shift, x, scale)


class StyledConv(nn.Module):
    """Modulated convolution, modulation by a mask and per-pixel noise if there are any, bias, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, up: bool, mask_channels: int = 0, noise: bool = True):
        super().__init__()
        self.affine = EqualLinear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros(())) if noise else None
        self.up = up
        self.by_mask = MaskModulation(mask_channels, outputs) if mask_channels else None

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None, mask: Tensor | None = None) -> Tensor:
        """x [N, inputs, h, w], w [N, w_dim], noise [N, 1, H, W] of the output's size, mask as StyleGAN2Generator.synthesize."""
        weight, style = _within_half(x, self.weight, self.affine(w))
        y = _convolve(x, weight, style, self.up)
        # the gain of the activation enters demodulation, noise and bias; the picture is passed over three times
        demodulate = (demodulation(weight, style) * SQRT2).to(y.dtype)[:, :, None, None]
        y = torch.addcmul((self.bias * SQRT2).to(y.dtype)[:, None, None], y, demodulate)
        y = y if self.by_mask is None else self.by_mask(y, mask)
        if self.noise_strength is not None:
            y.add_((noise * (self.noise_strength * SQRT2)).to(y.dtype))
        return _clamped(F.leaky_relu(y, 0.2, inplace=True))


class ToImage(nn.Module):
    """1x1 modulated convolution without demodulation, to the output channels."""

    def __init__(self, inputs: int, outputs: int, w_dim: int):
        super().__init__()
        self.affine = EqualLinear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H, W], in the type of the weights."""
        x = modulated_conv(x, self.weight * self.scale, self.affine(w), demodulate=False)
        return x.to(self.bias.dtype) + self.bias[:, None, None]


class StyleGAN2Generator(nn.Module):
    """Skip generator (fig. 7b): each resolution adds to the upsampled image of the one below.

    Args:
        size: (h, w), powers of two of ratio at most 2. out_channels: image channels and drawn mask channels together.
        c_dim: length of the condition vector, 0 = unconditional.
        mask_channels: of a mask that is given, 0 = none (mask to image, see MaskModulation).
        channel_base, channel_max: a resolution of height r has min(channel_base // r, channel_max) feature maps
            (by the shorter side). The paper's 256 px net is 32768 and 512 (16384 and 512: about half the work).
        noise: whether a map of noise enters after each convolution, as in the paper; without, all comes from the styles.
    """

    def __init__(self, size: Sequence[int], out_channels: int, c_dim: int = 0, z_dim: int = 512, w_dim: int = 512,
                 channel_base: int = 16384, channel_max: int = 512, mapping_depth: int = 8, mask_channels: int = 0,
                 noise: bool = True):
        super().__init__()
        h, w = check_size(size)
        self.mask_channels = mask_channels
        self.z_dim, self.w_dim, self.c_dim = z_dim, w_dim, c_dim
        sides = [4 * 2**i for i in range(int(math.log2(min(h, w))) - 1)]
        shape = (4 * h // min(h, w), 4 * w // min(h, w))
        width = [min(channel_base // s, channel_max) for s in sides]
        self.mapping = Mapping(z_dim, c_dim, w_dim, mapping_depth)
        self.register_buffer("w_mean", torch.zeros(w_dim))
        self.const = nn.Parameter(torch.randn(1, width[0], *shape))
        convs = [StyledConv(width[0], width[0], w_dim, False, mask_channels, noise)]
        shapes = [shape]
        for i in range(1, len(sides)):
            convs += [StyledConv(width[i - 1], width[i], w_dim, True, mask_channels, noise),
                      StyledConv(width[i], width[i], w_dim, False, mask_channels, noise)]
            shapes += [(shape[0] * 2**i, shape[1] * 2**i)] * 2
        self.noise_shapes = shapes if noise else []
        self.convs = nn.ModuleList(convs)
        self.to_image = nn.ModuleList(ToImage(c, out_channels, w_dim) for c in width)
        self.num_ws = len(convs) + 1  # each ToImage shares the style of the convolution that follows it

    def draw_noise(self, n: int, device: torch.device | str, generator: torch.Generator | None = None) -> list[Tensor]:
        """One [n, 1, H, W] noise map for every convolution, or none."""
        return [torch.randn(n, 1, *s, device=device, generator=generator) for s in self.noise_shapes]

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """Pull w towards its training mean: psi 1 leaves it, 0 gives the mean image."""
        return w if psi == 1 else torch.lerp(self.w_mean.to(w), w, psi)

    def synthesize(self, ws: Tensor, noise: Sequence[Tensor] | None = None, mask: Tensor | None = None) -> Tensor:
        """Styles to images.

        Args:
            ws: [N, num_ws, w_dim]. noise: as draw_noise makes it; None draws it from torch's global state.
            mask: [N, mask_channels, h, w] in [-1, 1], where the net was made for one.

        Returns:
            [N, out_channels, h, w]; trained on [-1, 1], not clipped to it.
        """
        noise = self.draw_noise(len(ws), ws.device) if noise is None else noise
        x = self.const.expand(len(ws), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        image = None
        for i, conv in enumerate(self.convs):
            x = conv(x, ws[:, i], noise[i] if self.noise_shapes else None, mask)
            if i % 2 == 0:  # the last convolution of a resolution
                layer = self.to_image[i // 2](x, ws[:, i + 1])
                with torch.autocast(ws.device.type, enabled=False):  # the picture itself is never of 8 bits
                    image = layer if image is None else upsample(image).add_(layer)
        return image

    def forward(self, z: Tensor, c: Tensor, truncation: float = 1.0, noise: Sequence[Tensor] | None = None,
                mask: Tensor | None = None) -> Tensor:
        """z [N, z_dim] and condition [N, c_dim] to images [N, out_channels, h, w]."""
        w = self.truncate(self.mapping(z, c), truncation)
        return self.synthesize(w[:, None].expand(-1, self.num_ws, -1), noise, mask)


def minibatch_stddev(x: Tensor, group: int = 4) -> Tensor:
    """Append one channel: the standard deviation over a group of images, averaged over features and pixels.

    Groups are images i, i + N/g, i + 2N/g ...; g is the largest divisor of N that is at most `group`.
    x: [N, C, H, W] to [N, C + 1, H, W].
    """
    n, _, h, w = x.shape
    g = max(d for d in range(1, min(group, n) + 1) if n % d == 0)
    y = x.reshape(g, n // g, -1)
    y = y.float() if y.dtype in (torch.bfloat16, torch.float16) else y
    spread = (y.var(0, unbiased=False) + 1e-8).sqrt().mean(1).to(x.dtype)
    return torch.cat([x, spread.repeat(g)[:, None, None, None].expand(-1, 1, h, w)], 1)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, the second halving the resolution, beside a 1x1 skip (fig. 7c)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv0 = EqualConv(inputs, inputs, 3)
        self.conv1 = EqualConv(inputs, outputs, 3, down=True, gain=1.0)  # sqrt(2) / sqrt(2): the sum keeps unit variance
        self.skip = EqualConv(inputs, outputs, 1, down=True, activate=False, gain=1 / SQRT2)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, 2H, 2W] to [N, outputs, H, W]."""
        return self.skip(x).add_(self.conv1(self.conv0(x)))


class StyleGAN2Discriminator(nn.Module):
    """Residual discriminator; a condition is projected onto its last features.

    Args:
        as StyleGAN2Generator; in_channels: image channels and mask channels together.
        group: images of one minibatch standard deviation.
        free: also judge pictures without their conditions, from the same features.
    """

    def __init__(self, size: Sequence[int], in_channels: int, c_dim: int = 0, channel_base: int = 16384,
                 channel_max: int = 512, mapping_depth: int = 8, group: int = 4, free: bool = False):
        super().__init__()
        h, w = check_size(size)
        sides = [4 * 2**i for i in reversed(range(int(math.log2(min(h, w))) - 1))]
        width = [min(channel_base // s, channel_max) for s in sides]
        self.from_image = EqualConv(in_channels, width[0], 1)
        self.blocks = nn.Sequential(*[ResidualBlock(a, b) for a, b in zip(width[:-1], width[1:], strict=True)])
        last, pixels = width[-1], 16 * max(h, w) // min(h, w)
        self.group = group
        self.conv = EqualConv(last + 1, last, 3)
        self.dense = EqualLinear(last * pixels, last, activate=True)
        self.out = EqualLinear(last, last if c_dim else 1)
        self.mapping = Mapping(0, c_dim, last, mapping_depth) if c_dim else None
        self.free = EqualLinear(last, 1) if free and c_dim else None

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Images [N, in_channels, h, w] and conditions [N, c_dim] to logits [N]; above 0 = real.

        With `free`: [N, 2], of the image alone and of the image under its condition.
        """
        x = self.blocks(self.from_image(x.contiguous(memory_format=torch.channels_last)))
        x = self.conv(minibatch_stddev(x, self.group))
        features = self.dense(x.flatten(1))
        x = self.out(features)
        if self.mapping is None:
            return x[:, 0]
        x = (x * unit_moment(self.mapping(None, c))).sum(1) / math.sqrt(x.shape[1])
        return x if self.free is None else torch.stack([self.free(features)[:, 0], x], 1)

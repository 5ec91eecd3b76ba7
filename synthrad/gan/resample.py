"""Separable resampling of image batches with any filter, and the wavelet filters that ADA uses."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

HALF_TAPS = 12
# Autocorrelation of the symlet of 2 vanishing moments, sum 1: a half-band low-pass filter without phase
SYM2_HALF_BAND = (-1 / 32, 0.0, 9 / 32, 0.5, 9 / 32, 0.0, -1 / 32)


@cache
def half_band() -> Tensor:
    """float64 [12], symmetric low-pass filter of sum 1 for a change of resolution by 2: a sinc under a Hann window.

    The ADA paper takes the symlet of 6 vanishing moments; that one is not symmetric, so that mirroring between the two
    resolutions would also move a picture.
    """
    t = torch.arange(HALF_TAPS, dtype=torch.float64) - (HALF_TAPS - 1) / 2
    taps = torch.sinc(t / 2) * torch.cos(torch.pi * t / HALF_TAPS).square()
    return taps / taps.sum()


def _along(x: Tensor, taps: Tensor, axis: int) -> tuple[Tensor, list[int], list[int]]:
    """Depthwise kernel for one axis (2 or 3), with stride 2 and padding lists that touch that axis only."""
    shape = [1, 1, 1, 1]
    shape[axis] = len(taps)
    stride, pad = [1, 1], [0, 0]
    stride[axis - 2], pad[axis - 2] = 2, len(taps) // 2 - 1
    return taps.to(x).reshape(shape).expand(x.shape[1], *shape[1:]), stride, pad


def upsample2x(x: Tensor, taps: Tensor) -> Tensor:
    """[N, C, H, W] to [N, C, 2H, 2W] with an even number of taps of sum 2 along each axis; zeros beyond the edge.

    Pixel n lies at 2n + 1/2 of the fine grid: y[m] = sum_n x[n] taps[m - 2n + len/2 - 1].
    """
    for axis in (2, 3):
        kernel, stride, pad = _along(x, taps, axis)
        x = F.conv_transpose2d(x, kernel, stride=stride, padding=pad, groups=x.shape[1])
    return x


def downsample2x(x: Tensor, taps: Tensor) -> Tensor:
    """[N, C, 2H, 2W] to [N, C, H, W], the transpose of upsample2x: y[n] = sum_m x[m] taps[m - 2n + len/2 - 1]."""
    for axis in (2, 3):
        kernel, stride, pad = _along(x, taps, axis)
        x = F.conv2d(x, kernel, stride=stride, padding=pad, groups=x.shape[1])
    return x


def mirror_pad(x: Tensor, pad: int) -> Tensor:
    """Pad [N, C, H, W] by reflection about the edge pixel's outer side (the edge pixel is repeated); pad <= H, W."""
    x = torch.cat([x[:, :, :pad].flip(2), x, x[:, :, x.shape[2] - pad :].flip(2)], 2)
    return torch.cat([x[:, :, :, :pad].flip(3), x, x[:, :, :, x.shape[3] - pad :].flip(3)], 3)


def filter_each(x: Tensor, taps: Tensor) -> Tensor:
    """Filter image i of [N, C, H, W] with its own symmetric taps[i] along both axes, mirrored edges.

    taps: [N, K], K odd; K // 2 must not exceed H and W.
    """
    n, c, h, w = x.shape
    k = taps.shape[1]
    y = mirror_pad(x, k // 2).reshape(1, n * c, h + k - 1, w + k - 1)
    kernel = taps.to(x).repeat_interleave(c, 0)
    y = F.conv2d(y, kernel[:, None, :, None], groups=n * c)
    return F.conv2d(y, kernel[:, None, None, :], groups=n * c).reshape(n, c, h, w)


@cache
def octave_bands() -> Tensor:
    """float64 [4, 43], filters that pass up to pi/8, pi/8-pi/4, pi/4-pi/2, pi/2-pi and sum to the unit impulse."""
    half = torch.tensor(SYM2_HALF_BAND, dtype=torch.float64)

    def stretch(f: Tensor, factor: int) -> Tensor:
        out = torch.zeros((len(f) - 1) * factor + 1, dtype=f.dtype)
        out[::factor] = f
        return out

    def convolve(a: Tensor, b: Tensor) -> Tensor:
        return F.conv1d(a[None, None], b.flip(0)[None, None], padding=len(b) - 1)[0, 0]

    low = [torch.ones(1, dtype=torch.float64), half]
    low.append(convolve(low[1], stretch(half, 2)))
    low.append(convolve(low[2], stretch(half, 4)))
    full = [F.pad(f, [(43 - len(f)) // 2] * 2) for f in low]
    return torch.stack([full[3], full[2] - full[3], full[1] - full[2], full[0] - full[1]])

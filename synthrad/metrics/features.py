"""Radiomics features of images: texture, edges and layout, without any trained weights.

A Frechet or kernel distance needs a space in which images are compared. Inception's weights cannot be had offline and were
learned on photographs; these columns are fixed formulas, each with a name that a radiologist can read. For every channel:

- first order: moments, percentiles, entropy and uniformity of a histogram of 32 fixed bins over [-1, 1];
- co-occurrence of 16 fixed grey levels at distances 1, 2 and 4 in 4 directions (Haralick, Shanmugam and Dinstein, 1973,
  "Textural features for image classification"): log contrast (f2), correlation (f3), energy (root of f1), homogeneity (f5),
  entropy (f9);
- a pyramid of 4 octaves (Burt and Adelson, 1983; filtered, subtracted, then halved: Anderson, 1984): energy and sparsity of
  each band, and energy of second differences in 4 directions, which stand where a Gabor bank has its oriented filters;
- a histogram of gradient orientations, weighted by magnitude (Dalal and Triggs, 2005);
- layout: mean and standard deviation in 4 x 4 cells, so that anatomy counts and not texture alone.

Two channels of one image (MR sequences) also have a correlation of their pixels each. All columns are of order 1, so that
`Standardizer` can tell a constant column from one that varies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthrad.errors import InputError

LEAST_SIZE = 16  # pixels a side: the coarsest of 4 octaves still has 2 x 2
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
BINS = 32
LEVELS = 16
DISTANCES = (1, 2, 4)
DIRECTIONS = {"0": (0, 1), "45": (-1, 1), "90": (-1, 0), "135": (-1, -1)}  # degrees: (rows, columns) of a step
TEXTURES = ("log_contrast", "correlation", "energy", "homogeneity", "entropy")
OCTAVES = 4
ORIENTATIONS = 8
CELLS = 4
STRUCTURE_PIXELS = 32
QUIET = 1e-5  # variance below which a channel or band counts as flat: twice that of rounding [-1, 1] to 8 bits
PIXELS_AT_ONCE = 2**19  # of one pass: bounds its memory, and on a CPU larger ones leave the cache


def feature_names(channels: Sequence[str]) -> tuple[str, ...]:
    """Names of the columns of `radiomics` for images with these channels, in order."""
    per_channel = [
        *("mean", "sd", "skewness", "log_kurtosis"), *(f"percentile_{p}" for p in PERCENTILES),
        "histogram_entropy", "histogram_uniformity",
        *(f"cooccurrence_{t}_{d}px_{a}deg" for d in DISTANCES for a in DIRECTIONS for t in TEXTURES),
        *(f"octave{o}_{what}" for o in range(OCTAVES)
          for what in ("log_energy", "sparsity", *(f"log_energy_{a}deg" for a in DIRECTIONS))),
        "log_gradient", *(f"gradient_{round(180 * k / ORIENTATIONS, 1):g}deg" for k in range(ORIENTATIONS)),
        *(f"cell_{row}{column}_{what}" for what in ("mean", "sd") for row in range(CELLS) for column in range(CELLS)),
    ]
    pairs = [f"correlation/{a}~{b}" for a, b in combinations(channels, 2)]
    return (*(f"{c}/{name}" for c in channels for name in per_channel), *pairs)


@torch.no_grad()
def radiomics(images: Tensor) -> Tensor:
    """Features of images; each image's row depends on that image alone.

    Args:
        images: float [n, C, H, W] in [-1, 1], H and W at least 16, on any device.

    Returns:
        float32 [n, d] on the same device, columns as in `feature_names`: 140 a channel and 1 a pair of channels.

    Raises:
        InputError: another shape, a smaller size, values that are not finite or outside of [-1, 1].
    """
    _check(images)
    if not len(images):
        return torch.zeros(0, len(feature_names([""] * images.shape[1])), device=images.device)
    step = max(1, PIXELS_AT_ONCE // int(np.prod(images.shape[1:])))
    return torch.cat([_one_pass(part.float()) for part in images.split(step)])


def _check(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] < 1 or min(images.shape[2:]) < LEAST_SIZE:
        raise InputError("images", f"shape {tuple(images.shape)}", f"[n, C, H, W], H and W at least {LEAST_SIZE}",
                         "features of smaller images say nothing: draw them larger")
    if not images.numel():
        return
    wrong = (~torch.isfinite(images)).flatten(1).any(1)
    if wrong.any():
        raise InputError("images", f"NaN or Inf in {int(wrong.sum())} of {len(images)}", "finite pixels in [-1, 1]")
    low, high = float(images.min()), float(images.max())
    if low < -1.001 or high > 1.001:
        raise InputError("images", f"pixels from {low:g} to {high:g}", "pixels in [-1, 1]", "scale them first")


def _one_pass(images: Tensor) -> Tensor:
    n, c, h, w = images.shape
    grey = images.clamp(-1, 1).reshape(n * c, h, w)
    each = torch.cat([_first_order(grey), _cooccurrence(grey), _pyramid(grey), _gradients(grey), _layout(grey)], 1)
    return torch.cat([each.reshape(n, -1), _between_channels(images)], 1)


def _counts(index: Tensor, bins: int) -> Tensor:
    """How often each value of int64 [N, ...] in [0, bins) occurs, as shares [N, bins]; integer sums, so always the same bits."""
    n = len(index)
    offset = torch.arange(n, device=index.device).reshape(-1, *[1] * (index.ndim - 1)) * bins
    counts = torch.bincount((index + offset).flatten(), minlength=n * bins).reshape(n, bins)
    return counts.float() / index[0].numel()


def _quantise(grey: Tensor, levels: int) -> Tensor:
    """[-1, 1] to levels of equal width, the last one with its upper border."""
    return ((grey + 1) * (levels / 2)).long().clamp(max=levels - 1)


def _entropy(shares: Tensor) -> Tensor:
    """In nats, over the last axis."""
    return torch.special.entr(shares).sum(-1)


def _first_order(grey: Tensor) -> Tensor:
    """[N, 15]: moments, percentiles with linear interpolation, entropy, uniformity. A flat image has skewness and kurtosis 0."""
    flat = grey.flatten(1)
    mean = flat.mean(1)
    centred = flat - mean[:, None]
    variance = centred.square().mean(1)
    skewness = centred.pow(3).mean(1) / (variance + QUIET).pow(1.5)
    kurtosis = centred.pow(4).mean(1) / (variance + QUIET).square()
    ordered = flat.sort(1).values
    place = torch.tensor(PERCENTILES, device=flat.device, dtype=torch.float64) / 100 * (flat.shape[1] - 1)
    below, part = place.floor().long(), (place - place.floor()).float()
    above = (below + 1).clamp(max=flat.shape[1] - 1)
    percentiles = torch.lerp(ordered[:, below], ordered[:, above], part)
    shares = _counts(_quantise(flat, BINS), BINS)
    columns = [mean, variance.sqrt(), skewness, kurtosis.log1p()]
    return torch.cat([torch.stack(columns, 1), percentiles, _entropy(shares)[:, None], shares.square().sum(1)[:, None]], 1)


def _cooccurrence(grey: Tensor) -> Tensor:
    """[N, 60]: Haralick's measures of symmetric co-occurrence matrices; the correlation of a single level is 1."""
    n, h, w = grey.shape
    level = _quantise(grey, LEVELS)
    i = torch.arange(LEVELS, device=grey.device, dtype=torch.float32)
    apart = (i[:, None] - i[None]).square()
    columns = []
    for distance in DISTANCES:
        for rows, across in DIRECTIONS.values():
            dy, dx = rows * distance, across * distance
            here = level[:, max(0, -dy) : h - max(0, dy), max(0, -dx) : w - max(0, dx)]
            there = level[:, max(0, dy) : h - max(0, -dy), max(0, dx) : w - max(0, -dx)]
            p = _counts(here * LEVELS + there, LEVELS * LEVELS).reshape(n, LEVELS, LEVELS)
            p = (p + p.transpose(1, 2)) / 2
            mean = (p.sum(2) * i).sum(1)
            off = i - mean[:, None]
            variance = (p.sum(2) * off.square()).sum(1)
            contrast = (p * apart).sum((1, 2))
            covariance = (p * off[:, :, None] * off[:, None, :]).sum((1, 2))
            correlation = torch.where(variance > QUIET, covariance / variance.clamp(min=QUIET), torch.ones_like(variance))
            columns += [contrast.log1p(), correlation, p.square().sum((1, 2)).sqrt(), (p / (1 + apart)).sum((1, 2)),
                        _entropy(p.flatten(1))]
    return torch.stack(columns, 1)


def _pad(grey: Tensor, by: int) -> Tensor:
    return F.pad(grey[:, None], (by, by, by, by), mode="replicate")[:, 0]


def _blur(grey: Tensor) -> Tensor:
    """Burt and Adelson's 5-tap binomial, along rows and columns, borders repeated."""
    h, w = grey.shape[1:]
    padded, taps = _pad(grey, 2), (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
    down = sum(t * padded[:, k : k + h] for k, t in enumerate(taps))
    return sum(t * down[:, :, k : k + w] for k, t in enumerate(taps))


def _log_rms(x: Tensor) -> Tensor:
    return 0.5 * (x.square().mean((1, 2)) + QUIET).log()


def _pyramid(grey: Tensor) -> Tensor:
    """[N, 24]: per octave the band's log root mean square and sparsity (mean magnitude over it), then 4 directions."""
    columns = []
    for _ in range(OCTAVES):
        h, w = grey.shape[1:]
        low = _blur(grey)
        band = grey - low
        columns += [_log_rms(band), band.abs().mean((1, 2)) / (band.square().mean((1, 2)) + QUIET).sqrt()]
        padded = _pad(grey, 1)
        for dy, dx in DIRECTIONS.values():
            ahead = padded[:, 1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]
            behind = padded[:, 1 - dy : 1 - dy + h, 1 - dx : 1 - dx + w]
            columns.append(_log_rms(2 * grey - ahead - behind))
        grey = F.avg_pool2d(low[:, None], 2, ceil_mode=True)[:, 0]  # every second pixel would favour one side
    return torch.stack(columns, 1)


def _gradients(grey: Tensor) -> Tensor:
    """[N, 9]: log root mean square of the gradient, then each orientation's share of all magnitude times their number.

    Bins are centred on 0, 22.5 ... degrees, so that rows and columns of pixels do not lie on a border of two bins.
    """
    h, w = grey.shape[1:]
    padded = _pad(grey, 1)
    dy = (padded[:, 2 : 2 + h, 1 : 1 + w] - padded[:, :h, 1 : 1 + w]) / 2
    dx = (padded[:, 1 : 1 + h, 2 : 2 + w] - padded[:, 1 : 1 + h, :w]) / 2
    magnitude = torch.hypot(dx, dy)
    angle = torch.atan2(dy, dx) * (ORIENTATIONS / np.pi)
    bin_of = angle.round().long() % ORIENTATIONS
    total = magnitude.sum((1, 2)) + QUIET
    shares = [(magnitude * (bin_of == k)).sum((1, 2)) / total * ORIENTATIONS for k in range(ORIENTATIONS)]
    return torch.stack([_log_rms(magnitude), *shares], 1)


def _layout(grey: Tensor) -> Tensor:
    """[N, 32]: means of 4 x 4 cells, row by row, then their standard deviations."""
    mean = F.adaptive_avg_pool2d(grey[:, None], CELLS).flatten(1)
    square = F.adaptive_avg_pool2d(grey[:, None].square(), CELLS).flatten(1)
    return torch.cat([mean, (square - mean.square()).clamp(min=0).sqrt()], 1)


def _between_channels(images: Tensor) -> Tensor:
    """[n, C (C - 1) / 2]: Pearson's correlation of the pixels of two channels; near 0 where one is flat."""
    flat = images.flatten(2)
    centred = flat - flat.mean(2, keepdim=True)
    variance = centred.square().mean(2) + QUIET
    columns = [(centred[:, a] * centred[:, b]).mean(1) / (variance[:, a] * variance[:, b]).sqrt()
               for a, b in combinations(range(images.shape[1]), 2)]
    return torch.stack(columns, 1) if columns else images.new_zeros(len(images), 0)


@torch.no_grad()
def structure(images: Tensor) -> Tensor:
    """What lies where in an image, without its brightness, shading, contrast and finest grain.

    Radiomics hardly see that an anatomy is repeated where texture and grey levels still vary; these pixels do. They are for
    distances between images of one set (metrics.fidelity.variety): sqrt(2 - 2 r) for images whose structures correlate by r.

    Args:
        images: float [n, C, H, W], H and W at least 16.

    Returns:
        float32 [n, C h w] of unit length (0 for a flat image): the image pooled to 32 pixels on its shorter side, each
        channel less its own means over 4 x 4 of those pixels, interpolated.
    """
    _check(images)
    h, w = (max(1, round(s * min(1, STRUCTURE_PIXELS / min(images.shape[2:])))) for s in images.shape[2:])
    small = F.adaptive_avg_pool2d(images.float(), (h, w))
    shading = F.interpolate(F.adaptive_avg_pool2d(small, (h // 4, w // 4)), (h, w), mode="bilinear")
    return F.normalize((small - shading).flatten(1), eps=QUIET)


class RadiomicsFeatures(nn.Module):
    """`radiomics` as a module, for the callbacks and for torchmetrics (`FrechetInceptionDistance(feature=...)`).

    Args:
        channels: number of image channels.
    """

    def __init__(self, channels: int = 1):
        super().__init__()
        self.channels = channels
        self.num_features = len(feature_names([""] * channels))  # torchmetrics asks for it

    def forward(self, images: Tensor) -> Tensor:
        """[n, C, H, W] in [-1, 1] to [n, num_features]."""
        if images.ndim == 4 and images.shape[1] != self.channels:
            raise InputError("images", f"{images.shape[1]} channels", f"{self.channels}, as the features were made for")
        return radiomics(images)


@dataclass(frozen=True)
class Standardizer:
    """Columns in standard deviations from the mean of a reference set, the same for every set that is compared.

    A standard deviation below `least_sd` counts as that: a column that is constant in the reference (a black border) still
    says whether another set differs there, but rounding does not. Values beyond `limit` are set to it, so that a single
    column of images that are far from all real ones cannot outweigh the rest.

    Args:
        mean, sd: [d]. least_sd: in units of the columns, about one grey level of 8 bits. limit: in standard deviations.
    """

    mean: np.ndarray
    sd: np.ndarray
    least_sd: float = 0.01
    limit: float = 10.0

    @classmethod
    def fit(cls, reference: np.ndarray | Tensor, least_sd: float = 0.01, limit: float = 10.0) -> Standardizer:
        """From the rows of a reference set [n, d], n at least 2."""
        rows = np.asarray(reference, dtype=np.float64)
        if rows.ndim != 2 or len(rows) < 2:
            raise InputError("reference features", f"shape {rows.shape}", "[n, d] of at least 2 images")
        return cls(rows.mean(0), rows.std(0, ddof=1), least_sd, limit)

    def __call__(self, features: np.ndarray | Tensor) -> np.ndarray:
        """[n, d] to float64 [n, d] in [-limit, limit]."""
        rows = np.asarray(features, dtype=np.float64)
        return np.clip((rows - self.mean) / np.maximum(self.sd, self.least_sd), -self.limit, self.limit)

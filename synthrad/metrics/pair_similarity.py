"""MS-SSIM between images of one set: the more alike they are, the less varied the set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics import MultiScaleSSIMMetric
from scipy import stats
from torch import Tensor

from synthrad.errors import InputError
from synthrad.progress import progress

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales, finest first (Wang, Simoncelli and Bovik, 2003)
WINDOW = 11  # pixels of its Gaussian
PAIRS = 500
PAIRS_AT_ONCE = 64


@dataclass(frozen=True)
class PairMean:
    """A mean over pairs of images.

    Args:
        value: of the pairs. low, high: 95 % interval over images (or patients): delete-one jackknife. pairs, units: how many.
    """

    value: float
    low: float
    high: float
    pairs: int
    units: int


def scales_of(height: int, width: int) -> tuple[float, ...]:
    """Weights of the scales that images of this size bear: a window must fit into the coarsest; those of fewer than five sum to 1."""
    side = min(height, width)
    fits = [k for k in range(1, len(WEIGHTS) + 1) if side // 2 ** (k - 1) >= WINDOW and side // max(1, k - 1) ** 2 >= WINDOW]  # MONAI's own rule
    if not fits:
        raise InputError("images", f"{height} x {width} pixels", f"at least {WINDOW} on each side")
    kept = WEIGHTS[: fits[-1]]
    return kept if len(kept) == len(WEIGHTS) else tuple(w / sum(kept) for w in kept)


@torch.no_grad()
def ms_ssim(x: Tensor, y: Tensor, title: str = "") -> np.ndarray:
    """[n] multi-scale structural similarity of pairs (Wang, Simoncelli and Bovik, 2003, eq. 7), by MONAI.

    Args:
        x, y: [n, C, H, W] in [-1, 1]. title: of a progress bar; "" = none.
    """
    measure = MultiScaleSSIMMetric(2, data_range=2.0, weights=scales_of(*x.shape[2:]), reduction="none")
    steps = progress(range(0, len(x), PAIRS_AT_ONCE), desc=title, unit="batch", show=bool(title))
    return torch.cat([measure(x[i : i + PAIRS_AT_ONCE], y[i : i + PAIRS_AT_ONCE]).flatten() for i in steps]).double().numpy()


def drawn_pairs(units: np.ndarray, number: int = PAIRS, seed: int = 0) -> np.ndarray:
    """[p, 2] rows, at most `number` pairs of images of different units, no pair twice; all of them where there are no more."""
    i, j = np.triu_indices(len(units), 1) if len(units) <= 2000 else _random_pairs(len(units), 4 * number, seed)
    apart = np.flatnonzero(units[i] != units[j])
    chosen = np.sort(np.random.default_rng(seed).permutation(apart)[:number])
    return np.stack([i[chosen], j[chosen]], 1)


def _random_pairs(n: int, number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = np.sort(np.random.default_rng([seed, 1]).integers(n, size=(number, 2)), 1)
    return tuple(np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0).T)


def pair_mean(values: np.ndarray, pairs: np.ndarray, units: np.ndarray) -> PairMean:
    """Mean of a statistic of pairs with its interval: units are deleted one by one, with all pairs that they are in.

    Args:
        values: [p]. pairs: [p, 2] rows. units: [n] of each row, its patient.
    """
    who = np.unique(units[pairs], return_inverse=True)[1].reshape(pairs.shape)
    n = int(who.max()) + 1
    if n < 3:
        raise InputError("units", str(n), "at least 3")
    count = np.bincount(who.ravel(), minlength=n)
    total = np.bincount(who.ravel(), np.repeat(values, 2), minlength=n)
    kept = len(values) - count
    if not (kept > 0).all():
        raise InputError("pairs", "a unit that is in all of them", "pairs among several units")
    less = (values.sum() - total) / kept
    error = np.sqrt((n - 1) / n * np.square(less - less.mean()).sum())
    value, half = float(values.mean()), float(stats.t.ppf(0.975, n - 1) * error)
    return PairMean(value, value - half, value + half, len(values), n)


def within_set(images: Tensor, units: np.ndarray, number: int = PAIRS, seed: int = 0, title: str = "") -> PairMean:
    """MS-SSIM of pairs of images of one set (Odena et al., 2017, section 4.2).

    Args:
        images: [n, C, H, W] in [-1, 1]. units: [n], patients; images of one are not paired. number: of pairs, drawn by the seed.
    """
    pairs = drawn_pairs(np.asarray(units), number, seed)
    if len(pairs) < 3:
        raise InputError("images", f"{len(pairs)} pairs of different patients", "at least 3")
    at = torch.from_numpy(pairs)
    return pair_mean(ms_ssim(images[at[:, 0]], images[at[:, 1]], title), pairs, np.asarray(units))

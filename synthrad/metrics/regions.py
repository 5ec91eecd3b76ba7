"""Shape of masks: how much of the picture each structure covers, and in how many pieces; ranges of both."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

UNKNOWN = 255  # mask value of a layer that is not known for an image
EIGHT = np.ones((3, 3), dtype=bool)  # pixels that touch by a corner belong together


def area_shares(mask: np.ndarray, structures: int) -> np.ndarray:
    """Share of the picture that each structure covers.

    Args:
        mask: integer [H, W]; 0 background, k structure k - 1, 255 unknown.
        structures: number of structures of the layer.

    Returns:
        float64 [structures] in [0, 1]; all NaN where the layer is unknown.
    """
    if (mask == UNKNOWN).all():
        return np.full(structures, np.nan)
    counts = np.bincount(mask[mask != UNKNOWN].ravel(), minlength=structures + 1)
    return counts[1 : structures + 1] / mask.size


def component_counts(mask: np.ndarray, structures: int, connectivity: np.ndarray = EIGHT) -> np.ndarray:
    """Number of connected components of each structure.

    Args:
        mask: as in `area_shares`.
        structures: number of structures of the layer.
        connectivity: bool [3, 3], which neighbours belong together; 8-connected by default.

    Returns:
        float64 [structures], whole numbers; all NaN where the layer is unknown.
    """
    if (mask == UNKNOWN).all():
        return np.full(structures, np.nan)
    counts = np.zeros(structures)
    for k in np.unique(mask):
        if 0 < k <= structures:
            counts[k - 1] = ndimage.label(mask == k, structure=connectivity)[1]
    return counts


def ranges(values: np.ndarray, tail: float = 0.005) -> tuple[np.ndarray, np.ndarray]:
    """Range of each column over the images that have the structure (value above 0).

    Observed values bound the range (no interpolation): with fewer than 1 / tail images it is [smallest, largest].

    Args:
        values: float [n, structures]; 0 and NaN do not count.
        tail: share left outside at each end.

    Returns:
        low, high: float [structures]; NaN where no image has the structure.
    """
    low = np.full(values.shape[1], np.nan)
    high = low.copy()
    for k in range(values.shape[1]):
        seen = values[values[:, k] > 0, k]
        if len(seen):
            low[k] = np.quantile(seen, tail, method="lower")
            high[k] = np.quantile(seen, 1 - tail, method="higher")
    return low, high


def share_inside(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Share of the structures present in each image whose value lies in [low, high].

    Args:
        values: float [n, structures]; a structure is present where its value is above 0.
        low, high: float [structures]; NaN (never seen in the reference) counts as outside.

    Returns:
        float [n] in [0, 1]; NaN for an image without any structure.
    """
    present = values > 0
    inside = present & (values >= low) & (values <= high)
    total = present.sum(axis=1)
    return np.where(total > 0, inside.sum(axis=1) / np.maximum(total, 1), np.nan)


def agreement(
    masks: np.ndarray, prediction: np.ndarray, structures: list[int], asked: np.ndarray
) -> tuple[float, np.ndarray]:
    """Dice between an image's own masks and a judge's.

    Args:
        masks, prediction: uint8 [L, h, w]; 255 in masks = layer unknown.
        structures: number of structures of each layer, n in all.
        asked: bool [n], structures that the image's condition names: one missing from the mask counts 0.

    Returns:
        Dice pooled over each layer's structures, mean over layers that hold or were asked for one (NaN: none);
        Dice of each structure [n], NaN where it is neither held nor asked for.
    """
    each, layers, start = np.full(sum(structures), np.nan), [], 0
    for mask, seen, n in zip(masks, prediction, structures, strict=True):
        here = slice(start, start + n)
        start += n
        if (mask == UNKNOWN).all():
            continue
        held, found = (np.bincount(m.ravel(), minlength=n + 1)[1 : n + 1] for m in (mask, seen))
        both = np.bincount(mask[mask == seen], minlength=n + 1)[1 : n + 1]
        counted = (held > 0) | asked[here]
        sizes = held + found
        each[here] = np.where(counted, 2 * both / np.maximum(sizes, 1), np.nan)
        if counted.any():
            layers.append(2 * both.sum() / max(sizes.sum(), 1))
    return (float(np.mean(layers)) if layers else float("nan")), each

"""Ways to move masks before a generator draws from them: the moved mask is the label of what is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from synthrad.data.transforms import move_masks
from synthrad.errors import InputError, near

WITHIN = "within:"
TRANSFORMS = ("none", "flip", "affine", "elastic", f"{WITHIN}<layer>")
PLACES = 50  # tried for one structure inside its organ
TURN, ZOOM = 15.0, 0.15  # degrees, and logarithm of the scale, of a structure inside its organ


def check_transform(transform: str, layers: Sequence[str] | None, where: str) -> None:
    """Refuse a move that nobody knows.

    Args:
        layers: of the masks; None = not known yet.

    Raises:
        InputError: another word, or the layer of `within:` is none of `layers`, or the only one.
    """
    organ = transform.removeprefix(WITHIN)
    if organ == transform:
        if transform not in TRANSFORMS[:-1]:
            raise InputError(where, repr(transform), f"one of {', '.join(TRANSFORMS)}", near(transform, list(TRANSFORMS[:-1])))
        return
    if layers is not None and (organ not in layers or len(layers) < 2):
        raise InputError(where, f"within:{organ}, and the layers {list(layers)}", "a layer whose structures stay, and another one whose "
                         "structures move in it", near(organ, list(layers)) if organ not in layers else "take affine")


def move(masks: np.ndarray, layers: Sequence[str], transform: str, rng: np.random.Generator) -> np.ndarray:
    """Masks int64 [L, H, W], moved.

    Args:
        layers: names of the L. transform: none; flip mirrors in half of the cases; affine turns, scales and shifts as the light
            augmentation does; elastic also bends (data.transforms.move_masks); within:<layer> leaves that layer as it is and puts
            each connected part of the others somewhere else in its foreground, turned by up to 15 degrees and scaled by up to
            16 %: as much of it inside as before, on no other part. A part that lies mostly outside, or fits nowhere, stays.
    """
    if transform == "flip":
        return masks[..., ::-1] if rng.random() < 0.5 else masks
    if transform in ("affine", "elastic"):
        return move_masks(masks, rng, elastic=transform == "elastic")
    if transform.startswith(WITHIN):
        return _within(masks, list(layers).index(transform.removeprefix(WITHIN)), rng)
    return masks


def _within(masks: np.ndarray, organ: int, rng: np.random.Generator) -> np.ndarray:
    inside, out = masks[organ] > 0, masks.copy()
    places = np.argwhere(inside)
    for k, layer in enumerate(masks):
        if k == organ or not len(places):
            continue
        found = [part for value in np.unique(layer[layer > 0]) for part in _parts(layer, value)]
        found.sort(key=lambda part: (inside[part[1]].mean() >= 0.5, -len(part[1][0])))  # those that stay first, then the largest
        made = np.zeros_like(layer)
        for value, pixels in found:
            made[_placed(pixels, inside, places, made > 0, rng)] = value
        out[k] = made
    return out


def _parts(layer: np.ndarray, value: int) -> list[tuple[int, tuple[np.ndarray, np.ndarray]]]:
    """Connected parts of a structure, each with the (y, x) of its pixels."""
    numbered, n = ndimage.label(layer == value, structure=np.ones((3, 3)))
    return [(int(value), np.nonzero(numbered == i + 1)) for i in range(n)]


def _placed(pixels: tuple[np.ndarray, np.ndarray], inside: np.ndarray, places: np.ndarray, taken: np.ndarray,
            rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) of a part's pixels at its new place, or where they were, without those that are taken by now."""
    share = inside[pixels].mean()
    for _ in range(PLACES if share >= 0.5 else 0):
        angle, zoom = np.deg2rad(rng.uniform(-TURN, TURN)), np.exp(rng.uniform(-ZOOM, ZOOM))
        y, x = _carried(pixels, places[rng.integers(len(places))], angle, zoom)
        if min(y.min(initial=0), x.min(initial=0)) < 0 or y.max(initial=0) >= len(inside) or x.max(initial=0) >= inside.shape[1]:
            continue
        if len(y) and not taken[y, x].any() and inside[y, x].mean() >= share:
            return y, x
    free = ~taken[pixels]
    return pixels[0][free], pixels[1][free]


def _carried(pixels: tuple[np.ndarray, np.ndarray], centre: np.ndarray, angle: float, zoom: float) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) of a part turned and scaled about its middle, which comes to lie on `centre`; without holes: drawn backwards."""
    at = np.stack(pixels)
    low, middle = at.min(1), at.mean(1)
    picture = np.zeros(at.max(1) - low + 1, bool)
    picture[tuple(at - low[:, None])] = True
    reach = int(np.ceil(np.hypot(*picture.shape) * zoom)) + 1
    window = np.stack(np.mgrid[-reach:reach + 1, -reach:reach + 1]).reshape(2, -1)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom
    source = np.rint(turn @ window + (middle - low)[:, None]).astype(int)
    hit = ((source >= 0) & (source < np.array(picture.shape)[:, None])).all(0)
    hit[hit] = picture[tuple(source[:, hit])]
    return tuple(window[:, hit] + centre[:, None])

"""Ways to move masks before a generator draws from them: the moved mask is the label of what is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from synthrad.data.mirroring import mirror, mirror_values
from synthrad.data.transforms import move_masks
from synthrad.errors import InputError, near

WITHIN = "within:"
TRANSFORMS = ("none", "flip", "affine", "elastic", f"{WITHIN}<layer>")
PLACES = 50  # tried for one structure inside its organ
TURN, ZOOM = 15.0, 0.15  # degrees, and logarithm of the scale, of a structure inside its organ


def check_transform(transform: str, layers: Mapping[str, Sequence[str]] | None, where: str) -> None:
    """Refuse a move that nobody knows.

    Args:
        layers: of the masks, with their structures; None = not known yet.

    Raises:
        InputError: another word, a mirror of structures of one side, or the layer of `within:` is none of `layers`, or the only one.
    """
    organ = transform.removeprefix(WITHIN)
    if organ == transform:
        if transform not in TRANSFORMS[:-1]:
            raise InputError(where, repr(transform), f"one of {', '.join(TRANSFORMS)}", near(transform, list(TRANSFORMS[:-1])))
        if transform == "flip" and layers is not None:
            mirror_values(layers, where)
        return
    if layers is not None and (organ not in layers or len(layers) < 2):
        raise InputError(where, f"within:{organ}, and the layers {list(layers)}", "a layer whose structures stay, and another one whose "
                         "structures move in it", near(organ, list(layers)) if organ not in layers else "take affine")


def move(masks: np.ndarray, layers: Mapping[str, Sequence[str]], transform: str, rng: np.random.Generator) -> np.ndarray:
    """Masks int64 [L, H, W], moved.

    Args:
        layers: the L, with their structures. transform: none; flip mirrors in half of the cases, see data.mirroring; affine turns, scales and shifts as the light
            augmentation does; elastic also bends (data.transforms.move_masks); within:<layer> leaves that layer as it is and puts
            each connected part of the others somewhere else in its foreground, turned by up to 15 degrees and scaled by up to
            16 %: as much of it inside as before, on no other part. A part that lies mostly outside, or fits nowhere, stays.
    """
    if transform == "flip":
        return mirror(masks, mirror_values(layers, "mask_transform")) if rng.random() < 0.5 else masks
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
        found = [(value, pixels, inside[pixels].mean()) for value in np.unique(layer[layer > 0]) for pixels in _parts(layer == value)]
        found.sort(key=lambda part: (part[2] >= 0.5, -len(part[1][0])))  # those that stay first, then the largest
        out[k] = 0
        for value, pixels, share in found:
            out[k][_placed(pixels, share, inside, places, out[k], rng)] = value
    return out


def _parts(shown: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(y, x) of the pixels of each connected part."""
    numbered, _ = ndimage.label(shown, structure=np.ones((3, 3)))
    return [tuple(at + box.start for at, box in zip(np.nonzero(numbered[boxes] == i + 1), boxes, strict=True))
            for i, boxes in enumerate(ndimage.find_objects(numbered))]


def _placed(pixels: tuple[np.ndarray, np.ndarray], share: float, inside: np.ndarray, places: np.ndarray, taken: np.ndarray,
            rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) of a part's pixels at its new place, or where they were, without those that are taken (above 0) by now.

    Args:
        share: of the part that lies inside its organ. places: [n, 2], pixels of the organ.
    """
    at, highest = np.stack(pixels), np.array(inside.shape)[:, None] - 1
    ends = at[:, [*at.argmin(1), *at.argmax(1)]] - at.mean(1, keepdims=True)  # few pixels tell most places that cannot be
    for _ in range(PLACES if share >= 0.5 else 0):
        angle, zoom = np.deg2rad(rng.uniform(-TURN, TURN)), np.exp(rng.uniform(-ZOOM, ZOOM))
        centre = places[rng.integers(len(places))]
        reached = _turn(angle, zoom) @ ends + centre[:, None]
        if (reached < -1).any() or (reached > highest + 1).any() or at.shape[1] * zoom**2 * share > 1.2 * len(places):
            continue
        y, x = made = _carried(at, centre, angle, zoom)
        if y.size and (made >= 0).all() and (made <= highest).all() and not taken[y, x].any() and inside[y, x].mean() >= share:
            return y, x
    free = taken[pixels] == 0
    return pixels[0][free], pixels[1][free]


def _turn(angle: float, zoom: float) -> np.ndarray:
    """[2, 2]: (y, x) from the middle of a part to where they come to lie."""
    return zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _carried(at: np.ndarray, centre: np.ndarray, angle: float, zoom: float) -> np.ndarray:
    """[2, m]: (y, x) of the pixels `at` of a part, turned and scaled about its middle, which comes to lie on `centre`.

    Without holes: each pixel of the result looks up where it is from.
    """
    low, middle, turn = at.min(1), at.mean(1), _turn(angle, zoom)
    picture = np.zeros(at.max(1) - low + 1, bool)
    picture[tuple(at - low[:, None])] = True
    sides = np.stack([low, at.max(1)]) - middle
    box = turn @ np.array([(y, x) for y in sides[:, 0] for x in sides[:, 1]]).T
    (top, left), (bottom, right) = np.floor(box.min(1)).astype(int) - 1, np.ceil(box.max(1)).astype(int) + 1
    window = np.stack(np.mgrid[top:bottom + 1, left:right + 1]).reshape(2, -1)
    source = np.rint(np.linalg.inv(turn) @ window + (middle - low)[:, None]).astype(int)
    hit = ((source >= 0) & (source < np.array(picture.shape)[:, None])).all(0)
    hit[hit] = picture[tuple(source[:, hit])]
    return window[:, hit] + centre[:, None]

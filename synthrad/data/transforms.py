"""Augmentation of images with their masks: light, on the fly for every arm; strong, the classical control arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image
from scipy import ndimage

from synthrad.cases import Case
from synthrad.data.mirroring import mirror, mirror_values

UNKNOWN = 255  # value of a layer without a mask in uint8 masks; -1 in Case.masks
OUTSIDE = -1.0  # what a moved picture leaves behind: black, as beyond the edge of a radiograph


def light(case: Case, rng: np.random.Generator) -> Case:
    """The same mild change for every arm: up to 5 degrees, 8 % scale, 4 % shift; brightness 0.1, contrast 10 %.

    Args:
        case: image [C, H, W] in [-1, 1], masks [L, H, W] (-1 = unknown layer, left alone).
        rng: source of all randomness; the same state gives the same result.
    """
    import torch

    image, masks = light_pair(case.image.numpy(), case.masks.numpy(), rng)
    return replace(case, image=torch.from_numpy(image), masks=torch.from_numpy(masks))


def light_pair(image: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`light` of arrays.

    Args:
        image: float32 [C, H, W] in [-1, 1]. masks: [L, H, W], int64 (-1 = unknown layer) or uint8 (255 = unknown layer). rng: as there.
    """
    matrix = _affine(rng, image.shape[1:], degrees=5.0, scale=0.08, shift=0.04)
    rng.random()  # once told whether to mirror: the draws after it stay what they were
    contrast, brightness = np.exp(rng.uniform(-0.1, 0.1)), rng.uniform(-0.1, 0.1)
    image = np.stack([_move(channel, matrix) for channel in image])
    masks = np.stack([_move_mask(m, matrix) for m in masks]) if len(masks) else masks.copy()
    np.clip(image * np.float32(contrast) + np.float32(brightness), -1, 1, out=image)
    return image, np.ascontiguousarray(masks)


def move_masks(masks: np.ndarray, rng: np.random.Generator, elastic: bool = False) -> np.ndarray:
    """Masks moved as `light` moves an image and its masks; with `elastic` bent as well, as `strong` does.

    Args:
        masks: int [L, H, W]; a layer below 0 everywhere (unknown) stays so.
    """
    where = _where(masks.shape[1:], rng, elastic)
    return np.stack([m if (m < 0).all() else ndimage.map_coordinates(m, where, order=0, cval=0) for m in masks])


def move_pair(image: np.ndarray, masks: np.ndarray, kind: str, seed: int, layers: Mapping[str, Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """An image and its masks moved as masks are before a generator draws from them; grey values stay.

    Args:
        image: float32 [C, H, W] in [-1, 1]. masks: uint8 [L, H, W]; a layer that is 255 everywhere (unknown) stays so.
        kind: flip (in half of the cases), affine or elastic, see data.mask_moves.move. seed: of all randomness.
        layers: of the masks, with their structures.
    """
    rng = np.random.default_rng(seed)
    if kind == "flip":
        return (image[..., ::-1].copy(), mirror(masks, mirror_values(layers, "a mirrored control"))) if rng.random() < 0.5 else (image, masks)
    where = _where(image.shape[1:], rng, kind == "elastic")
    moved = np.stack([ndimage.map_coordinates(c, where, order=1, cval=OUTSIDE) for c in image.astype(np.float32)])
    layers = masks.copy()
    for k, layer in enumerate(masks):
        if not (layer == UNKNOWN).all():
            layers[k] = ndimage.map_coordinates(layer, where, order=0, cval=0)
    return moved, layers


def _where(size: tuple[int, ...], rng: np.random.Generator, elastic: bool) -> np.ndarray:
    """[2, H, W]: (y, x) in the source: what `light` allows, with `elastic` bent as well."""
    matrix = _affine(rng, size, degrees=5.0, scale=0.08, shift=0.04)
    return _field(rng, matrix, size, bend=0.015 if elastic else 0.0)


def strong(image: np.ndarray, masks: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classical augmentation, one fixed result a seed.

    Up to 15 degrees, 20 % scale, 10 % shift, elastic deformation (Ronneberger et al. 2015, section 3.1: random
    vectors on a coarse grid, cubic interpolation), gamma 0.7-1.4, contrast 25 %, noise of standard deviation up to 0.06.

    Args:
        image: float32 [C, H, W] in [-1, 1].
        masks: uint8 [L, H, W]; a layer that is 255 everywhere (unknown) stays so.
        seed: of all randomness.

    Returns:
        Both, deformed by the same field; image in [-1, 1].
    """
    rng = np.random.default_rng(seed)
    matrix = _affine(rng, image.shape[1:], degrees=15.0, scale=0.2, shift=0.1)
    where = _field(rng, matrix, image.shape[1:])
    moved = np.stack(
        [ndimage.map_coordinates(c, where, order=1, cval=OUTSIDE) for c in image.astype(np.float32)]
    )
    layers = masks.copy()
    for k, layer in enumerate(masks):
        if not (layer == UNKNOWN).all():
            layers[k] = ndimage.map_coordinates(layer, where, order=0, cval=0)
    gamma, contrast = np.exp(rng.uniform(np.log(0.7), np.log(1.4))), np.exp(rng.uniform(-0.25, 0.25))
    unit = np.clip((moved + 1) / 2, 0, 1) ** np.float32(gamma)
    moved = (2 * unit - 1) * np.float32(contrast)
    moved += rng.standard_normal(moved.shape, dtype=np.float32) * np.float32(rng.uniform(0, 0.06))
    return np.clip(moved, -1, 1).astype(np.float32), layers


def _affine(
    rng: np.random.Generator, size: tuple[int, ...], degrees: float, scale: float, shift: float
) -> np.ndarray:
    """[2, 3]: (x, y, 1) of the result to (x, y) of the source, about the centre, in pixels."""
    height, width = size
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    zoom = np.exp(rng.uniform(-scale, scale))
    move = rng.uniform(-shift, shift, 2) * (width, height)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.column_stack([turn, centre - turn @ (centre + move)])


def _move(channel: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(channel, dtype=np.float32))
    size = (channel.shape[1], channel.shape[0])
    moved = picture.transform(
        size, Image.Transform.AFFINE, _pillow(matrix), Image.Resampling.BILINEAR, fillcolor=OUTSIDE
    )
    return np.array(moved)


def _move_mask(mask: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    if (mask == UNKNOWN if mask.dtype == np.uint8 else mask < 0).all():
        return mask.copy()
    picture = Image.fromarray(np.ascontiguousarray(mask, dtype=np.uint8))
    size = (mask.shape[1], mask.shape[0])
    moved = picture.transform(
        size, Image.Transform.AFFINE, _pillow(matrix), Image.Resampling.NEAREST, fillcolor=0
    )
    return np.array(moved).astype(mask.dtype)


def _pillow(matrix: np.ndarray) -> tuple[float, ...]:
    # Pillow adds half a pixel to the result's coordinates and takes it off after the map when it interpolates.
    (a, b, c), (d, e, f) = matrix
    return (a, b, c + 0.5 - (a + b) / 2, d, e, f + 0.5 - (d + e) / 2)


def _field(rng: np.random.Generator, matrix: np.ndarray, size: tuple[int, ...], bend: float = 0.015) -> np.ndarray:
    """[2, H, W]: (y, x) in the source for each pixel of the result: the affine map plus an elastic displacement.

    Args:
        bend: deviation of its coarse vectors, as a share of the side; 0 = the affine map alone, nothing is drawn for it.
    """
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    where = np.stack(
        [
            matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2],
            matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2],
        ]
    )
    for axis, extent in enumerate((height, width) if bend else ()):
        coarse = rng.normal(0, bend * extent, (5, 5))
        where[axis] += ndimage.zoom(coarse, (height / 5, width / 5), order=3, mode="nearest", grid_mode=True)
    return where.astype(np.float32)

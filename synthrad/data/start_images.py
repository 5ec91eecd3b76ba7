"""Real images that a synthetic set starts from: changed as a whole, or inside a region, by a diffusion model.

Such an image shows a patient: its lineage names those whose images were taken, each row names its image by digest
(origin:start), and images of another split than train are refused.
"""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import ndimage

from synthrad.data.cache import UNKNOWN, ImageCache
from synthrad.data.conditions import with_known_masks
from synthrad.data.mask_conditions import MaskConditions, mask_paths, rows_in_turn
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError, near
from synthrad.lineage import Fitted, Lineage, hash_subjects, key_id, project_key
from synthrad.records import Manifest

if TYPE_CHECKING:
    from synthrad.conditioning import Condition

STARTS = ("same", "without:<class>")
WITHOUT = "without:"
ORGAN = 0.5  # share of a structure that lies on another layer's: that is its organ then
MOST = 0.9  # share that must lie on the organ of the image that it is laid into, or what does at its own, if that is less


@dataclass(frozen=True)
class StartImages:
    """One real image for each of a set, and what may change in it.

    Args:
        cache: of the rows to take images from. rows: the row of each image of the set. digests: of the rows.
        layers: of the generator, as positions among the dataset's.
        strength: time of the noise that a picture starts with, in (0, 1].
        region: (position among `layers`, value, or 0 for all) of the structure inside which a picture may change; None = everywhere.
        grow: pixels by which the region is wider than the structure.
        settings: of these and of the files, as JSON has them. lineage: the patients whose images they are.
        kept: numbers of the conditions that have an image; all, unless a structure lies in its organ on no image.
    """

    cache: ImageCache
    rows: np.ndarray
    digests: Sequence[str]
    layers: Sequence[int]
    strength: float
    region: tuple[int, int] | None
    grow: int
    settings: dict[str, Any]
    lineage: Lineage = field(default_factory=Lineage)
    kept: Sequence[int] = ()

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the images: the same files elsewhere are the same set."""
        return self.settings

    def under(self, condition: Condition, numbers: Sequence[int]) -> Condition:
        """The condition of images `numbers` with the pictures that they start from.

        Masks of a condition are those to draw from: with a region, that structure of them is laid into the masks of the
        image. Without, a model that draws masks gets those of the image.

        Raises:
            InputError: a region that is empty: the picture would be a copy.
        """
        import torch

        taken = self.rows[list(numbers)]
        images = torch.from_numpy(np.stack([self.cache.scaled(r) for r in taken]))
        own = np.stack([self.cache.masks(r)[list(self.layers)] for r in taken]).astype(np.int64)
        given, inside = None if condition.masks is None else condition.masks.numpy(), None
        masks = own if given is None else given
        if self.region is not None:
            layer, value = self.region
            shown = _shown(masks[:, layer], value)
            if (bare := ~shown.any((1, 2))).any():
                raise InputError("--inside", f"no pixel of it in the mask of image {numbers[int(np.argmax(bare))]}", "a structure that every image "
                                 "has: nothing else may change", "ask for conditions that have it, or leave --inside out")
            if given is not None:  # the rest of the anatomy is that of the image
                masks = own.copy()
                masks[:, layer] = np.where(shown, given[:, layer], own[:, layer])
            grown = ndimage.binary_dilation(shown, np.ones((1, 3, 3)), iterations=self.grow) if self.grow else shown
            inside = torch.from_numpy(grown)
        return replace(condition, image=images, masks=torch.from_numpy(masks) if self.layers else None, strength=self.strength, inside=inside)


def start_images(start: str, conditions: pd.DataFrame, real: Manifest | None, layers: Sequence[str], size: Sequence[int], seed: int,
                 strength: float, inside: str | None = None, grow: int = 0, given: MaskConditions | None = None) -> StartImages:
    """Choose a training image for every condition; rows take turns in an order of the seed.

    Args:
        start: same = a row that agrees with each label and attribute that the condition names; without:<class> = one that agrees
            in all but that finding, and is known to be without it.
        real: the manifest of the real images, all splits. layers: that the generator draws, or draws from; their masks must be known.
        inside: layer/structure, or a layer. given: the masks to draw from, for a generator that wants them: with `inside` that
            structure of them is where the image changes; without, the image is that of the mask. Else the structure is the image's own.
            Where that structure lies on those of another layer there, such as a lesion on a tooth, an image is taken whose own
            mask has that layer's in the same place; a condition for which there is none is left out, with a warning.

    Raises:
        InputError: no manifest, a row that nobody has, a structure or class that nobody knows, a strength that cannot be meant, masks
            that are not those of the images, or structures that lie in their organ on no image.
    """
    if real is None:
        raise InputError("--manifest", "nothing", "the real manifest: its training images are what is changed", "add --manifest REAL")
    if not 0 < strength <= 1:
        raise InputError("--strength", str(strength), "a number above 0 (nearly the image) and at most 1 (nothing of it)")
    if grow < 0 or (grow and inside is None):
        raise InputError("--grow", str(grow), "pixels, with --inside", "leave it out")
    without = start.removeprefix(WITHOUT) if start.startswith(WITHOUT) else None
    if without is None and start != "same":
        raise InputError("--start", repr(start), f"{' or '.join(STARTS)}")
    if without is not None and without not in real.info.classes:
        raise InputError("--start", start, f"without: one of {', '.join(real.info.classes)}", near(without, real.info.classes))
    if without is not None and (given is None or inside is None):
        raise InputError("--start", f"{start} {'for a generator that draws masks itself' if given is None else 'and no --inside'}",
                         "--inside, and a generator that draws from masks: they say where the finding is put", "take --start same")
    train, region = real.where(split="train", source="real"), region_of(inside, layers, real.info)
    if given is None or inside is not None:
        train = with_structure(with_known_masks(train, layers), layers, None if given is not None else region, size)
    if given is not None and inside is None:
        rows = _rows_of_masks(given, train, layers)
    else:
        asked = conditions if without is None else conditions.assign(**{f"label:{without}": 0.0})
        fits = None if given is None else _in_its_organ(given, train, layers, region, size)
        rows = rows_in_turn(asked, train, [seed, 5], fits)
    kept = _kept(rows, inside)
    rows = rows[kept]
    chosen = sorted(set(rows.tolist()))
    taken, rows = train.take(chosen), np.searchsorted(chosen, rows)
    key, settings = project_key(), {"start": start, "strength": strength, "inside": inside or "", "grow": grow}
    digests = [str(d) for d in taken.column("digest")[rows]]
    files = [f"{r.digest} {r.mask_digest if layers else ''}" for r in taken]
    fitted = Fitted("start images", hashlib.sha256("\n".join(sorted(files)).encode()).hexdigest(), "known",
                    hash_subjects(taken.info.id, taken.column("subject"), key), frozenset(), frozenset(taken.column("digest")) - {""},
                    "images were changed, not drawn anew", key_id(key))
    names = list(real.info.layers)
    return StartImages(ImageCache(taken, (int(size[0]), int(size[1]))), rows, digests, [names.index(x) for x in layers], strength, region, grow,
                       {**settings, "start_files": hashlib.sha256("\n".join(files[r] for r in rows).encode()).hexdigest()},
                       Lineage((fitted,), settings), kept.tolist())


def _in_its_organ(given: MaskConditions, train: Manifest, layers: Sequence[str], region: tuple[int, int],
                  size: Sequence[int]) -> Callable[[int, int], bool]:
    """Whether the structure of mask k would lie on row r as it lies on its own organs, if it has any among the layers."""
    cache, own = ImageCache(train, (int(size[0]), int(size[1]))), [list(train.info.layers).index(x) for x in layers]

    @functools.cache
    def wanted(k: int) -> tuple[tuple[np.ndarray, np.ndarray], dict[int, float]]:
        """Pixels of the structure, and the share that must lie on each layer that is an organ of it."""
        masks = given.batch([k])[0]
        pixels = np.nonzero(_shown(masks[region[0]], region[1]))
        shares = {i: float(_shown(m[pixels], 0).mean()) for i, m in enumerate(masks) if i != region[0] and len(pixels[0])}
        return pixels, {own[i]: min(share, MOST) for i, share in shares.items() if share >= ORGAN}

    def fits(k: int, r: int) -> bool:
        pixels, organs = wanted(k)
        masks = cache.masks(r) if organs else None
        return all(_shown(masks[layer][pixels], 0).mean() >= share for layer, share in organs.items())

    return fits


def _kept(rows: np.ndarray, inside: str | None) -> np.ndarray:
    """Numbers of the conditions that have a row; says how many have none.

    Raises:
        InputError: no condition has.
    """
    kept = np.flatnonzero(rows >= 0)
    if not len(kept):
        raise InputError("--inside", f"{inside} of {len(rows)} masks, of which each lies in its organ there and on no training image to put it in",
                         "an image of the condition with the organ in that place", "ask for other conditions, or give masks by mask:<layer>")
    if len(kept) < len(rows):
        warnings.warn(f"{len(rows) - len(kept)} of {len(rows)} conditions are left out: their {inside} lies in its organ in the mask that is drawn "
                      "from, and on no training image to put it in", stacklevel=3)
    return kept


def with_structure(train: Manifest, layers: Sequence[str], region: tuple[int, int] | None, size: Sequence[int]) -> Manifest:
    """The rows whose masks show a region (see `region_of`; None = all rows) at a generator's size.

    Raises:
        InputError: none does.
    """
    if region is None:
        return train
    names = train.info.layers[layers[region[0]]]
    shown = np.sum([train.column(f"area:{layers[region[0]]}/{s}") > 0 for k, s in enumerate(names) if region[1] in (0, k + 1)], axis=0) > 0
    train = train.take(np.flatnonzero(shown & (train.column(f"mask:{layers[region[0]]}") != "")))
    cache = ImageCache(train, (int(size[0]), int(size[1]))) if len(train) else None
    layer = list(train.info.layers).index(layers[region[0]])
    keep = [k for k in range(len(train)) if _shown(cache.masks(k)[layer], region[1]).any()]  # small ones vanish when masks are resized
    if not keep:
        raise InputError("--inside", f"a structure that no training mask shows at {tuple(size)} pixels", "one that some show")
    return train.take(keep)


def _shown(masks: np.ndarray, value: int) -> np.ndarray:
    """Where a layer shows a structure, or any (0)."""
    return masks == value if value else (masks > 0) & (masks != UNKNOWN)


def _rows_of_masks(given: MaskConditions, train: Manifest, layers: Sequence[str]) -> np.ndarray:
    """The row that each mask is of.

    Raises:
        InputError: masks that are moved, or of no training row: they would not be those of the image.
    """
    if given.transform != "none":
        raise InputError("--mask-transform", given.transform, "none: the image that is changed does not move along", "leave it out, or name a "
                         "structure by --inside: that one may be moved")
    of_train = {p: i for i, p in enumerate(mask_paths(train, layers))}
    rows = [of_train.get(p, -1) for p in given.paths]
    if -1 in rows:
        raise InputError("conditions: mask:<layer>", given.paths[rows.index(-1)][0], "masks of training rows: the image of each is what is changed",
                         "name such files, or a structure by --inside")
    return np.array(rows)


def region_of(inside: str | None, layers: Sequence[str], info: DatasetInfo) -> tuple[int, int] | None:
    """Position of a layer among `layers`, and the value of its structure (0 = any), of `layer/structure` or `layer`.

    Raises:
        InputError: the generator does not know it.
    """
    if inside is None:
        return None
    layer, _, structure = inside.partition("/")
    known = [f"{x}/{s}" for x in layers for s in info.layers[x]]
    if layer not in layers or (structure and structure not in info.layers[layer]):
        raise InputError("--inside", inside, f"one of {', '.join([*layers, *known])}, the layers and structures of this generator"
                         if known else "nothing: this generator knows no masks", near(inside, [*layers, *known]))
    return list(layers).index(layer), 1 + list(info.layers[layer]).index(structure) if structure else 0

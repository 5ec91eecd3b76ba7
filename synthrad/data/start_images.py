"""Real images that a synthetic set starts from: changed as a whole, or inside a region, by a diffusion model.

Such an image shows a patient: its lineage names those whose images were taken, each row names its image by digest
(origin:start), and images of another split than train are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import ndimage

from synthrad.data.conditions import with_known_masks
from synthrad.data.mask_conditions import rows_in_turn
from synthrad.errors import InputError, near
from synthrad.lineage import Fitted, Lineage, hash_subjects, key_id, project_key
from synthrad.records import DatasetInfo, Manifest

if TYPE_CHECKING:
    from synthrad.conditioning import Condition
    from synthrad.data.cache import ImageCache

STARTS = ("same", "any", "without:<class>")
WITHOUT = "without:"


@dataclass(frozen=True)
class StartImages:
    """One real image for each of a set, and what may change in it.

    Args:
        cache: of the rows to take images from. rows: the row of each image of the set. digests: of the rows.
        layers: of the generator, as positions among the dataset's.
        strength: time of the noise that a picture starts with, in (0, 1].
        region: (position among `layers`, value, or 0 for all) of the structure inside which a picture may change; None = everywhere.
        grow: pixels by which the region is wider than the structure.
        settings: of these, as JSON has them. lineage: the patients whose images they are.
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

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the images: the same files elsewhere are the same set."""
        return {**self.settings, "start_images": hashlib.sha256("\n".join(self.digests).encode()).hexdigest()}

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
            shown = masks[:, layer] == value if value else masks[:, layer] > 0
            if (bare := ~shown.any((1, 2))).any():
                raise InputError("--inside", f"no pixel of it in the mask of image {numbers[int(np.argmax(bare))]}", "a structure that every image "
                                 "has: nothing else may change", "ask for conditions that have it (--conditions FILE.csv), or leave --inside out")
            if given is not None:  # the rest of the anatomy is that of the image
                masks = own.copy()
                masks[:, layer] = np.where(shown, given[:, layer], own[:, layer])
            grown = ndimage.binary_dilation(shown, np.ones((1, 3, 3)), iterations=self.grow) if self.grow else shown
            inside = torch.from_numpy(grown)
        return replace(condition, image=images, masks=torch.from_numpy(masks) if self.layers else None, strength=self.strength, inside=inside)


def start_images(start: str, conditions: pd.DataFrame, real: Manifest | None, layers: Sequence[str], size: Sequence[int], seed: int,
                 strength: float, inside: str | None = None, grow: int = 0, given: bool = False) -> StartImages:
    """Choose a training image for every condition; rows take turns in an order of the seed.

    Args:
        start: same = a row that agrees with the condition; any = any row; without:<class> = rows without that finding.
        real: the manifest of the real images, all splits. layers: that the generator draws, or draws from; their masks must be known.
        inside: layer/structure, or a layer. given: whether masks are given to the generator; else the structure is that of the image.

    Raises:
        InputError: no manifest, a row that nobody has, a structure or class that nobody knows, or a strength that cannot be meant.
    """
    from synthrad.data.cache import ImageCache

    if real is None:
        raise InputError("--manifest", "nothing", "the real manifest: its training images are what is changed", "add --manifest REAL")
    if not 0 < strength <= 1:
        raise InputError("--strength", str(strength), "a number above 0 (nearly the image) and at most 1 (nothing of it)")
    if grow < 0 or (grow and inside is None):
        raise InputError("--grow", str(grow), "pixels, with --inside", "leave it out")
    train, region = real.where(split="train", source="real"), _region(inside, layers, real.info)
    train = with_known_masks(train, layers)
    if region is not None and not given:
        names = real.info.layers[layers[region[0]]]
        has = np.sum([train.column(f"area:{layers[region[0]]}/{s}") > 0 for k, s in enumerate(names) if region[1] in (0, k + 1)], axis=0) > 0
        if not has.any():
            raise InputError("--inside", f"{inside}, which no training image has", "a structure of the training images")
        train = train.take(np.flatnonzero(has))
    blank = pd.DataFrame(index=range(len(conditions)))
    if start.startswith(WITHOUT):
        name = start.removeprefix(WITHOUT)
        if name not in real.info.classes:
            raise InputError("--start", start, f"without: one of {', '.join(real.info.classes)}", near(name, real.info.classes))
        train = train.take(np.flatnonzero(train.column(f"label:{name}") == 0))
        if not len(train):
            raise InputError("--start", f"{start}, and no training image", "images that are known to be without it", "take --start any")
    elif start not in STARTS:
        raise InputError("--start", repr(start), f"one of {', '.join(STARTS)}")
    rows = rows_in_turn(conditions if start == "same" else blank, train, [seed, 5])
    taken = train.take(sorted(set(rows.tolist())))
    key, settings = project_key(), {"start": start, "strength": strength, "inside": inside or "", "grow": grow}
    digests = [str(d) for d in train.column("digest")[rows]]
    fitted = Fitted("start images", hashlib.sha256("\n".join(sorted(set(digests))).encode()).hexdigest(), "known",
                    hash_subjects(taken.info.id, taken.column("subject"), key), frozenset(), frozenset(taken.column("digest")) - {""},
                    "images were changed, not drawn anew", key_id(key))
    names = list(real.info.layers)
    return StartImages(ImageCache(train, (int(size[0]), int(size[1]))), rows, digests, [names.index(x) for x in layers], strength, region, grow,
                       settings, Lineage((fitted,), settings))


def _region(inside: str | None, layers: Sequence[str], info: DatasetInfo) -> tuple[int, int] | None:
    """Position of a layer among `layers`, and the value of its structure (0 = any)."""
    if inside is None:
        return None
    layer, _, structure = inside.partition("/")
    known = [f"{x}/{s}" for x in layers for s in info.layers[x]]
    if layer not in layers or (structure and structure not in info.layers[layer]):
        raise InputError("--inside", inside, f"one of {', '.join([*layers, *known])}, the layers and structures of this generator"
                         if known else "nothing: this generator knows no masks", near(inside, [*layers, *known]))
    return list(layers).index(layer), 1 + list(info.layers[layer]).index(structure) if structure else 0

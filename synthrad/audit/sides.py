"""What an audit compares: a synthetic set, the patients its generator saw, and patients that nothing has seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synthrad.data.cache import UNKNOWN, ImageCache
from synthrad.data.images import files_digest, image_size
from synthrad.errors import InputError
from synthrad.lineage import Lineage, all_hashes, project_key
from synthrad.progress import progress
from synthrad.records import Manifest

LARGEST = 128  # pixels on the shorter side: nothing looks closer than this
SMALLEST = 16


@dataclass(frozen=True)
class Witnesses:
    """Real patients of the split audit, from whom judges learn; nothing that made the set has seen them.

    Args:
        rows: Manifest. images: float [A, C, H, W] in [-1, 1]. masks: float [A', L, H, W], as Sides has them; None without masks.
        with_masks: rows of `images` that `masks` has.
    """

    rows: Manifest
    images: Tensor
    masks: Tensor | None
    with_masks: np.ndarray


@dataclass(frozen=True)
class Sides:
    """Images at one size.

    Args:
        synthetic: float [S, C, H, W] in [-1, 1]. real: [R, C, H, W], training and test images.
        masks, real_masks: float [S, L, H, W] and [R', L, H, W], 1 in a structure of the layer, -1 elsewhere; None without masks.
        with_masks: rows of `real` that `real_masks` has; synthetic_with_masks: rows of `synthetic` that `masks` has.
        rows: Manifest of the real images. drawn: that of the synthetic ones.
        other: [n, C, H, W], real images of the other splits, for what must be fitted on neither side; None = there are none.
        other_rows: Manifest of those.
        banner: what is not verified; "" where the lineage says who was trained on.
        witnesses: None where the split audit is empty, or the set was made with it.
    """

    synthetic: Tensor
    real: Tensor
    masks: Tensor | None
    real_masks: Tensor | None
    with_masks: np.ndarray
    synthetic_with_masks: np.ndarray
    rows: Manifest
    drawn: Manifest
    other: Tensor | None
    other_rows: Manifest
    banner: str
    witnesses: Witnesses | None = None

    @property
    def subjects(self) -> np.ndarray:
        """[R]."""
        return np.asarray(self.rows.column("subject"))

    @property
    def member(self) -> np.ndarray:
        """bool [R]: training images."""
        return np.asarray(self.rows.column("split") == "train")


def read_sides(drawn: Manifest, real: Manifest) -> Sides:
    """Read both sets at the size of the synthetic images, at most LARGEST on the shorter side.

    Raises:
        InputError: sets that do not belong together, or a split without images.
    """
    if not len(drawn):
        raise InputError("SYNTHETIC", "a set without images", "at least one synthetic image", "draw some: `synthrad sample`")
    if (drawn.column("source") != "synthetic").any():
        raise InputError("SYNTHETIC", "real images in the set", "a synthetic set", "swap it with --real")
    for key in ("channels", "classes", "intensity", "resize"):
        if (mine := getattr(drawn.info, key)) != (theirs := getattr(real.info, key)):
            raise InputError(f"{key} of {drawn.info.name!r}", str(mine), f"{theirs}, as in --real",
                             "audit a set against the data that its generator was trained on, prepared in the same way")
    _check_files(drawn, "SYNTHETIC")
    said = banner(drawn.info.lineage, real)
    split, seen = real.column("split"), seen_subjects(drawn.info.lineage, real)
    rows = real.take(np.flatnonzero(((split == "train") & seen | (split == "test")) & (real.column("source") == "real")))
    for name in ("train", "test"):
        if not (rows.column("split") == name).any():
            raise InputError("--real", f"no real images in the split {name!r}", "training patients and test patients to set beside them",
                             "prepare it with --fractions that give both a share")
    _check_files(rows, "--real")
    size = _size(drawn)
    layers = {k: s for k, s in drawn.info.layers.items() if real.info.layers.get(k) == s}
    synthetic, masks, kept = _read(drawn, size, layers, "reading synthetic images")
    images, real_masks, with_masks = _read(rows, size, layers, "reading real images")
    if masks is None or real_masks is None:
        masks = real_masks = None
    rest = real.take(np.flatnonzero(((split == "val") | (split == "audit")) & (real.column("source") == "real")))
    rest = rest.take(np.flatnonzero(strangers(drawn.info.lineage, rest)))
    _check_files(rest, "--real")
    other = _read(rest, size, {}, "reading other real images")[0] if len(rest) else None
    return Sides(synthetic, images, masks, real_masks, with_masks, kept, rows, drawn, other, rest, said,
                 _witnesses(rest, size, layers))


def strangers(lineage: Lineage, rows: Manifest) -> np.ndarray:
    """bool [rows]: whose subjects and images had no part in the set, as far as its lineage tells."""
    told, key = lineage.seen_with(project_key()), project_key()
    had_part, seen = told.trained_on() | told.selected_on(), told.fingerprints()
    people, digests = rows.column("subject"), rows.column("digest")
    known = {s for s in set(people) if not all_hashes(rows.info.id, [s], key) & had_part}
    return np.array([p in known and d not in seen for p, d in zip(people, digests, strict=True)], bool)


def _witnesses(strange: Manifest, size: tuple[int, int], layers: dict) -> Witnesses | None:
    """Of those who had no part in the set, the split audit."""
    rows = strange.where(split="audit")
    return Witnesses(rows, *_read(rows, size, layers, "reading images of the split audit")) if len(rows) else None


def seen_subjects(lineage: Lineage, real: Manifest) -> np.ndarray:
    """bool [rows of real]: whether the lineage says that the subject was trained on; all where it names nobody that can be checked."""
    told, key, subjects = lineage.seen_with(project_key()), project_key(), real.column("subject")
    seen = told.trained_on()
    if told.origin != "known" or not seen:
        return np.ones(len(real), bool)
    known = {s for s in set(subjects) if all_hashes(real.info.id, [s], key) & seen}
    return np.array([s in known for s in subjects])


def banner(lineage: Lineage, real: Manifest) -> str:
    """What is taken on trust; "" where the lineage names training patients of `real`, and nobody else.

    Raises:
        InputError: test patients had a part in the set, or no training patient.
    """
    seen, key = lineage.seen_with(project_key()), project_key()
    trained, test = seen.trained_on() | seen.selected_on(), real.where(split="test")
    shared = all_hashes(real.info.id, test.column("subject"), key) & trained
    if shared or set(test.column("digest")) & seen.fingerprints():
        raise InputError("--real", f"{len(shared) or 'images of'} test patients that made this set", "test patients that nothing has seen",
                         "audit it against the manifest that its generator was trained on")
    if seen.origin != "known" or not seen.trained_on():
        what = "names nobody who was trained on" if seen.origin == "known" else f"is {seen.origin}"
        return (f"the lineage of this set {what}: that its generator saw the training split of --real, and nobody of the test split, is taken on trust")
    train = all_hashes(real.info.id, real.where(split="train").column("subject"), key)
    if not train & seen.trained_on():
        raise InputError("--real", "training patients that this set has never seen", "the manifest that its generator was trained on")
    if others := seen.trained_on() - train:
        return f"{len(others)} patients who were trained on are not in the training split of --real: nothing is said of them"
    return ""


def _check_files(manifest: Manifest, where: str) -> None:
    """The pixels that are compared are those that the manifest's digests name."""
    for row in progress(manifest, desc=f"{where}: checking files", unit="image"):
        for paths, digest in ((row.channels, row.digest), (row.masks, row.mask_digest)):
            if files := [p for p in paths if p is not None]:
                if not digest:
                    raise InputError(str(files[0]), f"no digest of it in the manifest of {where}", "one: else nobody knows what was audited",
                                     "sample or prepare it again")
                if files_digest(paths) != digest:
                    raise InputError(str(files[0]), "a file that has changed since the manifest was written", "the file as it was")


def _size(drawn: Manifest) -> tuple[int, int]:
    height, width = image_size(drawn[0].channels[0])
    for row in drawn:
        if (other := image_size(row.channels[0])) != (height, width):
            raise InputError(str(row.channels[0]), f"{other[0]} x {other[1]} pixels", f"{height} x {width}, as the first image: one size for all")
    if min(height, width) < SMALLEST:
        raise InputError("SYNTHETIC", f"images of {height} x {width} pixels", f"at least {SMALLEST} on each side")
    scale = min(1.0, LARGEST / min(height, width))
    return round(height * scale), round(width * scale)


def _read(manifest: Manifest, size: tuple[int, int], layers: dict, title: str) -> tuple[Tensor, Tensor | None, np.ndarray]:
    """Images; the foreground of each layer where all are known, or None; which rows those are."""
    cache = ImageCache(manifest, size)
    images = torch.stack([torch.from_numpy(cache.scaled(i)) for i in progress(range(len(cache)), desc=title, unit="image")])
    at = [list(manifest.info.layers).index(layer) for layer in layers]
    masks, kept = [], []
    for i in range(len(cache) if layers else 0):
        mask = cache.masks(i)[at]
        if not (mask == UNKNOWN).any():
            masks.append(torch.from_numpy(np.where(mask > 0, np.float32(1), np.float32(-1))))
            kept.append(i)
    return images, torch.stack(masks) if masks else None, np.array(kept, int)

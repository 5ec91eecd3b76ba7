"""Masks as conditions: which mask each image of a synthetic set is drawn from, at the generator's size.

A set drawn from real masks shows the anatomy of the patients whose masks they are, whatever the generator paints into
it. So its lineage names those patients and their images, each row names its mask by digest, and a mask of another split
than train is refused. Moving the masks makes them no copies; it makes nobody anonymous.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthrad.data.conditions import complete, condition_columns, condition_text, with_known_masks
from synthrad.data.images import fit, read_mask
from synthrad.data.mask_moves import check_transform, move
from synthrad.dataset_info import HERE
from synthrad.errors import InputError
from synthrad.files import file_digest
from synthrad.lineage import Fitted, Lineage, hash_subjects, key_id, project_key
from synthrad.records import Manifest

ATTEMPTS = 10  # moves tried for one that loses no structure


@dataclass(frozen=True)
class MaskConditions:
    """The masks of a set, read as they are needed.

    Args:
        paths: one tuple an image, one file a layer. digests: one an image, by the rule of data.images.files_digest
            over these files.
        layers: layer -> its structures, in the generator's order.
        size: (height, width) of the generator. policy: the dataset's resize policy, as the cache of images has it.
        seed: of the set. transform: see data.mask_moves.move.
        lineage: the patients whose masks they are, and these settings.
        numbers: of the images among those that were first asked for, which decide how masks move; () = none was left out.
    """

    paths: Sequence[tuple[str, ...]]
    digests: Sequence[str]
    layers: Mapping[str, Sequence[str]]
    size: tuple[int, int]
    policy: str
    seed: int
    transform: str
    lineage: Lineage = field(default_factory=Lineage)
    numbers: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the masks, as JSON has it: the same files elsewhere are the same set."""
        return {"masks": hashlib.sha256("\n".join(self.digests).encode()).hexdigest(), "mask_transform": self.transform,
                "mask_size": list(self.size), "mask_resize": self.policy} | ({"mask_numbers": list(self.numbers)} if self.numbers else {})

    def take(self, numbers: Sequence[int]) -> MaskConditions:
        """Those of some images alone, moved as they are here."""
        return replace(self, paths=[self.paths[k] for k in numbers], digests=[self.digests[k] for k in numbers],
                       numbers=[int(self.numbers[k] if self.numbers else k) for k in numbers])

    def batch(self, numbers: Sequence[int]) -> np.ndarray:
        """Masks of images `numbers`: int64 [n, L, h, w]; 0 background, k the k-th structure of its layer."""
        return np.stack([self._moved(k) for k in numbers])

    def check(self, number: int) -> None:
        """Read the mask of one image.

        Raises:
            InputError: a file that is no mask, holds a value beyond its layer's structures or has another size than
                the other layers'.
        """
        self._read(number)

    def _read(self, k: int) -> np.ndarray:
        """[L, H, W] int64 as stored."""
        read = []
        for path, (layer, structures) in zip(self.paths[k], self.layers.items(), strict=True):
            mask = read_mask(path)
            if mask.max(initial=0) > len(structures):
                raise InputError(path, f"the value {int(mask.max())}", f"0 to {len(structures)}, the structures of layer {layer!r}",
                                 "give a mask whose pixel k is the k-th structure of its layer")
            if read and mask.shape != read[0].shape:
                raise InputError(path, f"{mask.shape[1]} x {mask.shape[0]} pixels",
                                 f"{read[0].shape[1]} x {read[0].shape[0]}, as {self.paths[k][0]} has",
                                 "draw all layers of an image on one grid")
            read.append(mask.astype(np.int64))
        return np.stack(read)

    def _fit(self, masks: np.ndarray) -> np.ndarray:
        return np.stack([fit(m, self.size, self.policy, nearest=True) for m in masks])

    def _moved(self, k: int) -> np.ndarray:
        """Moved on the stored grid and then resized, so that nothing enters the border of a letterboxed picture.

        A move that would lose a structure is tried anew, and after ATTEMPTS the mask stays where it is: an image whose
        condition names a finding must keep it.
        """
        masks = self._read(k)
        still = self._fit(masks)
        if self.transform == "none":
            return still
        number = self.numbers[k] if self.numbers else k
        for attempt in range(ATTEMPTS):
            moved = self._fit(move(masks, self.layers, self.transform, np.random.default_rng([self.seed, 4, number, attempt])))
            if all(set(np.unique(a)) >= set(np.unique(b)) for a, b in zip(moved, still, strict=True)):
                return moved
        return still


def mask_conditions(conditions: pd.DataFrame, real: Manifest | None, layers: Mapping[str, Sequence[str]],
                    size: Sequence[int], seed: int, transform: str = "none") -> MaskConditions:
    """Find the mask of every condition: the file that it names, else one of a training row of its labels and attributes.

    Args:
        conditions: a table; columns mask:<layer> name files relative to the manifest's folder, or absolute; blank or
            absent is chosen, see `choose`.
        real: the manifest of the real images, all splits. layers: of the generator, with their structures.
        seed: of the set.
        transform: see data.mask_moves.move.

    Raises:
        InputError: no manifest; a condition without a training row; a file that is missing, broken or shows the pixels of
            another split's mask.
    """
    check_transform(transform, layers, "--mask-transform")
    if real is None:
        raise InputError("--manifest", "nothing", "the real manifest: this generator draws from masks", "add --manifest REAL")
    if unknown := [x for x in layers if x not in real.info.layers]:
        raise InputError("--manifest", f"no mask layer {unknown[0]!r}", f"the generator's layers {list(layers)}",
                         "give the manifest that the generator was trained on")
    train = real.where(split="train", source="real")
    here = Path(real.info.roots[HERE])
    names = choose(conditions, train, list(layers), seed)
    paths = [tuple(os.path.normpath(here / p) for p in row) for row in names.itertuples(index=False)]
    digest = _digests(paths)
    drawn, of_train = set(paths), mask_paths(train, layers)
    rows = {i for i, p in enumerate(of_train) if p in drawn}
    given = sorted(drawn - set(of_train))
    made = MaskConditions(paths, [_joined([digest[f] for f in p]) for p in paths], dict(layers),
                          (int(size[0]), int(size[1])), real.info.resize, seed, transform)
    for p in given:
        made.check(paths.index(p))
    foreign = 0
    if given:
        pixels = {f: _pixels(f) for p in given for f in p}
        _refuse_held_out(pixels, real, layers)
        owners, foreign = _owners(given, pixels, of_train)
        rows |= owners
    part = _fitted(train.take(sorted(rows)), made.digests, foreign)
    settings = {"masks": "real" if rows else "given", "mask_transform": transform}
    return replace(made, lineage=Lineage((part,), settings))


def choose(conditions: pd.DataFrame, train: Manifest, layers: Sequence[str], seed: int) -> pd.DataFrame:
    """The mask files of every condition, as manifest.csv names them.

    Where a condition names none, the training rows that agree with every label and attribute it names take turns, in an
    order that follows from the seed and the condition: every row once before any row twice.

    Args:
        conditions: [n, labels, attributes and perhaps mask:<layer>]. layers: the generator's.

    Returns:
        str [n, mask:<layer>].

    Raises:
        InputError: a condition that no training row has, by its labels and attributes; or some layers of a row blank.
    """
    columns = [f"mask:{x}" for x in layers]
    out = conditions.reindex(columns=columns).fillna("").reset_index(drop=True)
    blank = (out == "").to_numpy()
    if (torn := blank.any(1) & ~blank.all(1)).any():
        row = int(np.argmax(torn))
        lacking = columns[int(np.argmax(blank[row]))]
        raise InputError(f"conditions: row {row + 2}", f"no file in {lacking!r}, but one in another layer",
                         f"a file in each of {columns}, or in none", "name all masks of an image, or leave them to be chosen")
    todo = np.flatnonzero(blank.any(1))
    if not len(todo):
        return out
    train = with_known_masks(train, layers)
    try:
        rows = rows_in_turn(conditions.iloc[todo], train, [seed, 3])
    except InputError as e:
        raise InputError(e.where, "no real training row of it with a mask", "at least one: this generator draws from masks",
                         f"ask for combinations that the training data has, or name files in {columns} of a .csv") from e
    out.loc[todo, columns] = train.table.loc[rows, columns].to_numpy()
    return out


def rows_in_turn(conditions: pd.DataFrame, train: Manifest, seed: Sequence[int],
                 fits: Callable[[int, int], bool] | None = None) -> np.ndarray:
    """For every condition a row that agrees with each label and attribute it names; every row of a condition once before any twice.

    Args:
        seed: the order of turns follows from it and the condition.
        fits: what else must hold of the numbers of a condition and of a row; the next row of the turn for which it does is taken.

    Returns:
        int [n], positions in `train`; -1 where no row fits.

    Raises:
        InputError: a condition that no row has.
    """
    asked = complete(conditions, train.info)[condition_columns(train.info)]  # a prompt asks for no row
    cells, out = {}, np.zeros(len(conditions), int)
    for k in range(len(asked)):
        cells.setdefault(condition_text(asked.iloc[k]), []).append(k)
    for cell, numbers in cells.items():
        rows = np.flatnonzero(_agrees(asked.iloc[numbers[0]], train.table))
        if not len(rows):
            raise InputError(f"conditions: cell {cell}", "no real training row of it", "at least one",
                             "ask for combinations that the training data has")
        number = int.from_bytes(hashlib.sha256(cell.encode()).digest()[:8], "big")
        turns = [np.random.default_rng([*seed, number, i]).permutation(rows) for i in range(-(-len(numbers) // len(rows)))]
        out[numbers] = np.concatenate(turns)[: len(numbers)]
        for i, k in enumerate(numbers if fits is not None else []):
            turn, at = turns[i // len(rows)], i % len(rows)
            out[k] = next((r for r in (*turn[at:], *turn[:at]) if fits(k, int(r))), -1)
    return out


def _agrees(asked: pd.Series, had: pd.DataFrame) -> np.ndarray:
    """Rows whose labels and attributes are those that a condition names."""
    same = np.ones(len(had), bool)
    for column, value in asked.items():
        if value != "" and not (isinstance(value, float) and np.isnan(value)):
            same &= (had[column] == value).to_numpy()
    return same


def mask_paths(manifest: Manifest, layers: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Absolute mask files of each row, one a layer; "" where there is none."""
    here = Path(manifest.info.roots[HERE])
    columns = [manifest.column(f"mask:{x}") for x in layers]
    return [tuple(os.path.normpath(here / p) if p else "" for p in row) for row in zip(*columns, strict=True)]


def _digests(paths: Sequence[tuple[str, ...]]) -> dict[str, str]:
    found = {}
    for path in sorted({f for p in paths for f in p}):
        if not Path(path).is_file():
            raise InputError(path, "no such file", "a mask", "correct the path: it is relative to the manifest's folder")
        found[path] = file_digest(path)
    return found


def _joined(digests: Sequence[str]) -> str:
    """By the rule of data.images.files_digest."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _pixels(path: str) -> str:
    """Digest of what a mask shows, however its file is encoded; "" for an empty one, which is nobody's."""
    mask = read_mask(path).astype("<u2")
    return hashlib.sha256(f"{mask.shape}".encode() + mask.tobytes()).hexdigest() if mask.any() else ""


def _refuse_held_out(pixels: Mapping[str, str], real: Manifest, layers: Mapping[str, Any]) -> None:
    """A mask of a validation, audit or test patient must enter no training set, whatever its path or encoding."""
    for split in ("val", "audit", "test"):
        held = {p for row in mask_paths(real.where(split=split, source="real"), layers) for p in row if p}
        known = {_pixels(p) for p in held if Path(p).is_file()} - {""}
        for path, shown in pixels.items():
            if shown in known:
                raise InputError(path, f"a mask of split {split}", "a mask of split train, or one of no image of the manifest",
                                 "draw from training masks: a synthetic set becomes training data")


def _owners(given: Sequence[tuple[str, ...]], pixels: Mapping[str, str],
            of_train: Sequence[tuple[str, ...]]) -> tuple[set[int], int]:
    """The training rows with the pixels of any given layer, and how many given masks are not wholly of training rows."""
    shown: dict[str, set[int]] = {}
    file_rows: dict[str, set[int]] = {}
    for i, row in enumerate(of_train):
        for path in row:
            file_rows.setdefault(path, set()).add(i)
    for path, rows in file_rows.items():
        if Path(path).is_file():  # "" is no file
            shown.setdefault(_pixels(path), set()).update(rows)
    asked = [{pixels[f] for f in p} - {""} for p in given]
    owners = {i for each in asked for x in each for i in shown.get(x, ())}
    return owners, sum(not each or not each <= set(shown) for each in asked)


def _fitted(rows: Manifest, digests: Sequence[str], foreign: int) -> Fitted:
    """The masks as a part of the lineage: whose they are."""
    key = project_key()
    return Fitted("masks", hashlib.sha256("\n".join(sorted(set(digests))).encode()).hexdigest(),
                  "unknown" if foreign else "known", hash_subjects(rows.info.id, rows.column("subject"), key), frozenset(),
                  frozenset(rows.column("digest")) - {""}, f"{foreign} masks of no training row" if foreign else "", key_id(key))

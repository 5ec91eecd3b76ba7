"""Slices of volumes as pictures, one row of a manifest each: which are kept, how values become grey, where each came from.

Of a volume turned to LPS (see data.nifti) an axial slice has the patient's front on top and right side on the left, a coronal one head on
top and right side on the left, a sagittal one head on top and front on the left. Of one as stored the planes are the third, second and
first axis. Pixels are as stored, neither resampled nor made square; the spacing is kept in `origin:spacing_mm`.

Slices whose first channel holds a single value are left out: they would be one and the same picture in every subject.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np

from synthrad.data.nifti import LARGEST, ORIENTATIONS, Volume, read_volume
from synthrad.data.pixel_values import Layer, declared
from synthrad.data.writing import Draft
from synthrad.errors import Fault, InputError, InputErrors
from synthrad.progress import progress

PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}
SCALINGS = ("max", "percentile", "fixed")
KEEP = ("area", "all", "labelled")
NEAR = 1.0  # voxels that corners of two volumes of one subject may lie apart
HELD = 3  # subjects whose slices are in memory at once


@dataclass(frozen=True)
class Case:
    """The volumes of one examination.

    Args:
        subject: as in the manifest. stem: of file names, unique.
        channels: one file a channel. mask: None = not known.
        attributes: name -> value.
    """

    subject: str
    stem: str
    channels: tuple[Path, ...]
    mask: Path | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Slicing:
    """How volumes become pictures: one rule for all sequences of all subjects.

    Args:
        plane, orientation, largest: see the module and data.nifti.
        scaling: max: 0 becomes black, the volume's largest value white. percentile: the two `limits` percentiles of the voxels that are not
            background do, where background is the value that all eight corners share. fixed: the values `limits` do.
        limits: two percentiles or two values. bits: 8 or 16 of a pixel.
        keep: area: slices where more than `min_area` of the (padded) picture's pixels lie above `above` in the first channel, on a scale where
            255 is white; all; labelled: those with a labelled voxel.
        every: of those, each n-th. pad: (height, width) that pictures are centred in, None = as they are.
    """

    plane: str = "axial"
    orientation: str = "LPS"
    largest: int = LARGEST
    scaling: str = "max"
    limits: tuple[float, float] = (0.0, 0.0)
    bits: int = 8
    keep: str = "area"
    above: float = 50.0
    min_area: float = 0.15
    every: int = 1
    pad: tuple[int, int] | None = None

    def picture(self, volume: Volume, index: int, values: np.ndarray | None = None) -> np.ndarray:
        """[H, W] of a slice: of the volume's values, or of `values` [x, y, z] of the same volume."""
        axis = PLANES[self.plane]
        where = (slice(None),) * axis + (index,)
        flat = (volume.values(where) if values is None else values[where]).T
        return flat if self.plane == "axial" else flat[::-1]

    def count(self, volume: Volume) -> int:
        """Slices of a volume."""
        return volume.voxels.shape[PLANES[self.plane]]


def add_slicing_options(parser: argparse.ArgumentParser) -> None:
    """Options of all readers of volumes but for plane and scaling's default."""
    parser.add_argument("--slices", choices=KEEP, default="area", help="area: where the body fills enough of the picture (default); all but "
                        "empty ones; labelled: with a voxel of the mask")
    parser.add_argument("--above", type=float, default=50.0, help="of --slices area: grey value of the first channel, of 255 (default: 50)")
    parser.add_argument("--min-area", type=float, default=0.15, metavar="SHARE", help="of --slices area: more than this share of the picture "
                        "lies above it (default: 0.15)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="keep each N-th of them (default: 1)")
    parser.add_argument("--bits", type=int, choices=(8, 16), default=8, help="of a pixel (default: 8)")
    parser.add_argument("--orientation", choices=ORIENTATIONS, default="LPS", help="LPS: turned as the affine says, front on top (default); "
                        "stored: axes as they lie in the file")
    parser.add_argument("--largest", type=float, default=LARGEST / 2**20, metavar="MIB", help="voxels of one volume that are read at most "
                        f"(default: {LARGEST // 2**20} MiB)")


def slicing_of(args: argparse.Namespace, plane: str, scaling: str, limits: Sequence[float], pad: Sequence[int] | None) -> Slicing:
    """Slicing from the options.

    Raises:
        InputError: numbers out of range.
    """
    if args.every < 1 or not 0 <= args.min_area < 1 or not args.largest > 0:
        raise InputError("--every, --min-area, --largest", f"{args.every}, {args.min_area}, {args.largest}", "1 or more, 0 to below 1, above 0")
    if scaling != "max" and not limits[0] < limits[1] or (scaling == "percentile" and not 0 <= limits[0] < limits[1] <= 100):
        raise InputError("--scaling", f"{scaling} {limits[0]:g} {limits[1]:g}", "LOW below HIGH" + ", from 0 to 100" * (scaling == "percentile"))
    return Slicing(plane, args.orientation, int(args.largest * 2**20), scaling, tuple(limits), args.bits, args.slices, args.above,
                   args.min_area, args.every, tuple(pad) if pad else None)


def choose_slices(cases: Sequence[Case], how: Slicing, root: Path) -> list[tuple[int, list[int]]]:
    """(slices there are, indices of those kept) of each case, read from its first channel (and its mask, where `labelled`).

    Raises:
        InputErrors: all volumes that cannot be read. InputError: not one slice is kept.
    """
    faults: list[str] = []

    def one(case: Case) -> tuple[int, list[int]]:
        try:
            return _kept(case, how)
        except InputError as e:
            faults.append(Fault.of("", e, numbered=True))
            return 0, []

    pool = ThreadPoolExecutor(2)
    try:
        found = list(progress(pool.map(one, cases), desc="choosing slices", total=len(cases), unit="volume"))
    finally:
        pool.shutdown(cancel_futures=True)
    if faults:
        raise InputErrors(str(root), faults)
    if not any(kept for _, kept in found):
        rule = {"area": f"more than {how.min_area:g} of the picture above {how.above:g}", "labelled": "a labelled voxel"}.get(how.keep, "contrast")
        raise InputError(str(root), f"no slice with {rule} in {len(cases)} volume(s)", "one at least", "change --above, --min-area or --slices")
    return found


def _kept(case: Case, how: Slicing) -> tuple[int, list[int]]:
    volume = read_volume(case.channels[0], how.orientation, how.largest)
    count, picked = how.count(volume), []
    labels = read_volume(case.mask, how.orientation, how.largest) if how.keep == "labelled" and case.mask else None
    if labels is not None:
        check_aligned(volume, labels, how)
    low, high = limits_of(volume, how)
    for index in range(count):
        picture = how.picture(volume, index)
        if picture.min() == picture.max():
            continue
        if how.keep == "labelled":
            keep = labels is not None and bool((how.picture(labels, index) > 0).any())
        else:
            pixels = padded(picture, how.pad, case.channels[0]).size
            keep = how.keep == "all" or ((picture - low) / (high - low) * 255 > how.above).sum() > how.min_area * pixels
        if keep:
            picked.append(index)
    return count, picked[:: how.every]


def limits_of(volume: Volume, how: Slicing) -> tuple[float, float]:
    """The values that become black and white.

    Raises:
        InputError: `max` of a volume with values below 0, or a volume without contrast.
    """
    if how.scaling == "fixed":
        return float(how.limits[0]), float(how.limits[1])
    values = volume.values()
    if how.scaling == "max":
        low, high = 0.0, float(values.max())
        if values.min() < 0:
            raise InputError(str(volume.path), f"values down to {values.min():g}", "none below 0, which becomes black",
                             "scale by --scaling percentile 0.5 99.5, or name values with --scaling fixed LOW HIGH")
    else:
        corners = values[:: max(values.shape[0] - 1, 1), :: max(values.shape[1] - 1, 1), :: max(values.shape[2] - 1, 1)]
        body = values[values != corners.flat[0]] if (corners == corners.flat[0]).all() else values
        low, high = (float(v) for v in np.percentile(body, how.limits)) if body.size else (0.0, 0.0)
    if not low < high:
        raise InputError(str(volume.path), f"a volume whose black is {low:g} and whose white is {high:g}", "contrast", "leave its subject out")
    return low, high


def grey(values: np.ndarray, limits: tuple[float, float], bits: int) -> np.ndarray:
    """Values between the limits as uint8 or uint16, the rest clipped."""
    top = 2**bits - 1
    share = np.clip((values - np.float32(limits[0])) / np.float32(limits[1] - limits[0]), 0, 1)
    return np.rint(share * top).astype(np.uint8 if bits == 8 else np.uint16)


def padded(picture: np.ndarray, size: tuple[int, int] | None, path: Path) -> np.ndarray:
    """The picture in the middle of one of `size` (height, width), around it 0.

    Raises:
        InputError: it is larger.
    """
    if size is None or picture.shape == tuple(size):
        return picture
    spare = [s - n for s, n in zip(size, picture.shape, strict=True)]
    if min(spare) < 0:
        raise InputError(str(path), f"slices of {picture.shape[1]} x {picture.shape[0]}", f"at most {size[1]} x {size[0]} pixels",
                         "give a larger --pad H W")
    return np.pad(picture, [(s // 2, s - s // 2) for s in spare])


def check_aligned(first: Volume, other: Volume, how: Slicing) -> None:
    """Refuse a volume that is not on the grid of its subject's first one.

    Raises:
        InputError: another shape, or corners more than NEAR voxels apart.
    """
    a, b = first.voxels.shape, other.voxels.shape
    expected = f"the grid of {first.path}"
    repair = "register and resample the volumes of a subject to one grid"
    if a != b:
        raise InputError(str(other.path), f"{' x '.join(map(str, b))} voxels", f"{' x '.join(map(str, a))}, {expected}", repair)
    if how.orientation == "stored":
        return
    corners = np.array([[i, j, k, 1.0] for i in (0, a[0] - 1) for j in (0, a[1] - 1) for k in (0, a[2] - 1)]).T
    apart = float(np.abs((first.affine - other.affine) @ corners)[:3].max())
    if apart > NEAR * min(first.spacing_mm):
        raise InputError(str(other.path), f"a volume that lies {apart:.3g} mm off", expected, f"{repair}; --orientation stored compares voxels alone")


@dataclass(frozen=True)
class Pictures:
    """The kept slices of a case: channels and layers [n, H, W] each, and what the rows say of their origin."""

    channels: list[np.ndarray]
    masks: dict[str, np.ndarray | None]
    origin: dict[str, str]


def read_pictures(case: Case, count: int, kept: Sequence[int], how: Slicing, names: Sequence[str], layers: Sequence[Layer]) -> Pictures:
    """Read all volumes of a case.

    Args:
        case, count, kept, how: see choose_slices. names: of the channels. layers: drawn from the mask's values.

    Raises:
        InputError: a volume that cannot be read, lies on another grid, or a mask with a value that no layer declares.
    """
    channels, origin, first = [], {}, None
    for name, path in zip(names, case.channels, strict=True):
        volume = read_volume(path, how.orientation, how.largest)
        first = first or volume
        check_aligned(first, volume, how)
        limits = limits_of(volume, how)
        channels.append(np.stack([padded(grey(how.picture(volume, k), limits, how.bits), how.pad, path) for k in kept]))
        origin[f"grey_{name}"] = f"{limits[0]:g} to {limits[1]:g}"
    origin["spacing_mm"] = " x ".join(f"{v:g}" for v in first.spacing_mm)
    origin["kept"] = f"{len(kept)} of {count} slices"
    masks: dict[str, np.ndarray | None] = {layer.name: None for layer in layers}
    if case.mask is not None and layers:
        volume = read_volume(case.mask, how.orientation, how.largest)
        check_aligned(first, volume, how)
        labels = volume.labels()
        for layer, drawn in draw_layers(labels, layers, case.mask).items():
            masks[layer] = np.stack([padded(how.picture(volume, k, drawn), how.pad, case.mask) for k in kept])
        there = sum(int((how.picture(volume, k, labels) > 0).sum()) for k in kept)
        total = int((labels > 0).sum())
        origin["kept"] += f", {there} of {total} labelled voxels"
    return Pictures(channels, masks, origin)


def draw_layers(labels: np.ndarray, layers: Sequence[Layer], path: Path) -> dict[str, np.ndarray]:
    """Structure numbers of each layer, uint8; a value that another layer declares is background in this one.

    Raises:
        InputError: values that no layer declares.
    """
    known = np.any([layer.lookup >= 0 for layer in layers], axis=0)
    found = np.unique(labels)
    if strange := [int(v) for v in found if not known[v]]:
        raise InputError(str(path), f"the value(s) {', '.join(map(str, strange[:10]))}",
                         "0 or " + "; ".join(f"{layer.name}: {declared(layer)}" for layer in layers),
                         "declare them: --mask-classes LAYER:VALUE=NAME")
    return {layer.name: np.maximum(layer.lookup, 0).astype(np.uint8)[labels] for layer in layers}


class _Latest:
    """What a function gave for the latest arguments, computed once also where threads ask at the same time."""

    def __init__(self, work: Callable[[int], Pictures]):
        self._work, self._lock, self._slots = work, Lock(), OrderedDict[int, Future]()

    def __call__(self, key: int) -> Pictures:
        with self._lock:
            mine = key not in self._slots
            slot = self._slots.setdefault(key, Future())
            while len(self._slots) > HELD:
                self._slots.popitem(last=False)
        if mine:
            try:
                slot.set_result(self._work(key))
            except BaseException as e:
                slot.set_exception(e)
        return slot.result()


def fill(draft: Draft, cases: Sequence[Case], chosen: Sequence[tuple[int, list[int]]], how: Slicing, layers: Sequence[Layer]) -> None:
    """Read the chosen slices into the draft's rows, in the order of cases and slices; prints what was kept.

    A volume that cannot be read is one fault, not one a slice.
    """
    names = draft.info.channels
    rows = [(k, place) for k, (_, kept) in enumerate(chosen) for place in range(len(kept))]
    keys = ("slice", "kept", "spacing_mm", *(f"grey_{n}" for n in names))
    draft.columns |= {f"origin:{key}": np.full(len(rows), "", dtype=object) for key in keys}
    draft.columns["subject"][:] = [cases[k].subject for k, _ in rows]
    for name in draft.info.attributes:
        draft.columns[f"attribute:{name}"][:] = [cases[k].attributes.get(name, "") for k, _ in rows]
    latest = _Latest(lambda k: read_pictures(cases[k], *chosen[k], how, names, layers))

    def one(row: int) -> None:
        k, place = rows[row]
        try:
            pictures = latest(k)
        except InputError:
            if place == 0:
                raise
            return
        index = chosen[k][1][place]
        stem = f"{cases[k].stem}_{index:03d}"
        draft.store_image(row, stem, [channel[place] for channel in pictures.channels])
        draft.add_masks(row, stem, {n: None if m is None else m[place] for n, m in pictures.masks.items()})
        for key, value in {"slice": str(index), **pictures.origin}.items():
            draft.columns[f"origin:{key}"][row] = value

    draft.each(one, "reading slices", line=False, together=[k for k, _ in rows])
    draft.raise_faults()
    print(_told([draft.columns["origin:kept"][row] for row, (_, place) in enumerate(rows) if place == 0], chosen))


def _told(facts: Sequence[str], chosen: Sequence[tuple[int, list[int]]]) -> str:
    """What was kept, and what that means for Dice; facts: origin:kept of each volume."""
    kept, there = sum(len(k) for _, k in chosen), sum(n for n, _ in chosen)
    line = f"kept {kept} of {there} slices of {len(facts)} of {len(chosen)} volumes"
    counts = [fact.split(", ")[1].split() for fact in facts if "labelled" in fact]  # "3 of 9 labelled voxels"
    if total := sum(int(words[2]) for words in counts):
        share = sum(int(words[0]) for words in counts) / total
        line += f"; they hold {share:.2%} of the labelled voxels (Dice of a subject is that of its kept slices, stacked)"
    return line

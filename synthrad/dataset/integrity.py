"""Every file of a manifest opened once: is it what the manifest says, and what do its pixels look like?

The rules are those of nnU-Net's verify_dataset_integrity (same grid of image and mask, no label that was not declared, nothing
unreadable), with the digests that a manifest keeps in place of trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from synthrad.data.burned_in import find_text
from synthrad.data.images import files_digest, read_image, read_mask
from synthrad.data.processes import cores
from synthrad.errors import Fault, InputError
from synthrad.progress import progress
from synthrad.records import Manifest, Record

LEVELS = 1 << 16  # stored values of 8 and 16 bit
FLAT = 1e-6  # standard deviation over the range: no picture
LETTERS_IN = 100  # images, evenly spread, in which letters are looked for: that takes as long as all else


@dataclass
class Inspection:
    """What was found.

    Args:
        sizes: [rows, 2] int, height and width; 0 where an image could not be read.
        counts: [channels, 65536] int, pixels of each stored value over all images.
        means, deviations: [rows, channels] float, of stored values.
        faults: what makes the set unusable, a line each. doubts: what a person should look at.
        lettered: rows, from 0, with what looks like text in the pixels, of LETTERS_IN that were looked at.
    """

    sizes: np.ndarray
    counts: np.ndarray
    means: np.ndarray
    deviations: np.ndarray
    faults: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    lettered: list[int] = field(default_factory=list)


def inspect(manifest: Manifest, threads: int | None = None) -> Inspection:
    """Open every image and mask once (all cores, with a progress bar).

    Args:
        manifest: of any set. threads: None = the cores that this process may use.
    """
    rows, channels = len(manifest), len(manifest.info.channels)
    found = Inspection(np.zeros((rows, 2), np.int64), np.zeros((channels, LEVELS), np.int64),
                       np.full((rows, channels), np.nan), np.full((rows, channels), np.nan))
    threads = threads or cores()
    read = set(np.linspace(0, rows - 1, min(LETTERS_IN, rows)).round().astype(int).tolist())
    with ThreadPoolExecutor(threads) as pool:
        work = pool.map(lambda row: _look(manifest, row, row in read), range(rows))
        for row, seen in progress(enumerate(work), desc="checking images", total=rows, unit="image"):
            place = f"row {row + 2}, "
            found.faults += [Fault.of(place, f, numbered=True) for f in seen.faults]
            found.doubts += [Fault.of(place, d, numbered=True) for d in seen.doubts]
            found.lettered += [row] * seen.lettered
            for k, pixels in enumerate(seen.pixels):
                found.sizes[row] = pixels.shape
                found.counts[k] += np.bincount(pixels.ravel(), minlength=LEVELS)
                found.means[row, k], found.deviations[row, k] = pixels.mean(), pixels.std()
    return found


@dataclass
class _Seen:
    pixels: list[np.ndarray] = field(default_factory=list)
    faults: list[str | InputError] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    lettered: bool = False


def _look(manifest: Manifest, row: int, read: bool) -> _Seen:
    record, seen = manifest[row], _Seen()
    try:
        seen.pixels = [read_image(p) for p in record.channels]
        if record.digest and files_digest(record.channels) != record.digest:
            raise InputError(str(record.channels[0]), "a file that has changed since the manifest was written",
                             "the file as it was", "put it back, or run `synthrad prepare` again")
    except InputError as e:
        seen.faults.append(e)
        return seen
    shapes = {p.shape for p in seen.pixels}
    if len(shapes) > 1:
        seen.faults.append(f"channels of {_sizes(shapes)} pixels: one picture has one grid; resample them")
    span = manifest.info.intensity["high"] - manifest.info.intensity["low"]
    for name, pixels in zip(manifest.info.channels, seen.pixels, strict=True):
        if pixels.std() <= FLAT * span:
            seen.doubts.append(f"channel {name}: every pixel has the value {int(pixels.flat[0])}: no picture")
    if read and any(find_text(p) for p in seen.pixels):
        seen.lettered = True
        seen.doubts.append("what looks like text in the pixels: a name or a date would be learned and drawn again (teeth with brackets can look like text)")
    _look_at_masks(manifest, record, seen)
    return seen


def _look_at_masks(manifest: Manifest, record: Record, seen: _Seen) -> None:
    info = manifest.info
    labels = dict(zip(info.classes, record.labels, strict=True))
    known = [m for m in record.masks if m is not None]
    for path, (layer, structures) in zip(record.masks, info.layers.items(), strict=True):
        if path is None:
            continue
        try:
            mask = read_mask(path)
        except InputError as e:
            seen.faults.append(e)
            continue
        if mask.shape != seen.pixels[0].shape:
            sizes = f"{_sizes([mask.shape])} pixels, its image {_sizes([seen.pixels[0].shape])}"
            seen.faults.append(f"mask {layer}: {sizes}; draw the mask on its own image")
        if mask.max(initial=0) > len(structures):
            seen.faults.append(f"mask {layer}: the value {int(mask.max())}, expected 0 to {len(structures)}; declare it with --mask-classes")
            continue
        shares = np.bincount(mask.ravel(), minlength=len(structures) + 1)[: len(structures) + 1] / mask.size
        for k, structure in enumerate(structures, 1):
            noted = record.areas.get(f"{layer}/{structure}", np.nan)
            if abs(noted - shares[k]) > 1e-6:
                seen.faults.append(f"area:{layer}/{structure}: {noted:.6f} in the manifest, {shares[k]:.6f} in its mask; run `synthrad prepare` again")
            if labels.get(structure) == 0 and shares[k] > 0:
                seen.doubts.append(f"label {structure} is 0, and {100 * shares[k]:.2f} % of the picture is marked as it")
            if labels.get(structure) == 1 and shares[k] == 0:
                seen.doubts.append(f"label {structure} is 1, and its mask marks nothing")
    if known and record.mask_digest and not seen.faults and files_digest(record.masks) != record.mask_digest:
        seen.faults.append(InputError(str(known[0]), "a mask that has changed since the manifest was written",
                                      "the file as it was", "put it back, or run `synthrad prepare` again"))


def _sizes(shapes: Sequence[tuple[int, ...]] | set[tuple[int, ...]]) -> str:
    return ", ".join(f"{w} x {h}" for h, w in sorted(shapes))


def kinds(lines: Sequence[str], most: int) -> list[str]:
    """Lines of one kind as one, with how many rows have it; at most `most` of them, and how many are left out."""
    groups: dict[str, list[str]] = {}
    for line in lines:
        groups.setdefault(getattr(line, "kind", line), []).append(line)
    told = [g[0] + (f"  (and {len(g) - 1} more rows)" if len(g) > 1 else "") for g in groups.values()]
    return told[:most] + ([f"... and {len(told) - most} more kinds"] if len(told) > most else [])

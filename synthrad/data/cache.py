"""Decoded images and masks as memory maps of their own depth: a PNG decode costs some 50 times a read of it.

The store is a folder of segments. A segment is a `.npy` array of decoded images beside a `.json` with the key of each,
written last: an array without its list is an unfinished write and is ignored. Keys are contents (Record.digest, the
layers' digest), not rows: a fused manifest finds the images of its real and its synthetic part in the segments that
either has left, a repeated row costs nothing, and of two processes that build the same segment the later one
replaces it by the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from synthrad.data.images import files_digest, fit, image_size, is_deep, read_image, read_mask
from synthrad.dataset_info import HERE
from synthrad.errors import InputError
from synthrad.files import write_durably
from synthrad.progress import progress
from synthrad.records import Manifest

UNKNOWN = 255  # fills a layer of which an image has no mask
VERSION = 1  # raise by hand when the stored pixels change


class ImageCache:
    """Images and masks of a manifest at one size; decodes what the store lacks, then reads.

    Args:
        manifest: its info gives the resize policy, the intensity range (letterbox pads with `low`) and the layers.
        size: (height, width).
        folder: where the store is; default `.cache` in the manifest's folder.
        threads: decoding threads.

    Raises:
        InputError: an image or mask that cannot be read, a mask whose size is not its image's, or one that
            holds a value beyond the structures of its layer. The message names the file.
    """

    def __init__(
        self, manifest: Manifest, size: tuple[int, int], folder: Path | str | None = None, threads: int = 2
    ):
        info = manifest.info
        self.size = (int(size[0]), int(size[1]))
        self.low, self.high = float(info.intensity["low"]), float(info.intensity["high"])
        self.layers = {layer: len(s) for layer, s in info.layers.items()}
        if any(n >= UNKNOWN for n in self.layers.values()):
            raise InputError(
                f"layers of {info.name!r}", f"{self.layers} structures", f"fewer than {UNKNOWN} a layer"
            )
        self._manifest, self._policy, self._threads = manifest, info.resize, threads
        base = Path(folder) if folder else Path(info.roots.get(HERE, ".")) / ".cache"
        common = [VERSION, self.size, info.resize, len(info.channels)]
        channels = (len(info.channels), *self.size)
        self._images = SegmentStore(base / f"images-{name_of([*common, self.low])}", channels, threads)
        layers = (len(self.layers), *self.size)
        self._masks = SegmentStore(base / f"masks-{name_of([*common[:3], self.layers])}", layers, threads)
        keys = image_keys(manifest)
        self._image_at = self._images.locate(keys, self._decode_image, self._depth, "decoding images")
        self._mask_at = None
        if self.layers:
            known = np.stack([manifest.column(f"mask:{layer}") != "" for layer in self.layers], axis=1)
            keys = _mask_keys(manifest, keys, known)
            self._mask_at = self._masks.locate(keys, self._decode_masks, lambda i: np.uint8, "decoding masks")

    def __len__(self) -> int:
        return len(self._image_at)

    def image(self, index: int) -> np.ndarray:
        """[C, h, w] in the depth of its file (uint8 or uint16); a copy."""
        return self._images.read(self._image_at[index])

    def masks(self, index: int) -> np.ndarray:
        """[L, h, w] uint8: 0 background, k the k-th structure, 255 everywhere = no mask of that layer; a copy."""
        if self._mask_at is None:
            return np.zeros((0, *self.size), np.uint8)
        return self._masks.read(self._mask_at[index])

    def scaled(self, index: int) -> np.ndarray:
        """[C, h, w] float32 in [-1, 1]: the manifest's `low` becomes -1, `high` 1, the rest is clipped."""
        values = to_unit_range(self.image(index).astype(np.float32), self.low, self.high)
        return np.clip(values, -1, 1, out=values)

    def image_batch(self, rows: Sequence[int]) -> np.ndarray:
        """[n, C, h, w]: `image` of several rows, at the depth of the deepest."""
        return self._images.read_many(self._image_at[list(rows)])

    def mask_batch(self, rows: Sequence[int]) -> np.ndarray:
        """[n, L, h, w] uint8: `masks` of several rows."""
        if self._mask_at is None:
            return np.zeros((len(rows), 0, *self.size), np.uint8)
        return self._masks.read_many(self._mask_at[list(rows)])

    def _depth(self, row: int) -> type:
        return np.uint16 if any(is_deep(p) for p in self._manifest[row].channels) else np.uint8

    def _decode_image(self, row: int) -> np.ndarray:
        record = self._manifest[row]
        paths = record.channels
        _check_unchanged(paths, record.digest)
        arrays = [read_image(p) for p in paths]
        for path, array in zip(paths, arrays, strict=True):
            if array.shape != arrays[0].shape:
                raise InputError(
                    str(path),
                    f"{_by(array.shape)} pixels",
                    f"{_by(arrays[0].shape)}, the size of {paths[0]}",
                    "all channels of a row are one picture: resample them to one grid",
                )
        limits = np.iinfo(arrays[0].dtype)
        pad = int(np.clip(round(self.low), limits.min, limits.max))
        return np.stack([fit(a, self.size, self._policy, pad=pad) for a in arrays])

    def _decode_masks(self, row: int) -> np.ndarray:
        record = self._manifest[row]
        out = np.full((len(self.layers), *self.size), UNKNOWN, np.uint8)
        shape = image_size(record.channels[0])
        for k, (path, (layer, structures)) in enumerate(zip(record.masks, self.layers.items(), strict=True)):
            if path is None:
                continue
            mask = read_mask(path)
            if mask.shape != shape:
                raise InputError(
                    str(path),
                    f"{_by(mask.shape)} pixels",
                    f"{_by(shape)}, the size of {record.channels[0]}",
                    "draw the mask on its own image",
                )
            if mask.max(initial=0) > structures:
                raise InputError(
                    str(path),
                    f"the value {int(mask.max())}",
                    f"0 to {structures}, the structures of layer {layer!r}",
                    "declare it with --mask-classes and run `synthrad prepare` again",
                )
            out[k] = fit(mask, self.size, self._policy, nearest=True)
        _check_unchanged(record.masks, record.mask_digest)
        return out


def to_unit_range(values: Any, low: float, high: float) -> Any:
    """Change a float32 array or tensor in place: `low` becomes -1, `high` 1; what lies beyond is not clipped."""
    values -= low
    values *= 2.0 / (high - low)
    values -= 1
    return values


class SegmentStore:
    """A folder of segments. Positions are [rows, 2] ints: segment, place in it."""

    def __init__(self, folder: Path, shape: tuple[int, ...], threads: int):
        self.folder, self.shape, self.threads = folder, shape, threads
        self.segments: list[str] = []
        self._open: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # a worker process opens the files itself: no array is pickled

    def read(self, position: np.ndarray) -> np.ndarray:
        """The array at a position; a copy."""
        return np.array(self._segment(int(position[0]))[position[1]])

    def read_many(self, positions: np.ndarray) -> np.ndarray:
        """The arrays at positions [n, 2], one after the other, at the depth of the deepest; a copy."""
        found = {int(s): self._segment(int(s)) for s in np.unique(positions[:, 0])}
        if len(found) == 1:
            (only,) = found.values()
            return only[positions[:, 1]]
        out = np.empty((len(positions), *self.shape), np.result_type(*(a.dtype for a in found.values())))
        for segment, array in found.items():
            here = positions[:, 0] == segment
            out[here] = array[positions[here, 1]]
        return out

    def _segment(self, number: int) -> np.ndarray:
        if number not in self._open:
            self._open[number] = np.load(self.folder / f"{self.segments[number]}.npy", mmap_mode="r").view(np.ndarray)
        return self._open[number]

    def locate(self, keys: Sequence[str], decode: Callable, depth: Callable, title: str) -> np.ndarray:
        """Positions of `keys`; what is missing is decoded (`decode(row)`) into one new segment a depth."""
        known = self._known()
        missing: dict[str, int] = {}
        for row, key in enumerate(keys):
            if key not in known:
                missing.setdefault(key, row)
        if missing:
            self._build(missing, decode, depth, title)
            known = self._known()
        return np.array([known[k] for k in keys], dtype=np.int64).reshape(-1, 2)

    def _known(self) -> dict[str, tuple[int, int]]:
        known: dict[str, tuple[int, int]] = {}
        self.segments = []
        for path in sorted(self.folder.glob("*.json")):
            if not self._whole(path.with_suffix(".npy")):
                continue
            for place, key in enumerate(json.loads(path.read_text())):
                known.setdefault(key, (len(self.segments), place))
            self.segments.append(path.stem)
        return known

    def _whole(self, path: Path) -> bool:
        """Whether an array has all the rows that its header promises: one that was cut is decoded again."""
        try:
            return np.load(path, mmap_mode="r").shape[1:] == self.shape
        except (OSError, ValueError, EOFError):
            return False

    def _build(self, missing: dict[str, int], decode: Callable, depth: Callable, title: str) -> None:
        groups: dict[type, list[tuple[str, int]]] = {}
        for item in missing.items():
            groups.setdefault(depth(item[1]), []).append(item)
        self.folder.mkdir(parents=True, exist_ok=True)
        for dtype, items in groups.items():
            self._write_segment(items, np.dtype(dtype), decode, title)

    def _write_segment(
        self, items: list[tuple[str, int]], dtype: np.dtype, decode: Callable, title: str
    ) -> None:
        keys = [k for k, _ in items]
        name = name_of([keys, dtype.str])
        handle, draft = tempfile.mkstemp(dir=self.folder, prefix=f".{name}.")
        os.close(handle)
        try:
            _reserve(draft, (len(items), *self.shape), dtype)
            self._fill(np.load(draft, mmap_mode="r+"), [row for _, row in items], decode, title)
            with open(draft, "rb") as f:
                os.fsync(f.fileno())
            os.chmod(draft, 0o644)
            os.replace(draft, self.folder / f"{name}.npy")
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        write_durably(self.folder / f"{name}.json", json.dumps(keys).encode())

    def _fill(self, pixels: np.memmap, rows: list[int], decode: Callable, title: str) -> None:
        def one(place: int) -> None:
            pixels[place] = decode(rows[place])

        pool = ThreadPoolExecutor(self.threads)
        try:
            done = pool.map(one, range(len(rows)))
            for _ in progress(done, desc=title, total=len(rows), unit="image"):
                pass
        finally:
            pool.shutdown(
                cancel_futures=True
            )  # the first bad file ends the work: the rest is not decoded in vain
        pixels.flush()


def _reserve(path: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    # Writing to a memory map of a sparse file on a full disk kills the process (SIGBUS); this raises OSError instead.
    with open(path, "wb") as f:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(f, header)
        f.flush()
        start, total = f.tell(), int(np.prod(shape)) * dtype.itemsize
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(f.fileno(), start, max(total, 1))
            os.truncate(f.fileno(), start + total)
        else:
            for done in range(0, total, 1 << 24):
                f.write(bytes(min(1 << 24, total - done)))


def name_of(parts: Any) -> str:
    """20 hex digits of a hash of plain data."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]


def _by(shape: Sequence[int]) -> str:
    return f"{shape[1]} x {shape[0]}"


def image_keys(manifest: Manifest) -> list[str]:
    """What tells the image of each row: its digest, or names, sizes and times of its files."""
    digests = manifest.column("digest")
    return [d or _stamp(manifest[i].channels) for i, d in enumerate(digests)]


def _mask_keys(manifest: Manifest, images: Sequence[str], known: np.ndarray) -> list[str]:
    """Which layers are known is part of the key, and so is the image: its size is checked against the mask's."""
    digests = manifest.column("mask_digest")
    flags = ["".join("1" if k else "0" for k in row) for row in known]
    keys = []
    for i, (flag, image) in enumerate(zip(flags, images, strict=True)):
        if "1" not in flag:
            keys.append(f"none-{flag}")
        else:
            keys.append(f"{image}-{digests[i] or _stamp([m for m in manifest[i].masks if m])}-{flag}")
    return keys


def _check_unchanged(paths: Sequence[Path | None], digest: str) -> None:
    """Refuse files that are no longer those that the manifest was made of: the lineage would name images that nobody saw."""
    files = [p for p in paths if p is not None]
    if files and digest and files_digest(paths) != digest:
        raise InputError(str(files[0]), "a file that has changed since the manifest was written",
                         "the file as it was", "put it back, or run `synthrad prepare` again")


def _stamp(paths: Sequence[Path]) -> str:
    """For rows without a digest: names, sizes and times of the files."""
    facts = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError as e:
            raise InputError(
                str(path), "no such file", "a PNG or JPEG image", "restore it or prepare again"
            ) from e
        facts.append([str(path), stat.st_size, stat.st_mtime_ns])
    return name_of(facts)

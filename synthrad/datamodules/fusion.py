"""FusionDataModule: a fusion strategy's table as batches; every split but train holds real images only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from synthrad.cases import Case
from synthrad.data.cache import ImageCache, image_keys, name_of
from synthrad.data.feature_store import VERSION as FEATURES_VERSION
from synthrad.data.feature_store import FeatureStore, kept_shape
from synthrad.data.stored import StoredBatch
from synthrad.data.transforms import light_pair, move_pair, strong
from synthrad.datamodules.endless import EndlessBatches, EndlessDataModule, EndlessLoader
from synthrad.datamodules.leak_checks import (
    refuse_leaks,
    refuse_overlaps,
    refuse_training_images,
    refuse_unsealed,
    with_checked_origin,
)
from synthrad.dataset_info import HERE
from synthrad.errors import InputError
from synthrad.fusion import FusionStrategy, RealOnly
from synthrad.fusion.controls import AUGMENTED
from synthrad.records import Manifest


def check_same_shape(first: Manifest, other: Manifest, where: str) -> None:
    """Raise InputError where classes, layers or channels differ."""
    for key in ("classes", "layers", "channels"):
        if (mine := getattr(first.info, key)) != (theirs := getattr(other.info, key)):
            raise InputError(where, f"{key} {theirs}", f"{key} {mine}, as in {first.info.name!r}",
                             "prepare both with the same flags")


class HeldOutCases(Dataset):
    """Real images as they are; `masks`: the cache that their masks come from, of another size perhaps."""

    def __init__(self, manifest: Manifest, cache: ImageCache, masks: ImageCache | None = None):
        self.manifest, self.cache, self.labels = manifest, cache, torch.from_numpy(manifest.labels.astype(np.float32))
        self.masks = masks or cache

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, index: int) -> Case:
        return self.__getitems__([index]).cases()[0]

    def __getitems__(self, rows: list[int]) -> StoredBatch:
        return StoredBatch(torch.from_numpy(self.cache.image_batch(rows)), torch.from_numpy(self.masks.mask_batch(rows)),
                           self.labels[rows], torch.tensor(rows), torch.zeros(len(rows), 0), self.cache.low, self.cache.high)

    def pictures(self) -> list[str]:
        """What tells each picture that is shown from all others."""
        return _picture_keys(self.manifest)

    def picture(self, number: int) -> np.ndarray:
        """float32 [C, H, W] of one of `pictures`."""
        return self.cache.scaled(number)

    def number_of(self, item: int) -> int:
        """Which of `pictures` an item shows."""
        return item


class FusedCases(Dataset):
    """Training rows; an item is asked for by (row, draw), and its augmentation depends on seed and draw alone.

    Args:
        manifest: the fused table. parts: its real and its synthetic origin with their caches, because both may
            have another intensity range. seed: of the light augmentation. views: see FusionDataModule.
    """

    def __init__(self, manifest: Manifest, parts: Sequence[tuple[Manifest, ImageCache]], seed: int, views: int | None = None):
        self.seed, self.views, self.layers = seed, views, manifest.info.layers
        self.labels = torch.from_numpy(manifest.training_labels.astype(np.float32))
        self.augment = [None if pd.isna(v) else int(v) for v in manifest.column("augment")]
        self.how = manifest.column(AUGMENTED) if AUGMENTED in manifest.table else [""] * len(manifest)
        self.caches = [cache for _, cache in parts]
        found: dict[tuple[str, ...], tuple[int, int]] = {}
        for part, (origin, _) in enumerate(parts):
            for row, key in enumerate(_keys(origin)):
                found.setdefault(key, (part, row))
        keys = _keys(manifest)
        strange = sum(k not in found for k in keys)
        assert not strange, f"{strange} fused rows are neither in the real nor in the synthetic table"
        self.origin = [found[k] for k in keys]
        pictures = [_picture_keys(origin) for origin, _ in parts] if views is not None else []
        self.keys = [name_of([pictures[p][r], a, h]) for (p, r), a, h in zip(self.origin, self.augment, self.how, strict=True)] if pictures else []

    def __len__(self) -> int:
        return len(self.origin)

    def __getitem__(self, item: tuple[int, int]) -> Case:
        return self.__getitems__([item]).cases()[0]

    def __getitems__(self, items: list[tuple[int, int]]) -> StoredBatch:
        images, masks = zip(*(self._drawn(*item) for item in items), strict=True)
        rows = [index for index, _ in items]
        return StoredBatch(torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks)), self.labels[rows],
                           torch.tensor(rows), torch.zeros(len(rows), 0))

    def pictures(self) -> list[str]:
        """What tells each picture that is shown from all others: the views of the first row, then those of the second, ..."""
        return [f"{key}-{view}" for key in self.keys for view in range(max(1, self.views or 0))]

    def picture(self, number: int) -> np.ndarray:
        """float32 [C, H, W] of one of `pictures`."""
        image, masks = self._unmoved(number // max(1, self.views))
        return self._view(image, masks[:0], number)[0]

    def number_of(self, item: tuple[int, int]) -> int:
        """Which of `pictures` a draw shows: all views of a row in turn, rows of the same image with different ones."""
        index, draw = item
        views = max(1, self.views)
        return index * views + (draw // len(self) + index) % views

    def _drawn(self, index: int, draw: int) -> tuple[np.ndarray, np.ndarray]:
        """Image float32 and masks uint8 of a row, augmented."""
        image, masks = self._unmoved(index)
        if self.views is None:
            return light_pair(image, masks, np.random.default_rng([self.seed, draw]))
        return self._view(image, masks, self.number_of((index, draw)))

    def _view(self, image: np.ndarray, masks: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """A fixed light augmentation, the same in every arm and seed; with views = 0 the pair as it is."""
        if not self.views:
            return image, masks
        return light_pair(image, masks, np.random.default_rng([number % self.views, int(self.keys[number // self.views], 16)]))

    def _unmoved(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image float32 and masks uint8 of a row before light augmentation."""
        part, row = self.origin[index]
        image, masks = self.caches[part].scaled(row), self.caches[part].masks(row)
        if (seed := self.augment[index]) is not None:
            how = self.how[index]
            image, masks = move_pair(image, masks, how, seed, self.layers) if how else strong(image, masks, seed)
        return image, masks


class FeatureCases(Dataset):
    """The cases of another dataset, with what a frozen net gives for the picture in the place of it, and without masks.

    Args:
        cases: HeldOutCases or FusedCases. folder: of the store. encode: see FusionDataModule.serve_features. name: of the data, to be printed.
    """

    def __init__(self, cases: HeldOutCases | FusedCases, folder: Path, encode: Callable[[torch.Tensor], torch.Tensor], name: str):
        def rows(numbers: Sequence[int]) -> np.ndarray:
            return encode(torch.from_numpy(np.stack([cases.picture(n) for n in numbers]))).cpu().numpy()

        keys, shape = cases.pictures(), kept_shape(folder) or rows([0]).shape[1:]
        self.labels = cases.labels
        self.number_of = cases.number_of
        self.store = FeatureStore(folder, shape, np.float32 if len(shape) == 1 else np.float16)  # of tokens there are hundreds
        self.places = self.store.places(keys, rows)
        print(f"features of {len(set(keys))} pictures for {name}: rows of {' x '.join(map(str, shape))}, kept in {folder.name} and read from there", flush=True)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, item: int | tuple[int, int]) -> Case:
        return self.__getitems__([item]).cases()[0]

    def __getitems__(self, items: list[int] | list[tuple[int, int]]) -> StoredBatch:
        rows = [item[0] if isinstance(item, tuple) else item for item in items]
        features = self.store.read_many(self.places[[self.number_of(item) for item in items]]).astype(np.float32)
        return StoredBatch(torch.from_numpy(features), torch.zeros(len(rows), 0, 1, 1, dtype=torch.uint8), self.labels[rows],
                           torch.tensor(rows), torch.zeros(len(rows), 0))


def _picture_keys(manifest: Manifest) -> list[str]:
    info = manifest.info
    shown = [float(info.intensity["low"]), float(info.intensity["high"]), info.resize]
    return [name_of([key, *shown]) for key in image_keys(manifest)]


def _keys(manifest: Manifest) -> list[tuple[str, ...]]:
    names = ("source", *(f"channel:{c}" for c in manifest.info.channels), "subject", "digest", "mask_digest")
    return list(zip(*(manifest.column(n) for n in names), strict=True))


class FusionDataModule(EndlessDataModule):
    """Trains on `fusion.fuse(train, synthetic, rng)`; validates and tests on real images.

    Args:
        manifest: folder of the real manifest.
        synthetic: folder of the synthetic manifest; None where the strategy needs none.
        fusion: the arm.
        size: (height, width) of the pictures.
        batch_size: images a batch.
        seed: of the fusion, the order and the augmentation; None = 0, on the command line --seed_everything.
        num_workers: processes that read; results do not depend on it.
        steps: batches of the whole training; None: an epoch is one pass over the rows.
        external: manifests of other sources, tested on and never selected on: folders, or name -> folder.
        judged_size: (height, width) at which the masks of test images are read, whatever the nets see; None = size.
        views: of a training image that nets see: null = a fresh light augmentation at every draw; 0 = the image as it is; k = k light augmentations in
            turn, fixed for an image. What a frozen net gives for an image is kept where it sees no more than these (always of validation and test),
            unless the precision of the trainer converts the net (64-true, bf16-true).
        keep_features: false = a frozen net sees every picture anew.
    """

    def __init__(
        self,
        manifest: str,
        synthetic: str | None = None,
        fusion: FusionStrategy | None = None,
        size: tuple[int, int] = (64, 64),
        batch_size: int = 16,
        seed: int | None = None,
        num_workers: int = 0,
        steps: int | None = None,
        external: list[str] | dict[str, str] | tuple[str, ...] = (),
        judged_size: tuple[int, int] | None = None,
        views: int | None = None,
        keep_features: bool = True,
    ):
        super().__init__()
        if views is not None and views < 0:
            raise InputError("data.views", str(views), "null, 0 or more")
        self.views, self.keep_features = views, keep_features
        if batch_size < 1:
            raise InputError("data.batch_size", str(batch_size), "1 or more")
        self.folder, self.size, self.batch_size = manifest, (int(size[0]), int(size[1])), batch_size
        self.seed = seed or 0
        self.judged_size = self.size if judged_size is None else (int(judged_size[0]), int(judged_size[1]))
        self.fusion = fusion if fusion is not None else RealOnly()
        self.synthetic_folder, self.num_workers, self.steps = synthetic, num_workers, steps
        self.real = Manifest.read(manifest)
        self.external = external if isinstance(external, Mapping) else {Path(p).name: p for p in external}
        self.train: Manifest | None = None
        self.test_manifests: list[tuple[str, Manifest]] = []  # ("" = the dataset itself), then external ones
        self._data: dict[str, Dataset] = {}

    @property
    def num_channels(self) -> int:
        """Image channels."""
        return len(self.real.info.channels)

    @property
    def classes(self) -> tuple[str, ...]:
        """Label classes."""
        return self.real.info.classes

    @property
    def num_classes(self) -> int:
        """Number of label classes."""
        return len(self.classes)

    @property
    def layers(self) -> dict[str, tuple[str, ...]]:
        """Mask layer -> its structures."""
        return dict(self.real.info.layers)

    def held_out(self, split: str, manifest: Manifest | None = None) -> Manifest:
        """The real images of a split.

        Raises:
            InputError: the split is empty or holds a synthetic row.
        """
        manifest = self.real if manifest is None else manifest
        rows = manifest.where(split=split)
        made = int((rows.column("source") != "real").sum())
        if made:
            raise InputError(f"split {split} of {manifest.info.name!r}", f"{made} synthetic rows", "real images only",
                             "give synthetic images as data.synthetic")
        if not len(rows):
            raise InputError(f"split {split} of {manifest.info.name!r}", "no image", "at least one",
                             "prepare it with a share for this split (--fractions)")
        return rows

    def setup(self, stage: str | None = None) -> None:
        """Fuse and open the caches of what the stage needs; a second call does nothing."""
        if stage in (None, "fit") and "train" not in self._data:
            self._setup_train()
        if stage in (None, "fit", "validate") and "val" not in self._data:
            val = self._selection()
            self._data["val"] = HeldOutCases(val, ImageCache(val, self.size))
        if stage in (None, "test", "predict") and not self.test_manifests:
            tests = [("", self.held_out("test")), *self._external_tests()]
            for name, rows in tests:
                judged = ImageCache(rows, self.judged_size) if self.judged_size != self.size else None
                self._data[f"test {name}"] = HeldOutCases(rows, ImageCache(rows, self.size), judged)
            self.test_manifests = tests

    def _external_tests(self) -> list[tuple[str, Manifest]]:
        """Test rows of the external sets; neither training nor the synthetic set's making may have seen them."""
        out, pool = [], self._pool() if self.external else None
        for name, folder in self.external.items():
            other, where = Manifest.read(folder), f"data.external {folder}"
            check_same_shape(self.real, other, where)
            rows = self.held_out("test", other)
            refuse_training_images(self.real, rows, where)
            if pool is not None:
                refuse_leaks(rows, pool, where)
                refuse_overlaps(rows, pool.info.lineage, where)
            out.append((name, rows))
        return out

    def _real_train(self) -> Manifest:
        real = self.real.where(split="train", source="real")
        if not len(real):
            raise InputError(f"split train of {self.real.info.name!r}", "no real image", "at least one",
                             "prepare it with a share for this split (--fractions)")
        return real

    def _pool(self) -> Manifest | None:
        """The synthetic set, checked against the real one."""
        if self.synthetic_folder is None:
            return None
        where = f"data.synthetic {self.synthetic_folder}"
        synthetic = Manifest.read(self.synthetic_folder)
        check_same_shape(self.real, synthetic, where)
        synthetic = synthetic.where(source="synthetic")
        if not len(synthetic):
            raise InputError(where, "no synthetic row", "rows with source synthetic",
                             "import the set with `synthrad prepare table ... --synthetic`")
        refuse_unsealed(self.synthetic_folder, synthetic.info.lineage, where)
        refuse_leaks(self.real, synthetic, where)
        refuse_overlaps(self.real, synthetic.info.lineage, where)
        return with_checked_origin(synthetic, where)

    def _selection(self) -> Manifest:
        """What checkpoints are selected on: real validation images, unless the arm claims to do without (SyntheticOnly)."""
        val = self.held_out("val")
        if getattr(self.fusion, "select", "real_val") == "real_val":
            return val
        return self.fusion.selection(self._real_train(), val, self._pool())

    def _setup_train(self) -> None:
        real, synthetic = self._real_train(), self._pool()
        self.train = self.fusion.fuse(real, synthetic, np.random.default_rng(self.seed))
        for line in self.fusion.log:
            print(f"fusion {type(self.fusion).__name__}: {line}", flush=True)
        parts = [(real, ImageCache(real, self.size))]
        if synthetic is not None and (self.train.column("source") == "synthetic").any():
            used = synthetic.take(np.flatnonzero(np.isin(synthetic.column("digest"), self.train.column("digest"))))
            parts.append((used, ImageCache(used, self.size)))
        self._data["train"] = FusedCases(self.train, parts, self.seed, self.views)

    def serve_features(self, encode: Callable[[torch.Tensor], torch.Tensor], identity: str) -> None:
        """From now on give what a frozen net gives for pictures in the place of them, wherever they are fixed (`views`); read from disk or computed.

        Args:
            encode: pictures [n, C, H, W] to rows [n, ...], computed in float32. identity: of the net; equal ones give equal rows.
        """
        if not self.keep_features:
            return
        base = Path(self.real.info.roots.get(HERE, ".")) / ".cache"
        for name, data in self._data.items():
            if isinstance(data, FeatureCases):
                continue
            if name == "train" and self.views is None:
                print("features of training images are computed at every draw: each is augmented anew (data.views=0 or 8 keeps them)", flush=True)
                continue
            folder = base / f"features-{name_of([FEATURES_VERSION, identity, self.size, self.num_channels])}"
            self._data[name] = FeatureCases(data, folder, encode, name)

    def train_dataloader(self) -> EndlessLoader:
        """Shuffled without end; remembers where it is."""
        rows = len(self._data["train"])
        length = self.steps if self.steps is not None else -(-rows // self.batch_size)
        batches = EndlessBatches(rows, self.batch_size, self.seed, length)
        return self.endless(self._data["train"], batches, self.collated, num_workers=self.num_workers,
                            persistent_workers=self.num_workers > 0)

    def val_dataloader(self) -> DataLoader:
        """Real validation images in order."""
        return self._in_order(self._data["val"])

    def test_dataloader(self) -> list[DataLoader]:
        """Real test images in order: the dataset's own, then one loader an external manifest."""
        return [self._in_order(self._data[f"test {name}"]) for name, _ in self.test_manifests]

    def predict_dataloader(self) -> list[DataLoader]:
        """As the test."""
        return self.test_dataloader()

    def _in_order(self, data: Dataset) -> DataLoader:
        # each rank takes its own rows, none twice: Lightning's sampler would pad and count images twice
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            rows = range(torch.distributed.get_rank(), len(data), torch.distributed.get_world_size())
            data = Subset(data, rows)
        own = torch.Generator()
        own.manual_seed(self.seed)
        return DataLoader(data, batch_size=self.batch_size, collate_fn=self.collated, generator=own,
                          num_workers=self.num_workers)

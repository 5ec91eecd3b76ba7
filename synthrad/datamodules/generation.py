"""GenerationDataModule: the training split, and nothing else, for a generator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from synthrad.cases import Case
from synthrad.conditioning import Condition
from synthrad.data.cache import UNKNOWN, ImageCache
from synthrad.data.prompts import Prompt
from synthrad.data.stored import StoredBatch
from synthrad.datamodules.endless import EndlessBatches, EndlessDataModule, EndlessLoader
from synthrad.dataset_info import HERE
from synthrad.errors import InputError
from synthrad.lineage import hash_subjects, hash_values, key_id, project_key
from synthrad.metrics.fidelity import by_turns
from synthrad.nets.text import vocabulary, words_of
from synthrad.records import Manifest

PRELOAD_BYTES = 2**30  # decoded images up to this size are held in memory


class GenerationDataModule(EndlessDataModule):
    """Real training images with masks, labels and attributes, as batches of Case.

    Args:
        manifest: folder written by `synthrad prepare`.
        size: (height, width), powers of two of ratio at most 2.
        batch_size: images a device and step.
        layers: mask layers to draw with the image; None = all. An image whose mask is unknown in one of them is left
            out (its number is printed).
        seed: of the order of images; None = 0, on the command line --seed_everything.
        cache: folder of the decoded images; None = beside the manifest.
        attributes: what a generator can be asked for beside the labels; None = all of the manifest. A value of fewer
            than `min_subjects` training subjects counts as unknown (exact age, free text: nearly the patient's identity),
            an attribute with fewer than 2 other values is left out; both are printed.
        min_subjects: see attributes.
        classes: labels that a generator can be asked for; None = all, [] = none. The others are unknown to it, and in
            what it draws. With attributes=[] as well it is unconditional (but for masks that it may be given).
        prompt: template of prompts, for a generator that reads text, see data.prompts.Prompt: "{findings}, {view}, {sex}".
        prompt_words: what is written instead of a class or a value, such as {F: female}.
        num_workers: processes that read; results do not depend on it. Images below PRELOAD_BYTES are in memory and need none.
    """

    def __init__(self, manifest: str, size: tuple[int, int], batch_size: int = 16, layers: list[str] | None = None,
                 seed: int | None = None, cache: str | None = None, attributes: list[str] | None = None, min_subjects: int = 10,
                 classes: list[str] | None = None, prompt: str | None = None, prompt_words: dict[str, str] | None = None,
                 num_workers: int = 0):
        super().__init__()
        if batch_size < 1:
            raise InputError("data.batch_size", str(batch_size), "at least 1")
        self.prompt = None if prompt is None else Prompt(prompt, prompt_words or {})
        self.classes = classes
        self.attributes, self.min_subjects = attributes, min_subjects
        self.folder, self.size, self.batch_size = manifest, (int(size[0]), int(size[1])), batch_size
        self.layers, self.seed, self.cache_folder, self.num_workers = layers, seed or 0, cache, num_workers
        self.train: Manifest | None = None

    def prepare(self) -> None:
        """Read the manifest, choose the rows and open the cache; a second call does nothing."""
        if self.train is not None:
            return
        manifest = Manifest.read(self.folder)
        if self.prompt is not None:
            self.prompt.check(manifest.info.attributes, "data.prompt")
        every = chosen = manifest.where(split="train", source="real")
        self._validation = manifest.where(split="val", source="real")
        names = list(manifest.info.layers)
        self.layers = names if self.layers is None else list(self.layers)
        if unknown := [x for x in self.layers if x not in names]:
            raise InputError("data.layers", str(unknown), f"among {names}", "name layers of the manifest")
        known = np.all([chosen.column(f"mask:{x}") != "" for x in self.layers], axis=0) if self.layers else None
        if known is not None and not known.all():
            print(f"GenerationDataModule: {int((~known).sum())} of {len(chosen)} training images have no mask in "
                  f"{self.layers} and are left out of joint training (data.layers=[] uses them without masks)")
            chosen = chosen.take(np.flatnonzero(known))
        if not len(chosen):
            raise InputError(f"{self.folder}", "no usable training image", "real rows of split train with masks",
                             "check the splits, or train without masks (data.layers=[])")
        self.train = chosen
        self._layer_index = [names.index(x) for x in self.layers]
        self._values, self._rare = self._choose_values(every, chosen)
        self._taught = self._choose_classes(manifest)
        self._labels = self._known_labels(chosen)
        self._attributes = self._one_hot(chosen)
        self._cache = ImageCache(chosen, self.size, self.cache_folder)
        bytes_a_pixel = len(manifest.info.channels) * 2 + len(self.layers)  # at most
        self._held: tuple[np.ndarray, np.ndarray] | None = None
        if len(chosen) * self.size[0] * self.size[1] * bytes_a_pixel <= PRELOAD_BYTES:
            self._held = self._read(range(len(chosen)))

    def _choose_classes(self, manifest: Manifest) -> list[str]:
        known = list(manifest.info.classes)
        names = known if self.classes is None else list(self.classes)
        if unknown := [c for c in names if c not in known]:
            raise InputError("data.classes", str(unknown), f"among {known}", "name label classes of the manifest")
        return names

    def _known_labels(self, rows: Manifest) -> torch.Tensor:
        """float [n, K]: 0, 1, NaN where unknown or not taught."""
        labels = torch.tensor(rows.labels, dtype=torch.float32)
        labels[:, [c not in self._taught for c in rows.info.classes]] = float("nan")
        return labels

    def _choose_values(self, every: Manifest, chosen: Manifest) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Attribute -> values that enough subjects of the chosen rows have, and -> the other values of the training rows."""
        known = every.info.attributes
        names = list(known) if self.attributes is None else list(self.attributes)
        if unknown := [a for a in names if a not in known]:
            raise InputError("data.attributes", str(unknown), f"among {list(known)}", "name attributes of the manifest")
        values: dict[str, list[str]] = {}
        rare: dict[str, list[str]] = {}
        for a in known:
            rows = pd.DataFrame({"value": chosen.column(f"attribute:{a}"), "subject": chosen.column("subject")})
            subjects = rows[rows["value"] != ""].groupby("value")["subject"].nunique()
            kept = sorted(subjects.index[subjects >= self.min_subjects]) if a in names else []
            kept = kept if len(kept) > 1 else []
            rare[a] = sorted(set(every.column(f"attribute:{a}")) - {"", *kept})
            if kept:
                values[a] = kept
            if rare[a] and a in names:
                what = f"{len(rare[a])} values of {a!r} count as unknown" if kept else f"attribute {a!r} is left out"
                print(f"GenerationDataModule: {what}: fewer than {self.min_subjects} training subjects"
                      + ("" if kept else " for all values but at most one"), flush=True)
        return values, rare

    def setup(self, stage: str) -> None:
        """Lightning's hook, on every process."""
        self.prepare()

    def _one_hot(self, rows: Manifest) -> torch.Tensor:
        parts = [rows.column(f"attribute:{a}")[:, None] == np.array(values, dtype=object)[None]
                 for a, values in self._values.items()]
        return torch.from_numpy(np.concatenate(parts, 1)).float() if parts else torch.zeros(len(rows), 0)

    def _read(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        masks = self._cache.mask_batch(rows)
        every = self._layer_index == list(range(masks.shape[1]))
        return self._cache.image_batch(rows), masks if every else masks[:, self._layer_index]

    def stored(self, rows: Sequence[int]) -> StoredBatch:
        """Rows of the training manifest as the cache stores them."""
        rows = list(rows)
        images, masks = self._read(rows) if self._held is None else (a[rows] for a in self._held)
        return StoredBatch(torch.from_numpy(images), torch.from_numpy(masks), self._labels[rows], torch.tensor(rows),
                           self._attributes[rows], self._cache.low, self._cache.high)

    def case(self, row: int) -> Case:
        """One row of the training manifest."""
        return self.stored([row]).cases()[0]

    @property
    def cache_path(self) -> Path:
        """Where decoded images are kept, and what else can be made again."""
        return Path(self.cache_folder) if self.cache_folder else Path(self.train.info.roots.get(HERE, ".")) / ".cache"

    def spec(self) -> dict[str, Any]:
        """What a generator must know of the data, in plain types: it stays in its checkpoint."""
        self.prepare()
        info, key = self.train.info, project_key()
        return {
            "size": list(self.size), "channels": list(info.channels), "classes": list(info.classes),
            "layers": {x: list(info.layers[x]) for x in self.layers}, "attributes": self._values,
            "untaught": [c for c in info.classes if c not in self._taught], "rates": self._rates(),
            "info": {**info.to_dict(), "roots": {}},
            # known to the data, not to the generator: a condition may name them; hashed, a rare value may name a patient
            "rare": {a: sorted(hash_values(info.id, a, v, key)) for a, v in self._rare.items()},
            "trained_on": sorted(hash_subjects(info.id, self.train.column("subject"), key)), "key_id": key_id(key),
            "fingerprints": sorted(set(self.train.column("digest"))), **self._text(),
        }

    def _text(self) -> dict[str, Any]:
        """The template, and the words of the training prompts; those of few subjects stay out of the checkpoint."""
        if self.prompt is None:
            return {}
        prompts = self.prompts(range(len(self.train)))
        harmless = [*self.prompt.harmless(self._taught), *(self.prompt.words.get(v, v) for vs in self._values.values() for v in vs)]
        known = vocabulary(prompts, self.train.column("subject"), self.min_subjects, harmless)
        if rare := {w for p in prompts for w in words_of(p)} - set(known):
            print(f"GenerationDataModule: {len(rare)} words of the prompts count as unknown: fewer than {self.min_subjects} training "
                  "subjects have them", flush=True)
        return {"prompt": {"template": self.prompt.template, "words": dict(self.prompt.words)}, "vocabulary": known}

    def prompts(self, rows: Sequence[int], labels: torch.Tensor | None = None, attributes: torch.Tensor | None = None) -> list[str]:
        """The prompts of given training rows.

        Args:
            labels: float [n, K] as they are known for this once, NaN = unknown; None = as they are.
            attributes: float [n, values] one-hot, likewise; attributes that are no values of the generator (a report) stay.
        """
        rows = list(rows)
        labels = self._labels[rows] if labels is None else labels
        one_hot = self._attributes[rows] if attributes is None else attributes
        written = [{a: str(self.train.column(f"attribute:{a}")[i]) for a in self.prompt.attributes if a not in self._values} for i in rows]
        start = 0
        for name, values in self._values.items():
            for row, hot in zip(written, one_hot[:, start : start + len(values)], strict=True):
                row[name] = values[int(hot.argmax())] if hot.any() else ""
            start += len(values)
        columns = [self.train.info.classes.index(c) for c in self._taught]
        return self.prompt.write_all(labels[:, columns].cpu().numpy(), self._taught, written)

    def _rates(self) -> list[float]:
        """Of each label, then each value of each attribute: the share of training images that have it where it is known."""
        columns = [self._labels]
        for values in torch.split(self._attributes, [len(v) for v in self._values.values()], 1) if self._values else ():
            columns.append(torch.where(values.sum(1, keepdim=True) > 0, values, torch.nan))
        return torch.cat(columns, 1).nanmean(0).nan_to_num(0.0).tolist()

    def conditions(self, rows: Sequence[int]) -> Condition:
        """Conditions of given training rows, for pictures during training."""
        self.prepare()
        columns = {a: self.train.column(f"attribute:{a}") for a in self._values}
        attributes = [{a: str(c[i]) if c[i] in self._values[a] else "" for a, c in columns.items()} for i in rows]
        masks = torch.stack([self.case(i).masks for i in rows]) if self.layers and len(rows) else None
        text = self.prompts(rows) if self.prompt is not None else None
        return Condition(labels=self._labels[list(rows)].numpy(), attributes=attributes, masks=masks, text=text)

    def held_out(self, number: int) -> tuple[torch.Tensor, np.ndarray]:
        """Real validation images, to compare samples with; nothing is ever trained on them.

        Args:
            number: at most so many; as many subjects as possible, always the same ones for a seed.

        Returns:
            float [n, C, H, W] in [-1, 1] and their subjects, object [n]; n is 0 where the manifest has no validation rows.
        """
        cases, subjects = self.held_out_cases(number)
        empty = torch.zeros(0, len(self._validation.info.channels), *self.size)
        return torch.stack([c.image for c in cases]) if cases else empty, subjects

    def held_out_cases(self, number: int) -> tuple[list[Case], np.ndarray]:
        """The same images with what is known of them: an attribute value that nothing was trained on counts as unknown."""
        self.prepare()
        rows = self._validation.take(by_turns(self._validation.column("subject"), self.seed)[:number])
        if not len(rows):
            return [], rows.column("subject")
        cache, attributes = ImageCache(rows, self.size, self.cache_folder), self._one_hot(rows)
        labels, cases = self._known_labels(rows), []
        for i in range(len(rows)):
            masks = np.array(cache.masks(i))[self._layer_index].astype(np.int64)
            masks[masks == UNKNOWN] = -1
            image = torch.from_numpy(np.array(cache.scaled(i))).float()
            cases.append(Case(image, torch.from_numpy(masks), labels[i], torch.tensor(i), attributes[i]))
        return cases, rows.column("subject")

    def train_dataloader(self) -> EndlessLoader:
        """Batches in an order that is a function of seed and draw alone; it can be saved and continued."""
        length = max(1, len(self.train) // self.batch_size)
        return self.endless(_Rows(self), EndlessBatches(len(self.train), self.batch_size, self.seed, length), self.collated,
                            num_workers=self.num_workers, persistent_workers=self.num_workers > 0)


class _Rows(torch.utils.data.Dataset):
    """Items (row, draw) of EndlessBatches, a batch at a time."""

    def __init__(self, source: GenerationDataModule):
        self.source = source

    def __getitems__(self, items: list[tuple[int, int]]) -> StoredBatch:
        return self.source.stored([row for row, _ in items])

"""An arm's training set as files for another trainer: nnU-Net v2's published layout, or plain folders with a table.

What our own fit of that arm, task and seed sees is what is written: the fused rows, at the size of the task, before the light augmentation that each
of its draws gets anew (the other trainer brings its own). Test images go along without masks or labels. nnU-Net's layout is that of
documentation/dataset_format.md of MIC-DKFZ/nnUNet, its split that of `splits_final.json` (documentation/manual_data_splits.md).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from synthrad.data.images import write_image
from synthrad.errors import InputError, near
from synthrad.files import write_durably
from synthrad.fusion.controls import AUGMENTED
from synthrad.lineage import hash_values, project_key
from synthrad.progress import progress
from synthrad.records import Manifest
from synthrad.study.description import Study, Task, digest_of
from synthrad.study.planning import Plan, PlannedArm, identities, strategy_of
from synthrad.study.pools import pools_of
from synthrad.study.standing import pool_state

if TYPE_CHECKING:
    from synthrad.datamodules.fusion import FusionDataModule

VERSION = 2  # raise by hand when the pixels or the names of exported cases change
FIRST_ID, LAST_ID, TAKEN = 501, 999, 10  # of nnU-Net's datasets: three digits, the first ten are the Medical Segmentation Decathlon's
RESERVED = ("background", "ignore")  # labels that mean something else to nnU-Net
TABLE, SPLIT, FACTS = "cases.csv", "split.csv", "export.json"


@dataclass(frozen=True)
class OutsideArm:
    """One arm, task and seed of a study, whose rows another trainer gets.

    Args:
        identity: of the rows and of how they are judged; imported predictions are held against it.
        pool: folder of the synthetic rows of this seed, None = no synthetic row.
    """

    study: Study
    task_name: str
    arm: PlannedArm
    seed: int
    identity: str
    pool: str | None = None

    @property
    def task(self) -> Task:
        """What is learned."""
        return self.study.tasks[self.task_name]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the pictures that a net of this task sees."""
        return tuple(self.task.size or self.study.size)

    def data(self) -> FusionDataModule:
        """The data of our own fit, every training image as it is; its checks of leaks included."""
        from synthrad.datamodules.fusion import FusionDataModule

        return FusionDataModule(self.study.manifest, synthetic=self.pool, fusion=strategy_of(self.study, self.arm), size=self.size,
                                judged_size=self.study.size, seed=self.seed, external=self.study.external, views=0)

    def layers(self, manifest: Manifest) -> dict[str, tuple[str, ...]]:
        """Mask layer -> structures that the task is about."""
        known = manifest.info.layers
        return {k: tuple(known[k]) for k in (self.task.layers or known)} if self.task.kind == "segmentation" else {}

    def classes(self, manifest: Manifest) -> tuple[str, ...]:
        """Label classes that the task is about."""
        return tuple(self.task.classes or manifest.info.classes) if self.task.kind == "classification" else ()

    def names(self, rows: Manifest, prefix: str) -> list[str]:
        """A name for each row: 10 digits that only this project's key, this arm, seed and image give, and before them their rank among the rows.

        A manifest's order may follow labels; that of the names, in which cases are written, does not. Nobody reads a patient from a name, and predictions for another arm, seed or image are told by it. No `_0000` is in it: many a script takes a channel
        off a file's name by removing just that.
        """
        about, key = f"case of {self.identity} seed {self.seed}", project_key()
        tags = {d: min(hash_values(rows.info.id, about, [d], key))[:10] for d in set(rows.column("digest"))}
        digests = list(rows.column("digest"))
        place = np.argsort(np.argsort([tags[d] for d in digests], kind="stable"))
        return [f"{prefix}{place[i] + 1:05d}-{tags[d]}" for i, d in enumerate(digests)]


def outside_arm(study: Study, manifest: Manifest, plan: Plan, task: str, arm: str, seed: int) -> OutsideArm:
    """An arm, task and seed of a study by their names.

    Raises:
        InputError: the study has none of that name, or the arm adds no row and equals another.
    """
    arms = {a.name: a for a in plan.arms}
    for flag, name, known in (("--task", task, study.tasks), ("--arm", arm, arms)):
        if name not in known:
            raise InputError(flag, repr(name), f"one of {', '.join(known)}, which {study.name!r} has", near(name, known))
    if not 0 <= seed < study.seeds:
        raise InputError("--seed", str(seed), f"0 to {study.seeds - 1}: {study.name!r} has {study.seeds} seed(s)")
    if (same := arms[arm].same_as) is not None:
        raise InputError("--arm", f"{arm!r}, which adds no row", f"an arm that is fitted: it equals {same}", f"--arm {same}")
    return OutsideArm(study, task, arms[arm], seed, row_identities(study, manifest, plan)[task, arm])


def row_identities(study: Study, manifest: Manifest, plan: Plan) -> dict[tuple[str, str], str]:
    """(task, arm) -> hash of what decides the rows of the arm, their pixels, and what they are tested on; of no net and no number of steps."""
    pools, digest = identities(study, plan, manifest)["pool"], manifest.digest
    held = {name: Manifest.read(folder).digest for name, folder in study.external.items()}
    found = {}
    for arm in plan.fitted():
        rows = [pools.get(arm.source, "") if arm.source else "", arm.strategy, study.arms[arm.like or arm.name].model_dump(), arm.role, study.cells]
        for name, task in study.tasks.items():
            seen = [study.size, task.size or study.size, task.kind, task.layers, task.classes]
            found[name, arm.name] = digest_of("outside", VERSION, digest, rows, seen, held)
    return found


def with_pool(rows: OutsideArm, folder: Path, graph: Mapping[str, Any]) -> OutsideArm:
    """The same with the synthetic set of its seed.

    Raises:
        InputError: that set is not made, or under other settings than the study file has now.
    """
    source = rows.arm.source
    if source is None:
        return rows
    state = pool_state(folder, source, graph["sources"][source]["pool"])
    if state != "done":
        raise InputError(str(folder / "sources" / source), f"a synthetic set that is {'of another configuration' if state == 'stale' else 'not made yet'}",
                         f"the one that arm {rows.arm.name!r} draws from", f"`synthrad study run {graph['study_file']}` makes it, before the fits")
    pools = pools_of(folder, source)
    return replace(rows, pool=str(pools[rows.seed % len(pools)]))


@dataclass(frozen=True)
class OutsideCase:
    """One image of an export.

    Args:
        split: train, val or test. image: [C, H, W] uint8 or uint16. masks: layer -> [H, W] uint8 (0 background, k structure k - 1), those that are
            known; empty for test. labels: class -> 0, 1, a share where the label is soft, or NaN; empty for test.
        row: of cases.csv: external, source, subject, image, copy_of, augment.
    """

    name: str
    split: str
    image: np.ndarray
    masks: Mapping[str, np.ndarray]
    labels: Mapping[str, float]
    row: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Its row of cases.csv; greys: the largest value that a pixel may have."""
        return {"case": self.name, "split": self.split, **self.row, "greys": int(np.iinfo(self.image.dtype).max)}


def outside_cases(rows: OutsideArm) -> Iterator[OutsideCase]:
    """Training, validation and test images in this order, each row of the fused table a case, repeated ones as often as they are; of each
    set in the order of their names."""
    data = rows.data()
    data.setup("fit")
    data.setup("test")
    train, val = data.train_dataloader().dataset, data.val_dataloader().dataset
    held = [("val", "", val.manifest, val), *(("test", name, m, d.dataset) for (name, m), d in zip(data.test_manifests, data.test_dataloader(), strict=True))]
    deep = any((c.low, c.high) != (0, 255) for c in (*train.caches, *(d.cache for *_, d in held)))
    place = {k: list(data.layers).index(k) for k in rows.layers(data.real)}, {c: data.classes.index(c) for c in rows.classes(data.real)}

    def every() -> Iterator[OutsideCase]:
        pictures, first = train.pictures(), {}
        for i, name in _by_name(rows.names(data.train, "train")):
            copied = first.setdefault(pictures[i], name)
            yield _case(name, "train", train[i, 0], deep, place, _row(data.train, i, "", "" if copied == name else copied))
        for split, external, manifest, cases in held:
            for i, name in _by_name(rows.names(manifest, f"{split}{f'_{external}' if external else ''}")):
                yield _case(name, split, cases[i], deep, place if split == "val" else ({}, {}), _row(manifest, i, external, ""))

    yield from progress(every(), desc="writing images", total=len(train) + sum(len(d) for *_, d in held), unit="image")


def _by_name(names: Sequence[str]) -> list[tuple[int, str]]:
    return sorted(enumerate(names), key=lambda place: place[1])


def _case(name: str, split: str, case: Any, deep: bool, place: tuple[Mapping[str, int], Mapping[str, int]], row: Mapping[str, Any]) -> OutsideCase:
    layers, classes = place
    known = {layer: case.masks[k].numpy() for layer, k in layers.items() if case.masks[k].min() >= 0}
    return OutsideCase(name, split, stored(case.image.numpy(), deep), {k: m.astype(np.uint8) for k, m in known.items()},
                       {c: float(case.labels[k]) for c, k in classes.items()}, row)


def _row(manifest: Manifest, i: int, external: str, copied: str) -> dict[str, Any]:
    """What finds a case in the manifest again."""
    augment = manifest.column("augment")[i]
    how = manifest.column(AUGMENTED)[i] if AUGMENTED in manifest.table else ""
    return {"external": external, "source": manifest.column("source")[i], "subject": manifest.column("subject")[i], "image": manifest.column("digest")[i],
            "copy_of": copied, "augment": "" if pd.isna(augment) else f"{how or 'strong'} {int(augment)}"}


def stored(image: np.ndarray, deep: bool) -> np.ndarray:
    """Greys of a picture in [-1, 1]: 0 to 255, or 0 to 65535 where `deep`."""
    most = 65535 if deep else 255
    return np.rint((image.astype(np.float64) + 1) * (most / 2)).clip(0, most).astype(np.uint16 if deep else np.uint8)


def export_folder(rows: OutsideArm, manifest: Manifest, out: Path) -> list[str]:
    """Write images/<channel>/CASE.png, masks/<layer>/CASE.png, split.csv and cases.csv; returns what to say of it.

    split.csv has the columns case, split, source, copy_of, image:<channel>, mask:<layer> (blank where no mask is known) and label:<class> (blank
    where it is not known); those of test images are blank.
    """
    table: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    layers, classes = rows.layers(manifest), rows.classes(manifest)
    for case in outside_cases(rows):
        line = {"case": case.name, "split": case.split, "source": case.row["source"], "copy_of": case.row["copy_of"]}
        for k, channel in enumerate(manifest.info.channels):
            line[f"image:{channel}"] = f"images/{channel}/{case.name}.png"
            write_image(out / line[f"image:{channel}"], case.image[k])
        for layer in layers:
            line[f"mask:{layer}"] = f"masks/{layer}/{case.name}.png" if layer in case.masks else ""
            if layer in case.masks:
                write_image(out / line[f"mask:{layer}"], case.masks[layer])
        line |= {f"label:{c}": "" if np.isnan(v := case.labels.get(c, np.nan)) else f"{v:g}" for c in classes}
        table.append(line)
        said.append(case.facts())
    write_durably(out / SPLIT, pd.DataFrame(table).to_csv(index=False, lineterminator="\n").encode())
    _write_facts(rows, out, said, {"layers": {k: ids(s) for k, s in layers.items()}, "classes": list(classes)})
    return told(rows, said)


def export_nnunet(rows: OutsideArm, manifest: Manifest, out: Path, first_id: int) -> list[str]:
    """Write a dataset of nnU-Net v2 for each layer, each with its split, and cases.csv; returns what to say of it.

    A layer is a dataset because its structures exclude each other and those of two layers do not: a label map holds one number a pixel, and regions,
    which nnU-Net turns back into one number a pixel in a fixed order, lose what overlaps without being nested. Images of which a layer's mask is not known
    are not in its dataset: they teach it nothing.

    Raises:
        InputError: the task names no structures, ids or names that nnU-Net does not take, or a layer without a known mask.
    """
    layers = checked_for_nnunet(rows, manifest, first_id)
    names = {layer: dataset_name(rows, layer, first_id + k) for k, layer in enumerate(layers)}
    splits: dict[str, dict[str, list[str]]] = {layer: {"train": [], "val": []} for layer in layers}
    said: list[dict[str, Any]] = []
    for case in outside_cases(rows):
        for layer, name in names.items():
            home = out / "nnUNet_raw" / name
            if case.split != "test" and layer not in case.masks:
                continue
            for k, channel in enumerate(case.image):
                write_image(home / ("imagesTs" if case.split == "test" else "imagesTr") / f"{case.name}_{k:04d}.png", channel)
            if case.split != "test":
                write_image(home / "labelsTr" / f"{case.name}.png", case.masks[layer])
                splits[layer][case.split].append(case.name)
        said.append(case.facts())
    for layer, structures in layers.items():
        for split, found in splits[layer].items():
            if not found:
                raise InputError(f"layer {layer!r}", f"no {split} image whose mask is known", "at least one", "export another task or arm")
        _write_json(out / "nnUNet_raw" / names[layer] / "dataset.json", dataset_json(rows, manifest, layer, structures, splits[layer]))
        _write_json(out / "nnUNet_preprocessed" / names[layer] / "splits_final.json", [splits[layer]])
    _write_facts(rows, out, said, {"datasets": {k: {"name": names[k], "labels": ids(s)} for k, s in layers.items()}})
    return [*told(rows, said), *_told_of_datasets(names, splits, said)]


def checked_for_nnunet(rows: OutsideArm, manifest: Manifest, first_id: int) -> dict[str, tuple[str, ...]]:
    """Layer -> structures, of a task that nnU-Net can be asked.

    Raises:
        InputError: see `export_nnunet`.
    """
    layers = rows.layers(manifest)
    if not layers:
        raise InputError("--to nnunet", f"task {rows.task_name!r}, a {rows.task.kind}", "a segmentation: nnU-Net draws masks", "--to folder")
    if not TAKEN < first_id <= LAST_ID + 1 - len(layers):
        raise InputError("--dataset-id", str(first_id), f"{TAKEN + 1} to {LAST_ID + 1 - len(layers)}: three digits for each of {len(layers)} layer(s), the first "
                         f"{TAKEN} are taken")
    for layer, structures in layers.items():
        if wrong := [s for s in structures if s.lower() in RESERVED]:
            raise InputError(f"layer {layer!r}", f"a structure called {wrong[0]!r}", "another name: nnU-Net means something else by it", "--to folder")
    return layers


def dataset_name(rows: OutsideArm, layer: str, number: int) -> str:
    """Dataset501_study_arm_layer_seed0."""
    said = re.sub(r"[^A-Za-z0-9]+", "_", f"{rows.study.name}_{rows.arm.name}_{layer}").strip("_")
    return f"Dataset{number:03d}_{said}_seed{rows.seed}"


def ids(structures: Sequence[str]) -> dict[str, int]:
    """Name -> number in a label picture."""
    return {"background": 0, **{s: k + 1 for k, s in enumerate(structures)}}


def dataset_json(rows: OutsideArm, manifest: Manifest, layer: str, structures: Sequence[str], split: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """nnU-Net's description of a dataset."""
    return {"channel_names": {str(k): name for k, name in enumerate(manifest.info.channels)}, "labels": ids(structures),
            "numTraining": sum(map(len, split.values())), "file_ending": ".png", "name": layer, "licence": manifest.info.licence,
            "description": f"arm {rows.arm.name} of study {rows.study.name}, task {rows.task_name}, layer {layer}, seed {rows.seed}; use fold 0 of splits_final.json"}


def told(rows: OutsideArm, cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was written, and what became of repetitions and augmentation. cases: see OutsideCase.facts."""
    counted = Counter((c["split"], c["source"]) for c in cases)
    train = [c for c in cases if c["split"] == "train"]
    copies, moved = sum(bool(c["copy_of"]) for c in train), sum(bool(c["augment"]) for c in train)
    lines = [f"arm {rows.arm.name} of {rows.study.name}, task {rows.task_name}, seed {rows.seed}, {rows.size[0]} x {rows.size[1]} pixels: "
             + ", ".join(f"{n} {source} {split}" for (split, source), n in counted.items()) + " images"]
    if copies:
        lines.append(f"  {copies} of the training cases repeat another: each is a case of its own, so that it weighs as much as in our fits (copy_of tells them)")
    if moved:
        lines.append(f"  {moved} of the training cases are real ones that this arm augments once: that is in their pixels")
    return [*lines, "  our light augmentation is not: it is drawn anew at every step, and the other trainer brings its own"]


def _told_of_datasets(names: Mapping[str, str], splits: Mapping[str, Mapping[str, Sequence[str]]], cases: Sequence[Mapping[str, Any]]) -> list[str]:
    lines, asked = [], sum(c["split"] != "test" for c in cases)
    for layer, name in names.items():
        kept = {split: len(found) for split, found in splits[layer].items()}
        left = asked - sum(kept.values())
        lines.append(f"  layer {layer}: {name}, {kept['train']} train + {kept['val']} val" + (f"; {left} without a known mask left out" if left else ""))
    return [*lines, "  train fold 0, the study's split: for any other fold nnU-Net draws one at random, with one patient's images on both sides"]


def _write_facts(rows: OutsideArm, out: Path, cases: Sequence[Mapping[str, Any]], more: Mapping[str, Any]) -> None:
    """cases.csv, by which a case is found in the manifest again, then export.json."""
    table = pd.DataFrame(cases).drop(columns="greys")
    write_durably(out / TABLE, table.to_csv(index=False, lineterminator="\n").encode())
    _write_json(out / FACTS, {"study": rows.study.name, "task": rows.task_name, "arm": rows.arm.name, "seed": rows.seed, "size": list(rows.size),
                              "greys": cases[0]["greys"], "identity": rows.identity, **more})


def _write_json(path: Path, data: Any) -> None:
    write_durably(path, (json.dumps(data, indent=1) + "\n").encode())

"""`synthrad study replicate`: the same study on other splits of the same data, with other generator seeds and draws."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from synthrad.data.leaks import read_copies
from synthrad.data.splits import picture_owners, split_by_subject
from synthrad.dataset_info import HERE
from synthrad.documents import read_yaml
from synthrad.errors import InputError
from synthrad.files import write_durably
from synthrad.manifest_table import SPLITS
from synthrad.records import Manifest
from synthrad.study.description import Study
from synthrad.study.pooling import SEEDING
from synthrad.study.settling import precisions_of, settled
from synthrad.study.study_file import load_study

COMMON = (0.02, 0.98)  # share of images with a structure, between which a split keeps its share (as `synthrad prepare` does)


def resplit(manifest: Manifest, seed: int) -> Manifest:
    """The same real images, split by subject anew in the proportions they have, labels and structures stratified.

    Raises:
        InputError: synthetic rows: of other subjects than these, they cannot be split.
    """
    if (manifest.column("source") != "real").any():
        raise InputError("manifest", "synthetic rows", "a real dataset")
    subjects = manifest.column("subject")
    now = manifest.column("split")
    shares = np.array([len(set(subjects[now == s])) for s in SPLITS], float)
    facts = [manifest.labels[:, k] for k in range(len(manifest.info.classes))]
    for name in manifest.names("area"):
        area = manifest.column(f"area:{name}").astype(float)
        present = np.where(np.isnan(area), np.nan, area > 0)
        if COMMON[0] <= np.nan_to_num(present).mean() <= COMMON[1]:
            facts.append(present)
    table = np.array(facts, float).T if facts else np.zeros((len(manifest), 0))
    copies = read_copies(manifest.info.roots[HERE]).pairs
    owners = picture_owners(subjects, manifest.column("digest"), [(i, j) for i, j, _ in copies])
    split = np.array(split_by_subject(owners, table, shares / shares.sum(), seed), dtype=object)
    return manifest.with_columns({"split": split, **_unsettled(manifest, split != "train")})


def _unsettled(manifest: Manifest, held: np.ndarray) -> dict[str, np.ndarray]:
    """Columns in which labels that were uncertain, and settled for training alone, are unknown in held-out rows."""
    columns = {}
    for name in manifest.names("soft"):
        label, soft = (manifest.column(f"{kind}:{name}").astype(float) for kind in ("label", "soft"))
        gone = held & ~np.isnan(soft)
        columns[f"label:{name}"], columns[f"soft:{name}"] = (np.where(gone, np.nan, v) for v in (label, soft))
    return columns


def write_replicates(study_file: Path, number: int, out: Path, data: Path) -> list[Path]:
    """Write OUT/<study>_r<k>.yaml and DATA/<dataset>_<study>_r<k> for k = 1 .. number; what is there already is left.

    Replicate k has the split of seed k, generators trained from seed k (`--seed_everything`) and draws of seed + k. An imported
    source stays as it is. What `precision: auto` stands for is settled here, once for all of them (as the first one's file has it, if that is there): they are
    pooled, whatever machines they run on.

    Returns:
        The study files.
    """
    if number < 2:
        raise InputError("--number", f"{number}", "two or more replicates; five or more for a p-value")
    study = load_study(study_file)
    raw = _with_precision(read_yaml(study_file, "a study file"), study, precisions_of(out / f"{study.name}_r1.yaml"))
    real = Manifest.read(study.manifest)
    files = []
    for k in range(1, number + 1):
        folder, path = data / f"{Path(study.manifest).name}_{study.name}_r{k}", out / f"{study.name}_r{k}.yaml"
        if not (folder / "dataset.yaml").is_file():
            resplit(real, k).write(folder)
        elif sorted((known := Manifest.read(folder)).column("digest")) != sorted(real.column("digest")):
            raise InputError(str(folder), f"{len(known)} other images than those of {study.manifest}", "a split of the same images",
                             "move it, or name another --data")
        text = yaml.safe_dump(_of(raw, study.name, k, str(folder)), sort_keys=False, width=150)
        told = f"# synthrad study run {path}\n# Replicate {k} of {number} of {study_file}: own split, own generator seed and draw.\n{text}"
        if path.is_file() and path.read_text() != told:
            raise InputError(str(path), "another file of that name", "none, or this replicate", "move it, or name another --out")
        write_durably(path, told.encode())
        files.append(path)
    return files


def _with_precision(raw: dict[str, Any], study: Study, before: Mapping[str, str]) -> dict[str, Any]:
    """The study file with a precision for every task that says auto, or nothing."""
    asked = {name: task.model_copy(update={"precision": before.get(name, "auto")}) for name, task in study.tasks.items() if task.precision == "auto"}
    found = settled(study.model_copy(update={"tasks": asked})).tasks
    return {**raw, "tasks": {name: {**said, "precision": found[name].precision} if name in found else said for name, said in raw["tasks"].items()}}


def _of(raw: dict[str, Any], name: str, k: int, manifest: str) -> dict[str, Any]:
    """The study file of one replicate."""
    sources = {}
    for source, said in raw.get("sources", {}).items():
        if said.get("generator") is None:
            sources[source] = said
            continue
        overrides = [o for o in said.get("overrides", []) if not o.startswith(SEEDING)]
        sources[source] = {**said, "overrides": [*overrides, f"{SEEDING}={k}"], "seed": said.get("seed", 0) + k}
    return {**raw, "name": f"{name}_r{k}", "manifest": manifest, "sources": sources}

"""Train on real, test on synthetic: what the reference net answers on each source's images, beside train on synthetic, test on real.

Neither drives a verdict. Cases of synthetic images lie in a file of their own (synthetic_cases.parquet), so that no test on
real images can take one for its own. The unit is the synthetic image: what makes two of them alike (one mask, one condition) is not known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from synthrad.cases import read_cases, write_cases
from synthrad.errors import InputError
from synthrad.files import write_durably
from synthrad.metrics import classification
from synthrad.records import Manifest
from synthrad.statistics.layouts import Layout, two_way
from synthrad.statistics.resampling import Draws
from synthrad.study.answers import answers_of
from synthrad.study.description import Study, digest_of
from synthrad.study.evidence_views import interval
from synthrad.study.tables import Table
from synthrad.study.verdicts import METRIC_NAMES, Endpoint

VERSION = 1  # raise by hand when results change
MOST = 500  # images of a source, drawn at random once
CASES, MARK = "synthetic_cases.parquet", "on_synthetic.json"


def identity_of(fit: str, pools: Mapping[str, str]) -> str:
    """Of the answers of a fit on these pools (their identities)."""
    return digest_of(VERSION, MOST, fit, dict(pools))


def sample_of(pool: Manifest) -> Manifest:
    """MOST rows of a pool, the same at every call; each is its own subject."""
    rows = np.sort(np.random.default_rng(0).permutation(len(pool))[:MOST])
    return pool.take(rows).with_columns({"subject": [f"image {i}" for i in rows]})


def answer(study: Study, manifest: Manifest, task_name: str, net_name: str, home: Path, arm: str, pools: Mapping[str, Manifest], identity: str) -> None:
    """Test the kept weights of every seed of a fit on samples of all pools; writes synthetic_cases.parquet a seed, and MARK.

    Args:
        home: folder of the fit. pools: source -> whole pool.
    """
    notes: list[str] = []
    samples = {source: sample_of(pool) for source, pool in pools.items()}
    for seed in range(study.seeds):
        found = _cases_of(study, manifest, task_name, net_name, home / f"seed{seed}", samples, notes)
        if found is not None:
            write_cases(home / f"seed{seed}" / CASES, found.assign(task=task_name, net=net_name, arm=arm, seed=seed))
        else:
            (home / f"seed{seed}" / CASES).unlink(missing_ok=True)
    facts = {"identity": identity, "images": {s: [len(m), len(pools[s])] for s, m in samples.items()}, "notes": list(dict.fromkeys(notes))}
    write_durably(home / MARK, json.dumps(facts, indent=1).encode())


def _cases_of(study: Study, manifest: Manifest, task_name: str, net_name: str, home: Path, samples: Mapping[str, Manifest], notes: list[str]
              ) -> pd.DataFrame | None:
    """Cases of one seed on all sources; None where no weights were kept, or no source can be answered."""
    from lightning.pytorch import Trainer

    from synthrad.callbacks import DurableCheckpointIO, newest_valid
    from synthrad.callbacks.preemption import interruptible
    from synthrad.callbacks.world_size import cluster_plugins
    from synthrad.datamodules.synthetic import SyntheticCases
    from synthrad.study.one_fit import build_task

    if (best := newest_valid(home / "checkpoints", "best")) is None:
        notes.append(f"{task_name}/{net_name}: its weights were not kept (fitted by an earlier version, or without a validation score)")
        return None
    info, task = manifest.info, study.tasks[task_name]
    net = build_task(task, net_name, SimpleNamespace(num_channels=len(info.channels), layers=dict(info.layers), classes=info.classes))
    net.load_state_dict(DurableCheckpointIO().load_checkpoint(best)["state_dict"])
    trainer = Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, use_distributed_sampler=False,
                      devices=1, plugins=cluster_plugins(), precision=task.precision, default_root_dir=home)
    found = []
    for source, rows in samples.items():
        try:
            with interruptible():
                trainer.test(net, datamodule=SyntheticCases(source, rows, tuple(task.size or study.size), tuple(study.size), task.batch_size), verbose=False)
        except InputError as e:
            notes.append(f"{task_name}/{net_name} on {source}: {e.found}; needs {e.expected}")
            continue
        found.append(net.cases)
    return pd.concat(found, ignore_index=True) if found else None


@dataclass(frozen=True)
class Level:
    """A metric of one arm on one set, mean over seeds, with its interval. value: None = not defined. n: subjects, or images of a set."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Crossed:
    """One source, task and net, and one arm without real rows.

    Args:
        on_synthetic: the reference, which learned from real images, on the source's images. arm, from_synthetic: one that
            learned from these alone, on real test images; "" and None without such an arm. on_real: the reference there.
    """

    source: str
    task: str
    net: str
    metric: str
    on_synthetic: Level
    arm: str
    from_synthetic: Level | None
    on_real: Level


def crossed(folder: Path, graph: Mapping[str, Any], cases: pd.DataFrame, end: Endpoint, seeds: int, reference: str, replacing: Mapping[str, Sequence[str]],
            fewest: Mapping[str, int]) -> tuple[list[Crossed], list[str]]:
    """Rows of every source, task and net that were answered, and what was not.

    Args:
        graph: as `study run` writes it. cases: tests on real images. replacing: source -> its arms without real rows. fewest: task -> see answers_of.
    """
    rows, notes = [], []
    for key, identity in graph.get("crossed", {}).items():
        home, (task, net, _) = folder / key, key.split("/")
        known = json.loads((home / MARK).read_text()) if (home / MARK).is_file() else {}
        if known.get("identity") != identity:
            notes.append(f"{task}/{net}: not answered for these sets: `synthrad study run {graph['study_file']}` does it")
            continue
        notes += known["notes"]
        for source, (used, of) in known["images"].items():
            notes += [f"{source}: {used} of its {of} images, drawn at random"] if used < of else []
        paths = [p for s in range(seeds) if (p := home / f"seed{s}" / CASES).is_file()]
        if len(paths) < seeds:
            continue
        real, drawn = cases[(cases["task"] == task) & (cases["net"] == net) & (cases["external"] == "")], read_cases(paths)
        metric, layer, classes = _asked(drawn, task, end)
        level = lambda part, task=task, metric=metric, layer=layer, classes=classes: _level(part, metric, layer, classes, fewest[task], end.alpha)  # noqa: E731
        for source in drawn["external"].unique():
            on_synthetic, on_real = level(drawn[drawn["external"] == source]), level(real[real["arm"] == reference])
            for arm in replacing.get(source) or [""]:
                rows.append(Crossed(source, task, net, METRIC_NAMES[metric], on_synthetic, arm, level(real[real["arm"] == arm]) if arm else None, on_real))
    return rows, list(dict.fromkeys(notes))


def _asked(drawn: pd.DataFrame, task: str, end: Endpoint) -> tuple[str, str, tuple[str, ...]]:
    """Metric, layer and classes: the endpoint's for its task, else Dice or AUROC of all."""
    if task == end.task:
        return end.metric, end.layer, tuple(end.classes)
    return ("dice" if (drawn["kind"] == "segmentation").any() else "auroc"), "", ()


def _level(rows: pd.DataFrame, metric: str, layer: str, classes: tuple[str, ...], fewest: int, alpha: float) -> Level:
    try:
        found, _ = answers_of(rows, metric, layer, classes, 400, 0, None, fewest, metric not in classification.METRICS)
    except InputError:
        return Level(None, None, None, int(rows["subject"].nunique()))
    (one,) = found.values()
    layout: Layout = one.layout() if isinstance(one, Draws) else two_way(one.to_numpy(float))
    if not np.isfinite(layout.value):
        return Level(None, None, None, layout.subjects)
    low, high = layout.interval(1 - alpha) or (None, None)
    return Level(layout.value, low if low is None else max(low, 0.0), high if high is None else min(high, 1.0), layout.subjects)


def table(rows: list[Crossed]) -> Table:
    """For the report and its files."""
    cells = lambda x: ("–", "–", None) if x is None else (x.value, interval(x.low, x.high), x.n)  # noqa: E731
    return Table("crossed", "Train on real, test on synthetic, and the other way round; mean over seeds",
                 ("source", "task", "net", "metric", "real to synthetic", "real to synthetic: interval", "images",
                  "arm without real rows", "synthetic to real", "synthetic to real: interval", "real to real", "real to real: interval"),
                 [(r.source, r.task, r.net, r.metric, *cells(r.on_synthetic), r.arm or "–", *cells(r.from_synthetic)[:2], *cells(r.on_real)[:2]) for r in rows])

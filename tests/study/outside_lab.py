"""A study whose synthetic pool is made and whose fits are not, and predictions for it."""

import csv
import json
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from tiny_set import make

from synthrad.__main__ import main
from synthrad.records import Manifest
from synthrad.study import command, jobs
from synthrad.study.planning import make_plan
from synthrad.study.settling import settled
from synthrad.study.study_file import load_study

NETS = {"draw": {"unet": {"class_path": "SmpNet"}}, "find": {"tiny": {"class_path": "TimmNet", "init_args": {"name": "test_resnet"}}}}


def write_study(folder: Path, file: str = "tiny", **changes) -> Path:
    """A study of real rows alone, matched ones and their controls; a task of either kind."""
    study = {
        "name": file, "mechanics": True, "manifest": str(folder / "real"), "size": [32, 32], "seeds": 2,
        "cells": {"classes": ["caries"]}, "sources": {"made": {"manifest": str(folder / "made")}},
        "arms": {"real_only": {"strategy": "RealOnly"}, "matched": {"strategy": "Matched", "source": "made"},
                 "nothing": {"strategy": "ClassBalanced", "args": {"cap": 1}, "source": "made"}},
        "tasks": {"draw": {"kind": "segmentation", "layers": ["tooth"], "steps": 4, "nets": NETS["draw"]},
                  "find": {"kind": "classification", "steps": 4, "nets": NETS["find"], "fewest_positive": 1}},
        "endpoint": {"task": "draw", "net": "unet", "metric": "dice"},
    }  # fmt: skip
    path = folder / f"{file}.yaml"
    path.write_text(yaml.safe_dump({**study, **changes}))
    return path


def make_lab(folder: Path) -> Path:
    """Both sets, the study file tiny.yaml, and the run folder runs/tiny with its pool and its arms; the working folder must be `folder`."""
    make(folder / "real", rows=48)
    make(folder / "made", rows=60, source="synthetic", seed=1, name="made")
    path, run = write_study(folder), folder / "runs" / "tiny"
    run.mkdir(parents=True)
    study, manifest = settled(load_study(path)), Manifest.read(folder / "real")
    graph = command._graph(study, path, manifest, make_plan(study, manifest.where(split="train", source="real")))
    (run / "graph.json").write_text(json.dumps(graph))  # as `study run` does after its checks, for which it builds every net
    (run / "study.yaml").write_text(path.read_text())
    jobs.pool(run, "made")
    jobs.arms(run)
    return path


def study(*argv) -> int:
    """Exit code of `synthrad study ...`."""
    return main(["study", *map(str, argv)])


def rows_of(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV."""
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


def pixels(path: Path) -> np.ndarray:
    """A picture as nnU-Net's reader of natural images sees it: a palette becomes colours."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB") if picture.mode == "P" else picture)

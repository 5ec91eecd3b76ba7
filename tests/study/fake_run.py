"""A fake but complete run folder: cases drawn from known effects, small drawn images, one filter log."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from synthrad.cases import CASE_COLUMNS, read_cases, write_cases
from synthrad.dataset_info import DatasetInfo
from synthrad.files import file_digest
from synthrad.manifest_table import empty_columns
from synthrad.measurements import Measurement, read_measurements, write_measurements
from synthrad.records import Manifest

CLASSES = ("caries", "implant")
STRUCTURES = ("caries", "filling")
TASK, NET, STEPS, SEEDS, SUBJECTS = "abnormality", "unet", 400, 5, 40
# arm -> (strategy, source, role, controls, rows added, true effect on Dice)
ARMS = {
    "real_only": ("RealOnly", None, "reference", [], 0, 0.0),
    "matched": ("Matched", "gan", "adding", ["matched_duplicate", "matched_augmented"], 80, 0.06),
    "matched_duplicate": ("DuplicateReal", None, "control", [], 80, 0.0),
    "matched_augmented": ("AugmentedReal", None, "control", [], 80, 0.015),
    "matched_half": ("Matched", "gan", "adding", ["half_duplicate", "half_augmented"], 40, 0.003),
    "half_duplicate": ("DuplicateReal", None, "control", [], 40, 0.0),
    "half_augmented": ("AugmentedReal", None, "control", [], 40, 0.005),
    "balanced": ("ClassBalanced", "gan", "adding", ["balanced_duplicate", "balanced_augmented"], 30, -0.08),
    "balanced_duplicate": ("DuplicateReal", None, "control", [], 30, 0.0),
    "balanced_augmented": ("AugmentedReal", None, "control", [], 30, 0.005),
    "minimal": ("MinimalBalanced", "gan", "adding", [], 0, 0.0),
}


def draw(rng: np.random.Generator, wide: int = 128, high: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A row of teeth over a jaw, with the odd filling."""
    image, mask = Image.new("L", (wide, high), 40), Image.new("L", (wide, high), 0)
    pen, mark = ImageDraw.Draw(image), ImageDraw.Draw(mask)
    pen.ellipse((4, -high, wide - 4, high - 4), fill=90)
    for x in range(14, wide - 14, 11):
        y = high * 0.45 + rng.normal(0, 2)
        pen.rounded_rectangle((x, y - 14, x + 8, y + 14), 3, fill=int(rng.integers(150, 190)))
        kind = rng.random()
        if kind < 0.25:
            box, k = (x + 2, y - 11, x + 7, y - 5), 1 if kind < 0.12 else 2
            pen.ellipse(box, fill=95 if k == 1 else 240)
            mark.ellipse(box, fill=k)
    pixels = np.asarray(image) + rng.normal(0, 7, (high, wide))
    return np.clip(pixels, 0, 255).astype(np.uint8), np.asarray(mask)


def write_images(
    folder: Path, rows: int, source: str, seed: int, copies_of: Manifest | None = None
) -> Manifest:
    """Rows of drawn images; with `copies_of` the first is a copy of its first image."""
    rng = np.random.default_rng(seed)
    info = DatasetInfo(
        source, "fake", CLASSES, {"abnormality": STRUCTURES}, roots={"here": str(folder)}, licence="CC0"
    )
    columns = empty_columns(info, rows)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for i in range(rows):
        image, mask = draw(rng)
        if copies_of is not None and i == 0:
            image = np.asarray(Image.open(copies_of[0].channels[0]))
        Image.fromarray(image).save(folder / f"images/{i}.png")
        Image.fromarray(mask).save(folder / f"masks/{i}.png")
        columns["channel:image"][i], columns["mask:abnormality"][i] = f"images/{i}.png", f"masks/{i}.png"
        columns["digest"][i] = file_digest(folder / f"images/{i}.png")
        columns["subject"][i] = f"{source}{i}"
        columns["label:caries"][i] = float((mask == 1).any())
        for k, name in enumerate(STRUCTURES, 1):
            columns[f"area:abnormality/{name}"][i] = float((mask == k).mean())
    columns["source"][:] = source
    columns["split"][:] = "train"
    if source == "real":
        columns["split"][-rows // 3 :] = "test"
    manifest = Manifest(pd.DataFrame(columns), info)
    manifest.write(folder)
    return Manifest.read(folder)


def cases_of(arm: str, seed: int, effect: float) -> pd.DataFrame:
    """Segmentation cases whose Dice moves with `effect`; subjects and seeds have effects that arms share."""
    rows = []
    for i in range(SUBJECTS):
        for c, name in enumerate(STRUCTURES):
            shared = np.random.default_rng([1, i, c]).normal(0.7, 0.08) + np.random.default_rng(
                [2, seed]
            ).normal(0, 0.01)
            own = np.random.default_rng([3, i, c, seed, list(ARMS).index(arm)]).normal(0, 0.02)
            dice, pixels = float(np.clip(shared + own + effect, 0.02, 0.98)), 400
            tp = round(pixels * dice)
            rows.append(
                dict(kind="segmentation", task=TASK, net=NET, arm=arm, seed=seed, image=f"i{i}", subject=f"s{i}", external="",
                     layer="abnormality", class_name=name, tp=tp, fp=pixels - tp, fn=pixels - tp, tn=7000,
                     probability=np.nan, target=np.nan, threshold=np.nan)
            )  # fmt: skip
    return pd.DataFrame(rows)[list(CASE_COLUMNS)]


def write_fits(run: Path) -> None:
    """The folders of all fits."""
    for arm, (*_, added, effect) in ARMS.items():
        if arm == "minimal":
            continue
        for seed in range(SEEDS):
            home = run / TASK / NET / arm / f"seed{seed}"
            table = cases_of(arm, seed, effect)
            write_cases(home / "cases.parquet", table)
            base = {"study": "fake", "task": TASK, "net": NET, "arm": arm, "seed": seed}
            rows = []
            for name, part in table.groupby("class_name"):
                dice = float((2 * part.tp / (2 * part.tp + part.fp + part.fn)).mean())
                rows.append(Measurement("dice", dice, n=SUBJECTS, class_name=str(name), **base))
            rows.insert(
                0,
                Measurement(
                    "dice", float(np.mean([r.value for r in rows])), n=SUBJECTS, class_name="macro", **base
                ),
            )
            note = "0 of 40 test subjects have it"
            rows.append(Measurement("dice", None, n=0, class_name="periapical", note=note, **base))
            write_measurements(home / "measurements.jsonl", rows)
            fit = {
                "steps": STEPS,
                "best_step": 200 + 20 * seed,
                "seconds": 30.0 + added,
                "score_val": 0.7,
                "parameters": 1000,
            }
            (home / "fit.json").write_text(json.dumps(fit))
            (home / "timing.jsonl").write_text(json.dumps({"stage": "fit", "seconds": fit["seconds"]}) + "\n")


def write_fake_run(run: Path) -> dict[str, Manifest]:
    """Write the run folder; returns its real and synthetic manifests."""
    real = write_images(run / "real", 18, "real", 0)
    synthetic = write_images(run / "sources" / "gan" / "synthetic", 8, "synthetic", 1, copies_of=real)
    log = {
        "in": 8,
        "kept": 6,
        "rejected": {"mask Dice below 0.7": 2},
        "per class": {"caries": "5 of 6", "implant": "1 of 2"},
    }
    (run / "sources" / "gan" / "filter_log.json").write_text(json.dumps([log]))
    (run / "arms").mkdir()
    for arm, (strategy, source, role, controls, added, _) in ARMS.items():
        row = {"arm": arm, "strategy": strategy, "source": source, "role": role, "controls": controls,
               "same_as": "real_only" if arm == "minimal" else None, "rows_real": 80, "rows_added": added,
               "cells": {"caries=1": added} if added else {}, "log": [f"{added} rows in 1 cell"] if source else []}  # fmt: skip
        (run / "arms" / f"{arm}.json").write_text(json.dumps(row))
    write_fits(run)
    return {"real": real, "synthetic": synthetic}


def read_fake_run(run: Path) -> dict:
    """Cases and the plain parts of ReportFacts, as a study would gather them."""
    homes = sorted((run / TASK / NET).glob("*/seed*"))
    fits = [
        {
            "task": TASK,
            "net": NET,
            "arm": h.parent.name,
            "seed": int(h.name[4:]),
            **json.loads((h / "fit.json").read_text()),
        }
        for h in homes
    ]
    return {
        "cases": read_cases([h / "cases.parquet" for h in homes]),
        "measurements": [m for h in homes for m in read_measurements(h / "measurements.jsonl")],
        "fits": fits,
        "arms": [json.loads((run / "arms" / f"{a}.json").read_text()) for a in ARMS],
        "filters": {"gan": json.loads((run / "sources" / "gan" / "filter_log.json").read_text())},
        "costs": {
            "fit the generator": 1500.0,
            "sample": 60.0,
            "score and filter": 90.0,
            "fits": sum(f["seconds"] for f in fits),
        },
    }

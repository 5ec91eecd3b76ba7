"""Time how long a generator's training waits for data, and how fast the loader alone is.

    python benchmarks/bench_loader.py                      64 and 256 px on a CPU, width and batch of the shipped configs
    python benchmarks/bench_loader.py --sizes 256 --device cuda

Phantoms are drawn into a temporary folder and decoded once. For each size a StyleGAN2 is then fitted for some steps while
Lightning's profiler counts the seconds in which it waits for the next batch, and the loader is run alone, in turns. Images held as
one tensor and images read from the memory map are both timed. Then the loader runs in turns with a plain one that opens the PNGs of
images and masks anew each time: files of the size itself, and files of twice the side that are shrunk. Appends JSON lines to
benchmarks/results/loader.jsonl and prints one line a goal.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import lightning as L
import numpy as np
import torch
import yaml
from lightning.pytorch.profilers import SimpleProfiler
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from synthrad.__main__ import main as synthrad
from synthrad.data.processes import cores
from synthrad.datamodules import generation
from synthrad.generators.gan import StyleGAN2
from synthrad.records import Manifest
from synthrad.study.report import processor

RESULTS = Path(__file__).parent / "results" / "loader.jsonl"
WAITING = "[_TrainingEpochLoop].train_dataloader_next"
HELD = generation.PRELOAD_BYTES
CONFIGS = {64: "stylegan2_64_cpu", 128: "stylegan2_128_cpu", 256: "stylegan2_256", 512: "stylegan2_512"}


def config(size: int) -> tuple[dict, int]:
    """Width and batch size of the shipped config of a size."""
    path = Path(__file__).parents[1] / "configs" / "generators" / f"{CONFIGS[size]}.yaml"
    made = yaml.safe_load(path.read_text())
    width = ("channel_base", "channel_max", "z_dim", "w_dim", "mapping_depth")
    return {k: v for k, v in made["model"]["init_args"].items() if k in width}, made["data"]["init_args"]["batch_size"]


def module(folder: Path, size: int, batch: int, held: bool) -> generation.GenerationDataModule:
    """The data, held as one tensor or read from the memory map."""
    generation.PRELOAD_BYTES = HELD if held else 0
    made = generation.GenerationDataModule(str(folder), (size, size), batch_size=batch)
    made.prepare()
    generation.PRELOAD_BYTES = HELD
    return made


def fit(data: generation.GenerationDataModule, size: int, steps: int, device: str) -> tuple[float, float]:
    """Seconds in which a fit trained, and those of them in which it waited, without its first step."""
    profiler, starts = SimpleProfiler(), []
    profiler.describe = lambda: None  # it would print a table of all hooks

    class Clock(L.Callback):
        def on_train_batch_end(self, *args: object) -> None:
            starts.append((time.monotonic(), sum(profiler.recorded_durations[WAITING])))

    trainer = L.Trainer(accelerator="gpu" if device == "cuda" else "cpu", devices=1, max_epochs=-1, logger=False, profiler=profiler,
                        callbacks=[Clock()], enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    trainer.fit(StyleGAN2(max_images=data.batch_size * (steps + 1), **config(size)[0]), data)
    if (waits := len(profiler.recorded_durations[WAITING])) < steps:
        raise RuntimeError(f"found {waits} waits under {WAITING!r} in {steps} steps; expected one a step. Repair: name the key of this "
                           f"version of Lightning: {sorted(profiler.recorded_durations)}")
    (begun, before), (ended, after) = starts[0], starts[-1]
    return ended - begun, after - before


def alone(data: generation.GenerationDataModule, batches: int) -> float:
    """Seconds for so many batches, without the first."""
    made = itertools.chain.from_iterable(itertools.repeat(data.train_dataloader()))
    next(made)
    begun = time.monotonic()
    for _ in range(batches):
        next(made)
    return time.monotonic() - begun


def measure(folder: Path, size: int, args: argparse.Namespace) -> list[dict]:
    """Lines of one size."""
    batch, lines = args.batch or config(size)[1], []
    for held in (True, False):
        data = module(folder, size, batch, held)
        waited, ratios, trained = [], [], []
        for _ in range(args.rounds):
            took, wait = fit(data, size, args.steps, args.device)
            loading = alone(data, args.batches)
            waited.append(wait / took)
            trained.append(args.steps * batch / took)
            ratios.append((args.batches * batch / loading) / trained[-1])
        middle = statistics.median
        lines.append({"bench": "loader", "size": size, "batch": batch, "held": held, "rounds": args.rounds, "steps": args.steps,
                      "share_waited": middle(waited), "share_waited_most": max(waited), "loader_over_step": middle(ratios),
                      "loader_over_step_least": min(ratios), "trained_images_a_second": middle(trained)})
    return lines


class Files(Dataset):
    """Images in [-1, 1] and structure numbers, from their PNGs each time."""

    def __init__(self, manifest: Manifest, size: int):
        self.size = (size, size)
        self.records = [(r.channels[0], [m for m in r.masks if m]) for r in manifest]

    def __len__(self) -> int:
        return len(self.records)

    def _opened(self, path: Path, method: Image.Resampling) -> torch.Tensor:
        with Image.open(path, formats=("PNG",)) as picture:
            return torch.from_numpy(np.array(picture if picture.size == self.size else picture.resize(self.size, method)))

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, masks = self.records[index]
        pixels = self._opened(image, Image.Resampling.BOX).float()[None] / 127.5 - 1
        return pixels, torch.stack([self._opened(m, Image.Resampling.NEAREST) for m in masks]).long()


def by_files(folder: Path, size: int, batch: int, workers: int) -> float:
    """Images a second of the plain loader."""
    loader = DataLoader(Files(Manifest.read(folder), size), batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0)
    made = itertools.chain.from_iterable(itertools.repeat(loader))
    for _ in range(2):
        next(made)
    begun, batches = time.monotonic(), 4 * len(loader)
    for _ in range(batches):
        next(made)
    return batches * batch / (time.monotonic() - begun)


def against_files(base: Path, size: int, args: argparse.Namespace) -> list[dict]:
    """Lines of the loader beside a plain one, for files of the size itself and of twice the side."""
    batch, lines = args.batch or config(size)[1], []
    for side in (size, 2 * size):
        folder = base / f"files_{side}"
        if synthrad(["prepare", "phantom", str(folder), "--number", str(args.files), "--size", str(side), str(side), "--fractions", "1", "0", "0", "0"]):
            raise RuntimeError("phantoms could not be drawn")
        held, mapped = (module(folder, size, batch, h) for h in (True, False))
        turns = []
        for _ in range(args.rounds):
            files = max(by_files(folder, size, batch, w) for w in {0, cores()})  # whichever is the faster
            turns.append([files, *(args.batches * batch / alone(m, args.batches) for m in (held, mapped))])
        middle = statistics.median
        lines += [{"bench": "loader_files", "size": size, "file_size": side, "batch": batch, "held": k == 1, "rounds": args.rounds,
                   "over_files": middle(t[k] / t[0] for t in turns), "over_files_least": min(t[k] / t[0] for t in turns),
                   "images_a_second": middle(t[k] for t in turns), "files_images_a_second": middle(t[0] for t in turns)} for k in (1, 2)]
    return lines


def main() -> int:
    """The command."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sizes", type=int, nargs="+", default=[64, 256], choices=list(CONFIGS))
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--steps", type=int, default=5, help="timed steps of a fit")
    p.add_argument("--batch", type=int, default=0, help="images a step; 0 = as the config has")
    p.add_argument("--batches", type=int, default=200, help="of the loader alone")
    p.add_argument("--files", type=int, default=24, help="phantoms that the plain loader reads, of each size of files")
    p.add_argument("--only-files", action="store_true", help="do not train: compare with the plain loader only")
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--dry-run", action="store_true", help="write no results")
    args = p.parse_args()
    name = torch.cuda.get_device_name() if args.device == "cuda" else processor()
    stamp = {"date": date.today().isoformat(), "device": name, "threads": torch.get_num_threads(), "cores": os.cpu_count(),
             "torch": version("torch"), "lightning": version("lightning"), "synthrad": version("synthrad")}
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        for size in args.sizes:
            lines += [{**x, **stamp} for x in against_files(Path(temporary), size, args)]
            if args.only_files:
                continue
            folder = Path(temporary) / str(size)
            if synthrad(["prepare", "phantom", str(folder), "--number", "128", "--size", str(size), str(size), "--seed", "0"]):
                return 1
            lines += [{**x, **stamp} for x in measure(folder, size, args)]
    if not args.dry_run:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        with RESULTS.open("a") as file:
            file.writelines(json.dumps(x) + "\n" for x in lines)
    for x in lines:
        name = f"loader_{x['size']}_{'held' if x['held'] else 'mapped'}"
        if x["bench"] == "loader_files":
            print(f"{name}_over_files_of_{x['file_size']} {x['over_files']:.1f} >=20 {'met' if x['over_files'] >= 20 else 'short'}")
            continue
        print(f"{name}_share_waited {x['share_waited']:.4f} <=0.01 {'met' if x['share_waited'] <= 0.01 else 'short'}")
        print(f"{name}_over_step {x['loader_over_step']:.0f} >=5 {'met' if x['loader_over_step'] >= 5 else 'short'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

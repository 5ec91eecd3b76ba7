"""Time how long a generator's training waits for data, and how fast the loader alone is.

    python benchmarks/bench_loader.py                      64 and 256 px on a CPU, width and batch of the shipped configs
    python benchmarks/bench_loader.py --sizes 256 --device cuda

Phantoms are drawn into a temporary folder and decoded once. For each size a StyleGAN2 is then fitted for some steps while
Lightning's profiler counts the seconds in which it waits for the next batch and in which that is moved to the device and converted
there, and the loader is run alone, in turns. Images held in memory and images read from the memory map are both timed. Then the loader
runs in turns with a plain one that opens the PNGs of images and masks anew each time: files of the size itself, and files of twice the
side that are shrunk. `stored` is what the loader gives a trainer, a byte a pixel; `on_cpu` or `on_cuda` is what a training step sees, float
images and int64 masks on the device, converted there. The plain loader's batches are of the latter kind, moved to the same device.
Appends JSON lines to benchmarks/results/loader.jsonl and prints one line a goal.
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
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import yaml
from lightning.pytorch.profilers import SimpleProfiler
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from synthrad.__main__ import main as synthrad
from synthrad.cases import Case
from synthrad.data.processes import cores
from synthrad.data.stored import StoredBatch, as_stored
from synthrad.datamodules import generation
from synthrad.generators.gan import StyleGAN2
from synthrad.records import Manifest
from synthrad.study.report import processor

RESULTS = Path(__file__).parent / "results" / "loader.jsonl"
WAITING = ("[_TrainingEpochLoop].train_dataloader_next", "[Strategy]SingleDeviceStrategy.batch_to_device")
HELD = generation.PRELOAD_BYTES
CONFIGS = {64: "stylegan2_64_cpu", 128: "stylegan2_128_cpu", 256: "stylegan2_256", 512: "stylegan2_512"}


def config(size: int) -> tuple[dict, int]:
    """Width and batch size of the shipped config of a size."""
    path = Path(__file__).parents[1] / "configs" / "generators" / f"{CONFIGS[size]}.yaml"
    made = yaml.safe_load(path.read_text())
    width = ("channel_base", "channel_max", "z_dim", "w_dim", "mapping_depth")
    return {k: v for k, v in made["model"]["init_args"].items() if k in width}, made["data"]["init_args"]["batch_size"]


def module(folder: Path, size: int, batch: int, held: bool) -> generation.GenerationDataModule:
    """The data, held in memory or read from the memory map."""
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
            starts.append((time.monotonic(), sum(sum(profiler.recorded_durations[w]) for w in WAITING)))

    trainer = L.Trainer(accelerator="gpu" if device == "cuda" else "cpu", devices=1, max_epochs=-1, logger=False, profiler=profiler,
                        callbacks=[Clock()], enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    trainer.fit(StyleGAN2(max_images=data.batch_size * (steps + 1), **config(size)[0]), data)
    for key in WAITING:
        if (waits := len(profiler.recorded_durations[key])) < steps:
            raise RuntimeError(f"found {waits} waits under {key!r} in {steps} steps; expected one a step. Repair: name the key of this "
                               f"version of Lightning: {sorted(profiler.recorded_durations)}")
    (begun, before), (ended, after) = starts[0], starts[-1]
    return ended - begun, after - before


def speed(loader: DataLoader, batch: int, batches: int, use: Callable[[Any], Any], device: str) -> float:
    """Images a second of so many batches after the first two, each given to `use`; epoch after epoch."""
    made = itertools.chain.from_iterable(itertools.repeat(loader))
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(2):
        use(next(made))
    wait()
    begun = time.monotonic()
    for _ in range(batches):
        use(next(made))
    wait()
    return batches * batch / (time.monotonic() - begun)


def alone(data: generation.GenerationDataModule, batches: int, device: str, seen: bool) -> float:
    """Images a second as a running trainer has them: as the loader gives them, or `seen` by a step, converted on the device."""
    loader = data.train_dataloader()
    loader.collate_fn = as_stored

    def converted(batch: StoredBatch) -> Case:
        return data.on_after_batch_transfer(data.transfer_batch_to_device(batch, torch.device(device), 0), 0)

    return speed(loader, data.batch_size, batches, converted if seen else as_stored, device)


def measure(folder: Path, size: int, args: argparse.Namespace) -> list[dict]:
    """Lines of one size."""
    batch, lines = args.batch or config(size)[1], []
    for held in (True, False):
        data = module(folder, size, batch, held)
        waited, ratios, trained = [], [], []
        for _ in range(args.rounds):
            took, wait = fit(data, size, args.steps, args.device)
            waited.append(wait / took)
            trained.append(args.steps * batch / took)
            ratios.append(alone(data, args.batches, args.device, True) / trained[-1])
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


def by_files(folder: Path, size: int, batch: int, workers: int, device: str) -> float:
    """Images a second of the plain loader, on the device."""
    loader = DataLoader(Files(Manifest.read(folder), size), batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0)
    return speed(loader, batch, 4 * len(loader), lambda pair: [x.to(device) for x in pair], device)


def against_files(base: Path, size: int, args: argparse.Namespace) -> list[dict]:
    """Lines of the loader beside a plain one, for files of the size itself and of twice the side."""
    batch, lines = args.batch or config(size)[1], []
    for side in (size, 2 * size):
        folder = base / f"files_{side}"
        number = str(max(args.files, batch))
        if synthrad(["prepare", "phantom", str(folder), "--number", number, "--size", str(side), str(side), "--fractions", "1", "0", "0", "0"]):
            raise RuntimeError("phantoms could not be drawn")
        kinds = [(held, seen) for held in (True, False) for seen in (False, True)]
        data, turns = {h: module(folder, size, batch, h) for h in (True, False)}, []
        for _ in range(args.rounds):
            files = max(by_files(folder, size, batch, w, args.device) for w in {0, cores()})  # whichever is the faster
            turns.append([files, *(alone(data[held], args.batches, args.device, seen) for held, seen in kinds)])
        middle = statistics.median
        lines += [{"bench": "loader_files", "size": size, "file_size": side, "batch": batch, "held": held, "rounds": args.rounds,
                   "as": f"on_{args.device}" if seen else "stored",
                   "over_files": middle(t[k] / t[0] for t in turns), "over_files_least": min(t[k] / t[0] for t in turns),
                   "images_a_second": middle(t[k] for t in turns), "files_images_a_second": middle(t[0] for t in turns)}
                  for k, (held, seen) in enumerate(kinds, 1)]
    return lines


def main() -> int:
    """The command."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sizes", type=int, nargs="+", default=[64, 256], choices=list(CONFIGS))
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--steps", type=int, default=5, help="timed steps of a fit")
    p.add_argument("--batch", type=int, default=0, help="images a step; 0 = as the config has")
    p.add_argument("--batches", type=int, default=200, help="of the loader alone")
    p.add_argument("--files", type=int, default=24, help="phantoms that the plain loader reads, of each size of files; a batch at least")
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
            print(f"{name}_{x['as']}_over_files_of_{x['file_size']} {x['over_files']:.1f} >=20 {'met' if x['over_files'] >= 20 else 'short'}")
            continue
        print(f"{name}_share_waited {x['share_waited']:.4f} <=0.01 {'met' if x['share_waited'] <= 0.01 else 'short'}")
        print(f"{name}_over_step {x['loader_over_step']:.0f} >=5 {'met' if x['loader_over_step'] >= 5 else 'short'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Time downstream fits: probes whose features are kept against probes that compute them, and our training step against a bare PyTorch loop.

    python benchmarks/bench_tasks.py features              vit_small_patch16_224 of timm, random weights, 224 px, on a CPU
    python benchmarks/bench_tasks.py features --net vit_large_patch14_dinov2 --size 518 518 --device cuda
    python benchmarks/bench_tasks.py overhead              smp Unet/resnet34 and timm resnet50 at 256 px, and nets with nothing to compute
    python benchmarks/bench_tasks.py precision             bf16-mixed against 32-true, both with channels last, for the same nets; scores at 64 px

Phantoms are drawn into a temporary folder and decoded once. `features`: the arm RealOnly computes what is kept; then an arm with every row twice is fitted
and tested with kept and with computed features, in turns, every time with another seed. `overhead`: steps of a task
under Lightning, with the callbacks and loggers of a fit, and of a plain loop over the same batches with the same net, loss and optimizer, in blocks by turns inside
one process. On a CPU the goals are of the seconds that the process computed, which other processes do not lengthen; both are kept.
Appends JSON lines to benchmarks/results/tasks.jsonl, prints one line a goal.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

import lightning as L
import pandas as pd
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn

from synthrad.__main__ import main as synthrad
from synthrad.callbacks import DurableCheckpoint, DurableCheckpointIO, ImageProgress, Preemption, RandomState
from synthrad.cases import read_cases
from synthrad.datamodules.fusion import FusionDataModule
from synthrad.fusion import Cells, DuplicateReal, Matched, RealOnly
from synthrad.nets import SmpNet, TimmNet, TunedClassifier
from synthrad.study.fitting import fit_and_test
from synthrad.study.report import processor
from synthrad.tasks import ClassificationTask, SegmentationTask

RESULTS = Path(__file__).parent / "results" / "tasks.jsonl"


def probe_fit(folder: Path, run: Path, fusion: object, seed: int, keep: bool, args: argparse.Namespace) -> tuple[float, torch.Tensor]:
    """Seconds of a fit and its test, from building the net on, and the test's probabilities."""
    begun = time.monotonic()
    data = FusionDataModule(str(folder), fusion=fusion, size=tuple(args.size), batch_size=args.batch, seed=seed, steps=args.steps, views=0, keep_features=keep)
    torch.manual_seed(0)  # the same backbone throughout
    task = ClassificationTask(TunedClassifier(args.net, num_classes=data.num_classes), list(data.classes), lr=1e-3, pictures=0)
    fit_and_test(task, data, run, args.steps, max(1, args.steps // 4), seed, {"task": "t", "net": "n", "arm": "a"}, "one", keep_checkpoint=False,
                 accelerator="gpu" if args.device == "cuda" else "cpu")
    return time.monotonic() - begun, torch.tensor(read_cases([run / "cases.parquet"])["probability"].to_numpy())


def features(folder: Path, args: argparse.Namespace) -> Iterator[dict]:
    """A line: seconds of the first arm, and of a later one with kept and with computed features."""
    first, _ = probe_fit(folder, folder / "first", RealOnly(), 0, True, args)
    kept, computed, apart = [], [], 0.0
    for seed in range(args.rounds):
        twice = DuplicateReal(like=Matched(cells=Cells(classes=())))
        pair = [probe_fit(folder, folder / f"{keep}{seed}", twice, seed, keep, args) for keep in ((True, False) if seed % 2 else (False, True))]
        if not seed % 2:
            pair.reverse()
        kept.append(pair[0][0])
        computed.append(pair[1][0])
        apart = max(apart, float((pair[0][1] - pair[1][1]).abs().max()))
    yield {"bench": "features", "net": args.net, "size": list(args.size), "batch": args.batch, "steps": args.steps, "rounds": args.rounds,
             "images": args.number, "first_seconds": first, "kept_seconds": statistics.median(kept), "computed_seconds": statistics.median(computed),
             "times_faster": statistics.median(c / k for c, k in zip(computed, kept, strict=True)),
             "times_faster_least": min(c / k for c, k in zip(computed, kept, strict=True)), "probabilities_apart": apart}


def task_of(kind: str, data: FusionDataModule) -> L.LightningModule:
    """The task that is timed, of the same weights every time; tiny nets have next to nothing to compute."""
    torch.manual_seed(0)
    layers, outputs = {k: list(v) for k, v in data.layers.items()}, sum(1 + len(s) for s in data.layers.values())
    if kind == "unet_resnet34":
        return SegmentationTask(SmpNet("Unet", "resnet34", out_channels=outputs), layers=layers, pictures=0)
    if kind == "tiny_segmentation":
        return SegmentationTask(nn.Conv2d(data.num_channels, outputs, 1), layers=layers, pictures=0)
    if kind == "tiny_classification":
        return ClassificationTask(nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, data.num_classes)), list(data.classes), pictures=0)
    return ClassificationTask(TimmNet("resnet50", num_classes=data.num_classes), list(data.classes), pictures=0)


class Turns(L.Callback):
    """After every `block` steps of a fit, as many of a bare loop, and what each took; the first step of a block, which finds the other loop's data in the
    caches, is not counted.

    Args:
        bare: a step at each `next`.
    """

    def __init__(self, bare: Iterator[None], block: int, device: str):
        self.bare, self.block, self.device = bare, block, device
        self.seconds: dict[str, list[list[float]]] = {"task": [], "bare": []}  # of the steps of each block
        self.cpu_seconds: dict[str, list[float]] = {"task": [], "bare": []}  # of this process, mean over the steps of each block
        self._ends: list[tuple[float, float]] = []

    def _end(self, name: str) -> bool:
        """Note the end of a step; whether the block is over."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        self._ends.append((time.perf_counter(), time.process_time()))
        if len(self._ends) < self.block:
            return False
        (at, cpu), *_, (_, last) = self._ends
        self.seconds[name].append([b[0] - a[0] for a, b in zip(self._ends, self._ends[1:], strict=False)])
        self.cpu_seconds[name].append((last - cpu) / (self.block - 1))
        self._ends = []
        return True

    def compared(self) -> dict[str, float]:
        """Without the first blocks: median seconds of a step, and seconds of computing a step: the middle of the blocks' ratios and differences."""
        seconds = {k: statistics.median(s for block in blocks[1:] for s in block) for k, blocks in self.seconds.items()}
        task, bare = (self.cpu_seconds[k][1:] for k in ("task", "bare"))
        return {"task_seconds": seconds["task"], "bare_seconds": seconds["bare"], "ratio": seconds["task"] / seconds["bare"],
                "more_ms": 1000 * (seconds["task"] - seconds["bare"]), "task_cpu_seconds": statistics.mean(task), "bare_cpu_seconds": statistics.mean(bare),
                "cpu_ratio": statistics.median(t / b for t, b in zip(task, bare, strict=True)),
                "more_cpu_ms": 1000 * statistics.mean(t - b for t, b in zip(task, bare, strict=True))}

    def on_train_batch_end(self, *unused: object) -> None:
        """A step of the fit has ended."""
        if self._end("task"):
            while not (next(self.bare), self._end("bare"))[1]:
                pass


def under_lightning(task: L.LightningModule, data: FusionDataModule, steps: int, device: str, folder: Path, more: L.Callback, precision: str = "32-true") -> None:
    """Steps with the callbacks and loggers that `fit_and_test` gives a fit."""
    trainer = L.Trainer(accelerator="gpu" if device == "cuda" else "cpu", devices=1, max_steps=steps, max_epochs=-1, precision=precision, limit_val_batches=0,
                        num_sanity_val_steps=0, log_every_n_steps=20, enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
                        default_root_dir=folder, logger=[TensorBoardLogger(folder, name="", version=""), CSVLogger(folder, name="", version="")],
                        callbacks=[RandomState(), Preemption(), ImageProgress("", every_seconds=3600), more,
                                   DurableCheckpoint(folder / "checkpoints", every_seconds=3600, save_final=False)], plugins=[DurableCheckpointIO()])
    trainer.fit(task, data)


def bare_loop(task: L.LightningModule, data: FusionDataModule, steps: int, device: str) -> Iterator[None]:
    """The same without Lightning and without our task's steps: net, loss, AdamW, a rising rate."""
    net, target = task.net.to(device).train(), (lambda b: b.masks) if isinstance(task, SegmentationTask) else (lambda b: b.labels)
    task.to(device)
    loss: Callable = (lambda x, t: task.loss(x.split(task.sizes, dim=1), t)) if isinstance(task, SegmentationTask) else task.loss
    optimizer = torch.optim.AdamW(net.parameters(), lr=task.lr, weight_decay=task.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / steps))
    data.setup("fit")
    batches = iter(data.train_dataloader())
    for _ in range(steps):
        batch = next(batches)
        image = batch.image.to(device).contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        loss(net(image), target(batch).to(device)).backward()
        optimizer.step()
        schedule.step()
        yield


def overhead(folder: Path, args: argparse.Namespace) -> Iterator[dict]:
    """A line a net: seconds of a step under Lightning and bare, in blocks by turns; the first block of each warms up."""
    for kind in args.kinds or ("tiny_segmentation", "tiny_classification", "unet_resnet34", "resnet50"):
        tiny = kind.startswith("tiny")
        size, batch, block, blocks = ([32, 32], 4, 20, 20 * args.rounds) if tiny else (args.size, args.batch, args.steps, args.rounds)
        steps = block * (blocks + 1)
        made = [FusionDataModule(str(folder), fusion=RealOnly(), size=tuple(size), batch_size=batch, seed=0, steps=steps + 1) for _ in range(2)]
        turns = Turns(bare_loop(task_of(kind, made[1]), made[1], steps, args.device), block, args.device)
        under_lightning(task_of(kind, made[0]), made[0], steps, args.device, folder / f"run_{kind}", turns)
        yield {"bench": "overhead", "net": kind, "size": list(size), "batch": batch, "block": block, "blocks": blocks, "computes_on": args.device, **turns.compared()}


class Clock(L.Callback):
    """Seconds of each step of a fit but the first three, which warm up, and seconds of computing a step."""

    def __init__(self, device: str):
        self.device, self.ends = device, []

    def on_train_batch_end(self, *unused: object) -> None:
        """A step has ended."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.ends.append((time.perf_counter(), time.process_time()))

    def seconds(self) -> tuple[list[float], float]:
        """Of each step; of computing, mean."""
        ends = self.ends[2:]
        return [b[0] - a[0] for a, b in zip(ends, ends[1:], strict=False)], (ends[-1][1] - ends[0][1]) / (len(ends) - 1)


def precision(folder: Path, args: argparse.Namespace) -> Iterator[dict]:
    """A line a net: seconds of a step in bf16-mixed and in 32-true, fits of a few steps by turns; then the test scores of short fits of a task of each kind."""
    for kind in args.kinds or ("unet_resnet34", "resnet50", "tiny_segmentation"):
        size, batch = ([32, 32], 4) if kind.startswith("tiny") else (args.size, args.batch)
        seconds, cpu = ({how: [] for how in ("32-true", "bf16-mixed")} for _ in range(2))
        for turn in range(args.rounds):
            for how in list(seconds)[:: 1 if turn % 2 else -1]:
                data = FusionDataModule(str(folder), fusion=RealOnly(), size=tuple(size), batch_size=batch, seed=0, steps=args.steps + 4)
                clock = Clock(args.device)
                under_lightning(task_of(kind, data), data, args.steps + 3, args.device, folder / f"run_{kind}", clock, how)
                one, mean = clock.seconds()
                seconds[how] += one
                cpu[how].append(mean)
        full, low = (statistics.median(seconds[how]) for how in seconds)
        yield {"bench": "precision", "net": kind, "size": list(size), "batch": batch, "steps": args.steps, "rounds": args.rounds, "computes_on": args.device,
               "float32_seconds": full, "bf16_seconds": low, "ratio": low / full, "float32_cpu_seconds": statistics.mean(cpu["32-true"]),
               "bf16_cpu_seconds": statistics.mean(cpu["bf16-mixed"]),
               "cpu_ratio": statistics.median(b / a for a, b in zip(*cpu.values(), strict=True))}
    for kind in ("segmentation", "classification"):
        yield scores(folder, kind, args)


def scores(folder: Path, kind: str, args: argparse.Namespace) -> dict:
    """The line of a task of 64 px: test scores of fits that differ in their seed alone, in either precision."""
    found: dict[str, list[float]] = {"32-true": [], "bf16-mixed": []}
    for seed in range(args.seeds):
        for how, values in found.items():
            data = FusionDataModule(str(folder), fusion=RealOnly(), size=(64, 64), batch_size=8, seed=seed, steps=args.score_steps)
            torch.manual_seed(seed)
            if kind == "segmentation":
                layer = {"tooth": list(data.layers["tooth"])}
                task = SegmentationTask(SmpNet("Unet", "resnet18", out_channels=2), layers=layer, lr=1e-3, pictures=0)
            else:
                task = ClassificationTask(TimmNet("resnet18", num_classes=data.num_classes), list(data.classes), lr=1e-3, pictures=0)
            fit_and_test(task, data, folder / f"score_{kind}_{how}_{seed}", args.score_steps, args.score_steps // 4, seed, {}, "one", precision=how,
                         keep_checkpoint=False, accelerator="gpu" if args.device == "cuda" else "cpu")
            cases = task.cases
            values.append(2 * cases["tp"].sum() / (2 * cases["tp"] + cases["fp"] + cases["fn"]).sum() if kind == "segmentation" else brier(cases))
    apart = statistics.mean(found["bf16-mixed"]) - statistics.mean(found["32-true"])
    noise = statistics.pstdev(found["32-true"]) if args.seeds < 2 else statistics.stdev(found["32-true"])
    return {"bench": "precision_score", "task": kind, "metric": "dice" if kind == "segmentation" else "brier score", "size": [64, 64], "steps": args.score_steps,
            "seeds": args.seeds, "float32": found["32-true"], "bf16": found["bf16-mixed"], "apart": apart, "seed_sd": noise, "apart_in_seed_sd": abs(apart) / max(noise, 1e-9)}


def brier(cases: pd.DataFrame) -> float:
    """Mean squared distance of probabilities from the known labels: defined in the smallest test set, and sees every change of a probability."""
    known = cases[cases["target"].notna()]
    return float(((known["probability"] - known["target"]) ** 2).mean())


def goals(line: dict) -> list[tuple[str, float, str, bool]]:
    """Name, value, goal and whether it is met, of each goal of a line."""
    if line["bench"] == "features":
        return [(f"features_{line['net']}_times_faster", line["times_faster"], ">=20", line["times_faster"] >= 20)]
    if line["bench"] == "precision":
        value = line["cpu_ratio" if line["computes_on"] == "cpu" else "ratio"]
        return [(f"precision_{line['net']}_ratio", value, "<=0.55", value <= 0.55)]
    if line["bench"] == "precision_score":
        return [(f"precision_{line['task']}_apart_in_seed_sd", line["apart_in_seed_sd"], "<=1", line["apart_in_seed_sd"] <= 1)]
    tiny, cpu = line["net"].startswith("tiny"), "cpu_" if line["computes_on"] == "cpu" else ""  # what Lightning adds is lost among the seconds of a large net
    value, name, most = (line[f"more_{cpu}ms"], f"{cpu}ms", 1) if tiny else (line[f"{cpu}ratio"], f"{cpu}ratio", 1.02)
    return [(f"overhead_{line['net']}_{name}", value, f"<={most}", value <= most)]


def main() -> int:
    """The command."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("phase", choices=["features", "overhead", "precision"])
    p.add_argument("--net", default="vit_small_patch16_224", help="of timm; features")
    p.add_argument("--size", type=int, nargs=2, default=None, help="default: 224 224 (features), 256 256 (overhead, precision)")
    p.add_argument("--number", type=int, default=120, help="phantoms")
    p.add_argument("--kinds", nargs="+", help="nets of overhead and precision; default: all")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=0, help="default: 80 (features), 6 a turn (overhead, precision)")
    p.add_argument("--seeds", type=int, default=3, help="of each precision's scores")
    p.add_argument("--score-steps", type=int, default=80, help="of their fits")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--dry-run", action="store_true", help="write no results")
    args = p.parse_args()
    args.size = args.size or ([224, 224] if args.phase == "features" else [256, 256])
    args.steps = args.steps or (80 if args.phase == "features" else 6)
    warnings.filterwarnings("ignore")
    name = torch.cuda.get_device_name() if args.device == "cuda" else processor()
    stamp = {"date": date.today().isoformat(), "device": name, "threads": torch.get_num_threads(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1),
             "torch": version("torch"), "timm": version("timm"), "lightning": version("lightning"), "synthrad": version("synthrad")}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "phantoms"
        if synthrad(["prepare", "phantom", str(folder), "--number", str(args.number), "--size", *map(str, args.size), "--seed", "0"]):
            return 1
        for line in {"features": features, "overhead": overhead, "precision": precision}[args.phase](folder, args):
            if not args.dry_run:  # one by one: a long run that is stopped keeps what it measured
                RESULTS.parent.mkdir(parents=True, exist_ok=True)
                with RESULTS.open("a") as file:
                    file.write(json.dumps({**line, **stamp}) + "\n")
            for name, value, goal, met in goals(line):
                print(f"{name} {value:.3f} {goal} {'met' if met else 'short'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

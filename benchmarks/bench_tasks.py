"""Time downstream fits: probes whose features are kept against probes that compute them, and our training step against a bare PyTorch loop.

    python benchmarks/bench_tasks.py features              vit_small_patch16_224 of timm, random weights, 224 px, on a CPU
    python benchmarks/bench_tasks.py features --net vit_large_patch14_dinov2 --size 518 518 --device cuda
    python benchmarks/bench_tasks.py overhead              smp Unet/resnet34 and timm resnet50 at 256 px

Phantoms are drawn into a temporary folder and decoded once. `features`: the arm RealOnly computes what is kept; then an arm with every row twice is fitted
and tested with kept and with computed features, in turns, every time with another seed. `overhead`: steps of a task under Lightning and of a plain loop
over the same batches with the same net, loss and optimizer, in turns. Appends JSON lines to benchmarks/results/tasks.jsonl, prints one line a goal.
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
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

import lightning as L
import torch

from synthrad.__main__ import main as synthrad
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


def features(folder: Path, args: argparse.Namespace) -> list[dict]:
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
    return [{"bench": "features", "net": args.net, "size": list(args.size), "batch": args.batch, "steps": args.steps, "rounds": args.rounds,
             "images": args.number, "first_seconds": first, "kept_seconds": statistics.median(kept), "computed_seconds": statistics.median(computed),
             "times_faster": statistics.median(c / k for c, k in zip(computed, kept, strict=True)),
             "times_faster_least": min(c / k for c, k in zip(computed, kept, strict=True)), "probabilities_apart": apart}]


def task_of(kind: str, data: FusionDataModule) -> L.LightningModule:
    """The task that is timed, of the same weights every time."""
    torch.manual_seed(0)
    if kind == "unet_resnet34":
        return SegmentationTask(SmpNet("Unet", "resnet34", out_channels=sum(1 + len(s) for s in data.layers.values())),
                                layers={k: list(v) for k, v in data.layers.items()}, pictures=0)
    return ClassificationTask(TimmNet("resnet50", num_classes=data.num_classes), list(data.classes), pictures=0)


def under_lightning(task: L.LightningModule, data: FusionDataModule, steps: int, device: str) -> list[float]:
    """Seconds of each step from batch to batch, without the first three."""
    ends: list[float] = []

    class Clock(L.Callback):
        def on_train_batch_end(self, *unused: object) -> None:
            if device == "cuda":
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    trainer = L.Trainer(accelerator="gpu" if device == "cuda" else "cpu", devices=1, max_steps=steps + 4, max_epochs=-1, logger=False, callbacks=[Clock()],
                        limit_val_batches=0, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    trainer.fit(task, data)
    return [b - a for a, b in zip(ends[3:], ends[4:], strict=False)]


def bare_loop(task: L.LightningModule, data: FusionDataModule, steps: int, device: str) -> list[float]:
    """The same without Lightning and without our task's steps: net, loss, AdamW, warm-up and cosine."""
    net, target = task.net.to(device).train(), (lambda b: b.masks) if isinstance(task, SegmentationTask) else (lambda b: b.labels)
    task.to(device)
    loss: Callable = (lambda x, t: task.loss(x.split(task.sizes, dim=1), t)) if isinstance(task, SegmentationTask) else task.loss
    optimizer = torch.optim.AdamW(net.parameters(), lr=task.lr, weight_decay=task.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / steps))
    data.setup("fit")
    batches, ends = iter(data.train_dataloader()), []
    for _ in range(steps + 4):
        batch = next(batches)
        image = batch.image.to(device).contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        loss(net(image), target(batch).to(device)).backward()
        optimizer.step()
        schedule.step()
        if device == "cuda":
            torch.cuda.synchronize()
        ends.append(time.perf_counter())
    return [b - a for a, b in zip(ends[3:], ends[4:], strict=False)]


def overhead(folder: Path, args: argparse.Namespace) -> list[dict]:
    """A line a net: median seconds of a step under Lightning and bare."""
    lines = []
    for kind in ("unet_resnet34", "resnet50"):
        seconds: dict[str, list[float]] = {"task": [], "bare": []}
        for turn in range(2 * args.rounds):
            data = FusionDataModule(str(folder), fusion=RealOnly(), size=tuple(args.size), batch_size=args.batch, seed=0, steps=args.steps + 8)
            how, run = ("task", under_lightning) if turn % 4 in (0, 3) else ("bare", bare_loop)
            seconds[how] += run(task_of(kind, data), data, args.steps, args.device)
        task, bare = (statistics.median(seconds[k]) for k in ("task", "bare"))
        lines.append({"bench": "overhead", "net": kind, "size": list(args.size), "batch": args.batch, "steps": args.steps, "rounds": args.rounds,
                      "task_seconds": task, "bare_seconds": bare, "ratio": task / bare, "more_ms": 1000 * (task - bare)})
    return lines


def goals(line: dict) -> list[tuple[str, float, str, bool]]:
    """Name, value, goal and whether it is met, of each goal of a line."""
    if line["bench"] == "features":
        return [(f"features_{line['net']}_times_faster", line["times_faster"], ">=20", line["times_faster"] >= 20)]
    return [(f"overhead_{line['net']}_ratio", line["ratio"], "<=1.02", line["ratio"] <= 1.02), (f"overhead_{line['net']}_ms", line["more_ms"], "<=1", line["more_ms"] <= 1)]


def main() -> int:
    """The command."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("phase", choices=["features", "overhead"])
    p.add_argument("--net", default="vit_small_patch16_224", help="of timm; features")
    p.add_argument("--size", type=int, nargs=2, default=None, help="default: 224 224 (features), 256 256 (overhead)")
    p.add_argument("--number", type=int, default=120, help="phantoms")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=0, help="default: 80 (features), 10 a turn (overhead)")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--dry-run", action="store_true", help="write no results")
    args = p.parse_args()
    args.size = args.size or ([224, 224] if args.phase == "features" else [256, 256])
    args.steps = args.steps or (80 if args.phase == "features" else 10)
    warnings.filterwarnings("ignore")
    name = torch.cuda.get_device_name() if args.device == "cuda" else processor()
    stamp = {"date": date.today().isoformat(), "device": name, "threads": torch.get_num_threads(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1),
             "torch": version("torch"), "timm": version("timm"), "lightning": version("lightning"), "synthrad": version("synthrad")}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "phantoms"
        if synthrad(["prepare", "phantom", str(folder), "--number", str(args.number), "--size", *map(str, args.size), "--seed", "0"]):
            return 1
        lines = [{**x, **stamp} for x in (features if args.phase == "features" else overhead)(folder, args)]
    if not args.dry_run:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        with RESULTS.open("a") as file:
            file.writelines(json.dumps(x) + "\n" for x in lines)
    for line in lines:
        for name, value, goal, met in goals(line):
            print(f"{name} {value:.3f} {goal} {'met' if met else 'short'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

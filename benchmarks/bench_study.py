"""Time what a study costs beside its fits, and what our callbacks cost beside a bare loop.

    python benchmarks/bench_study.py                       all phases, on phantoms: about 25 minutes on 2 calm CPU cores
    python benchmarks/bench_study.py --phases recheck callbacks

    overhead    a study of 4 arms over one generator and one synthetic set, one job at a time: its wall time and CPU time over the sum of
                its fits, draws and tests, each job allowed one bare import of the modules that it needs (timed in the same run, in between)
    cores       the same study with --cores 2 over --cores 1: two jobs side by side, threads divided
    recheck     seconds of `study run` on a finished study of 200 fits
    callbacks   time inside the hooks of our callbacks a step (Lightning's profiler), over a step of a bare loop; CPU seconds a step with the callbacks of study.fitting over those of Lightning alone and of a bare loop, one thread, in turns
    ddp         images a second of two gloo processes over twice those of one, a thread each

Appends JSON lines to benchmarks/results/study.jsonl and prints one line a goal.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from synthrad.study.report import processor

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "study.jsonl"
EVERY_STEP = re.compile(r"batch|step|backward|zero_grad")
PHASES = ("overhead", "cores", "recheck", "callbacks", "ddp")
IMPORTS = {"generator": ("synthrad.study.jobs", "synthrad.cli", "synthrad.generators.gan", "synthrad.datamodules.generation", "synthrad.callbacks.fidelity"),
           "pool": ("synthrad.study.jobs", "synthrad.sampling.from_checkpoint", "synthrad.generators.gan"), "arms": ("synthrad.study.jobs",),
           "crossed": ("synthrad.study.crossed", "synthrad.study.one_fit", "synthrad.tasks", "timm"), "fit": ("synthrad.study.one_fit", "synthrad.study.fitting", "synthrad.datamodules.fusion", "synthrad.tasks", "timm"),
           "report": ("synthrad.study.jobs", "synthrad.study.board", "synthrad.study.gathering", "synthrad.study.report", "synthrad.study.summary")}
GENERATOR = "configs/generators/stylegan2_phantom_cpu.yaml"


def shell(*call: str, cwd: Path | None = None, **more: str) -> float:
    """Wall seconds of a command that must succeed."""
    begun = time.monotonic()
    done = subprocess.run(call, cwd=cwd, env={**os.environ, **more}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(call)}: code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.monotonic() - begun


def synthrad(*argv: str, cwd: Path) -> float:
    """Wall seconds of a command line of synthrad."""
    return shell(sys.executable, "-m", "synthrad", *argv, cwd=cwd)


def study_file(lab: Path, name: str, steps: int, images: int) -> Path:
    """Four arms (the two controls among them) on one source, one seed."""
    said = {"name": name, "mechanics": True, "manifest": "real", "size": [32, 64], "seeds": 1, "cells": {"classes": ["caries", "deep_caries"]},
            "sources": {"gan": {"generator": str(ROOT / GENERATOR), "overrides": [f"--model.max_images={images}"]}},
            "arms": {"real_only": {"strategy": "RealOnly"}, "matched": {"strategy": "Matched", "source": "gan"}},
            "tasks": {"findings": {"kind": "classification", "classes": ["caries"], "steps": steps, "batch_size": 16, "validations": 3,
                                   "nets": {"resnet18": {"class_path": "TimmNet"}}}},
            "endpoint": {"task": "findings", "net": "resnet18", "metric": "auroc", "classes": ["caries"]}}
    path = lab / f"{name}.yaml"
    path.write_text(yaml.safe_dump(said))
    return path


def imports(kind: str) -> tuple[float, float]:
    """Wall and CPU seconds of one bare import of the modules that a kind of job needs."""
    code = f"import {', '.join(IMPORTS[kind])}; import resource; r = resource.getrusage(resource.RUSAGE_SELF); print(r.ru_utime + r.ru_stime)"
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return time.monotonic() - begun, float(done.stdout)


def work_of(run: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of unavoidable work, and CPU seconds, of each job, imports included.

    A generator's are those of its `synthrad fit`; those of a pool its drawing; those of a downstream fit its training and its test.
    """
    logs = {(x := json.loads(p.read_text()))["job"]: x for p in (run / "logs").glob("*.json")}
    wall = {}
    for job in logs:
        kind, _, name = job.partition(" ")
        if kind == "generator":
            wall[job] = json.loads((run / "sources" / name / "generator.json").read_text())["seconds"]
        elif kind == "pool":
            wall[job] = json.loads((run / "sources" / name / "pool.json").read_text())["drawing_seconds"]
        elif kind == "fit":
            wall[job] = sum(json.loads(line)["seconds"] for p in (run / name).glob("seed*/timing.jsonl") for line in p.read_text().splitlines())
    return wall, {job: x["cpu_seconds"] for job, x in logs.items()}


def overhead(lab: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """One line: what is left of a study's wall time and CPU time without its work and one bare import a job."""
    before = {kind: imports(kind) for kind in IMPORTS}
    took = synthrad("study", "run", str(study_file(lab, "overhead", args.steps, args.images)), "--cores", "1", cwd=lab)
    after = {kind: imports(kind) for kind in IMPORTS}
    wall, cpu = work_of(lab / "runs" / "overhead")
    bare = [sum((before[job.split()[0]][k] + after[job.split()[0]][k]) / 2 for job in cpu) for k in (0, 1)]
    whole, work = took - bare[0], sum(wall.values())
    return [{"phase": "overhead", "jobs": len(cpu), "wall_seconds": took, "work_seconds": work, "bare_import_seconds": bare[0], "wall_over_work": whole / work,
             "cpu_seconds": sum(cpu.values()), "bare_import_cpu_seconds": bare[1],
             "cpu_over_fits_and_draws": (sum(cpu.values()) - bare[1]) / sum(cpu[j] - (before[j.split()[0]][1] + after[j.split()[0]][1]) / 2 for j in wall)}]


def cores(lab: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """One line: two jobs side by side on two cores, over one at a time; the generator and its set are done already."""
    took = {}
    for number in (1, 2):
        path = study_file(lab, f"cores{number}", args.steps, args.images)
        synthrad("study", "run", str(path), "--cores", "1", cwd=lab)
        for done in (lab / "runs" / path.stem / "findings").rglob("*"):
            if done.is_file():
                done.unlink()
        fits = len(list((lab / "runs" / path.stem).glob("findings/**/done.json")))
        assert not fits, f"{fits} fits are still there: the second run would measure nothing"
        took[number] = synthrad("study", "run", str(path), "--cores", str(number), cwd=lab)
    return [{"phase": "cores", "one_seconds": took[1], "two_seconds": took[2], "two_over_one": took[2] / took[1]}]


STUB = """#!{python}
import json, sys
from pathlib import Path
job, what = sys.argv[3], sys.argv[4:]
graph = json.loads(Path("graph.json").read_text())
if job == "fit":
    home, ids = Path(what[0]), graph["fits"][what[0]]
    rows = [{{"seed": s, "identity": ids["identity"]}} for s in range(ids["seeds"])]
    for row in rows:
        (home / f"seed{{row['seed']}}").mkdir(parents=True, exist_ok=True)
        (home / f"seed{{row['seed']}}" / "cases.parquet").touch()
        (home / f"seed{{row['seed']}}" / "fit.json").write_text(json.dumps(row))
    (home / "done.json").write_text(json.dumps(rows))
elif job == "crossed":
    (Path(what[0]) / "on_synthetic.json").write_text(json.dumps({{"identity": graph["crossed"][what[0]], "images": {{}}, "notes": []}}))
else:
    path = Path({{"pool": f"sources/{{what[0] if what else ''}}/pool.json", "arms": "arms.json", "report": "report.html"}}[job])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[]")
"""


def recheck(lab: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """One line: `study run` on a finished study of 200 fits, whose jobs a stub has done under Snakemake."""
    import pandas as pd

    from synthrad.records import Manifest

    real = Manifest.read(lab / "real")
    drawn = real.where(split="train")
    Manifest(pd.concat([drawn.table.assign(source="synthetic", subject="s-" + drawn.table["subject"].astype(str))]), drawn.info).write(lab / "made")
    path = study_file(lab, "recheck", args.steps, args.images)
    said = yaml.safe_load(path.read_text())
    task = said["tasks"]["findings"]
    said["sources"] = {"gan": {"manifest": "made"}}
    said["tasks"] = {f"t{k}": task for k in range(args.jobs // 4)}
    said["endpoint"]["task"] = "t0"
    path.write_text(yaml.safe_dump(said))
    stub, run = lab / "stub", lab / "runs" / "recheck"
    stub.write_text(STUB.format(python=sys.executable))
    stub.chmod(0o755)
    graph = f"from synthrad.study.command import _write_graph; from synthrad.study.study_file import load_study; from pathlib import Path; _write_graph(load_study({str(path)!r}), Path({str(path)!r}), Path({str(run)!r}))"
    run.mkdir(parents=True)
    shell(sys.executable, "-c", graph, cwd=lab)
    argv = ["--snakefile", str(ROOT / "synthrad" / "study" / "Snakefile"), "--directory", str(run), "--configfile", str(run / "graph.json"), "--cores", "2",
            "--rerun-triggers", "params", "input"]
    shell(sys.executable, "-c", f"import sys; sys.executable = {str(stub)!r}; from snakemake.cli import main; main({argv!r})", cwd=lab)
    took = [synthrad("study", "run", str(path), cwd=lab) for _ in range(3)]
    fits = len(json.loads((run / "graph.json").read_text())["fits"])
    if re.search(r"^\d+ of \d+ steps", (run / "snakemake.log").read_text(), re.M):
        raise RuntimeError(f"found jobs that were done again in {run / 'snakemake.log'}; expected none")
    return [{"phase": "recheck", "fits": fits, "seconds": statistics.median(took), "spread": [min(took), max(took)]}]


def bare(task: Any, data: Any, steps: int) -> float:
    """Seconds of a loop with nothing but batches, loss, backward pass and optimizer."""
    import torch

    optimizer = torch.optim.AdamW(task.parameters(), lr=task.hparams.lr)
    task.train()
    batches = iter(data.train_dataloader())
    begun = 0.0
    for k in range(steps + 1):
        if k == 1:
            begun = time.process_time()  # the first step chooses algorithms
        loss = task.training_step(data.on_after_batch_transfer(next(batches), 0), k)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return time.process_time() - begun


def ours(task: Any, data: Any, steps: int, folder: Path, callbacks: bool) -> tuple[float, float]:
    """Seconds of the same steps under Lightning, with the callbacks of study.fitting, or without any; those of them inside our hooks."""
    from lightning.pytorch import Callback, Trainer
    from lightning.pytorch.profilers import SimpleProfiler

    from synthrad.callbacks import DurableCheckpoint, DurableCheckpointIO, Preemption, RandomState
    from synthrad.callbacks.progress import ImageProgress

    at: list[float] = []
    profiler = SimpleProfiler()
    profiler.describe = lambda: None  # it would print a table of all hooks

    class Clock(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            at.append(time.process_time())

    all_of_ours = [RandomState(), Preemption(), ImageProgress("bench"), DurableCheckpoint(folder, monitor=task.monitor, every_seconds=1e9, save_final=False)]
    trainer = Trainer(max_steps=steps + 1, max_epochs=-1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
                      enable_checkpointing=callbacks, limit_val_batches=0, use_distributed_sampler=False, default_root_dir=folder,
                      callbacks=[*(all_of_ours if callbacks else []), Clock()], plugins=[DurableCheckpointIO()], profiler=profiler)
    trainer.fit(task, datamodule=data)
    mine = tuple(f"[Callback]{type(c).__name__}" for c in all_of_ours)
    inside = [seconds for name, each in profiler.recorded_durations.items() if name.startswith(mine) and EVERY_STEP.search(name) for seconds in each[1:]]
    return at[-1] - at[0], sum(inside)


def callbacks(lab: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """One line: a step in a bare loop, under Lightning alone, and with our callbacks, in turns."""
    import torch

    from synthrad.datamodules.fusion import FusionDataModule
    from synthrad.nets import TimmNet
    from synthrad.tasks import ClassificationTask

    torch.set_num_threads(1)
    took: dict[str, list[float]] = {"bare": [], "lightning": [], "ours": []}
    hooks: list[float] = []
    for r in range(args.rounds):
        for way in list(took) if r % 2 == 0 else list(took)[::-1]:
            torch.manual_seed(0)
            data = FusionDataModule(str(lab / "real"), size=(32, 64), batch_size=16, seed=0, steps=args.bare_steps + 1)
            data.setup("fit")
            task = ClassificationTask(TimmNet("resnet18", num_classes=1), classes=["caries"])
            seconds, inside = (bare(task, data, args.bare_steps), 0.0) if way == "bare" else ours(task, data, args.bare_steps, lab / f"{way}{r}", way == "ours")
            took[way].append(seconds / args.bare_steps)
            if way == "ours":
                hooks.append(inside / args.bare_steps)
    return [{"phase": "callbacks", "steps": args.bare_steps, "rounds": args.rounds, **{f"{k}_ms": 1000 * statistics.median(v) for k, v in took.items()},
             "callbacks_ms": 1000 * statistics.median(hooks), "callbacks_ms_spread": [1000 * min(hooks), 1000 * max(hooks)],
             "callbacks_over_bare": statistics.median(a / b for a, b in zip(hooks, took["bare"], strict=True)),
             "ours_over_lightning": statistics.median(a / b for a, b in zip(took["ours"], took["lightning"], strict=True)),
             "ours_over_bare": statistics.median(a / b for a, b in zip(took["ours"], took["bare"], strict=True))}]


def ddp(lab: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """One line: a generator fitted by two processes over one, a thread each; of a long and a short fit, so that starting costs nothing."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for r in range(args.rounds):
        for processes in (1, 2) if r % 2 == 0 else (2, 1):
            many = [f"--trainer.devices={processes}", "--trainer.strategy=ddp_find_unused_parameters_true"] if processes > 1 else []
            took = [shell(sys.executable, "-m", "synthrad", "fit", "--config", str(ROOT / "configs/generators/stylegan2_64_cpu.yaml"), "--data.manifest=real",
                          "--data.size=[32,64]", f"--trainer.default_root_dir={lab / f'ddp{processes}_{r}_{k}'}", "--trainer.callbacks=[]",
                          f"--model.max_images={(1 + k) * processes * args.ddp_images}", *many, cwd=lab, OMP_NUM_THREADS="1") for k in (0, 3)]
            rates[processes].append(3 * processes * args.ddp_images / (took[1] - took[0]))
    each = [b / a / 2 for a, b in zip(rates[1], rates[2], strict=True)]
    return [{"phase": "ddp", "rounds": args.rounds, "one_images_a_second": statistics.median(rates[1]), "two_images_a_second": statistics.median(rates[2]),
             "efficiency": statistics.median(each), "spread": [min(each), max(each)]}]


def goals(line: dict[str, Any]) -> list[str]:
    """What a line says of the goals."""
    tell = lambda name, value, bound: f"{name} {value:.3f} <={bound} {'met' if value <= bound else 'short'}"  # noqa: E731
    if line["phase"] == "overhead":
        return [tell("study_wall_over_work", line["wall_over_work"], 1.10), tell("study_cpu_over_fits_and_draws", line["cpu_over_fits_and_draws"], 1.05)]
    if line["phase"] == "cores":
        return [tell("study_two_cores_over_one", line["two_over_one"], 1.0)]
    if line["phase"] == "recheck":
        return [tell("study_recheck_seconds", line["seconds"], 10)]
    if line["phase"] == "callbacks":
        return [tell("callbacks_ms", line["callbacks_ms"], 1), tell("callbacks_over_bare", line["callbacks_over_bare"], 0.02),
                f"ours_over_bare {line['ours_over_bare']:.3f} (reported)"]
    return [f"ddp_efficiency {line['efficiency']:.3f} (reported)"]


def main() -> int:
    """The command."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--phases", nargs="+", default=list(PHASES), choices=PHASES)
    p.add_argument("--steps", type=int, default=150, help="of a downstream fit")
    p.add_argument("--images", type=int, default=2000, help="of the generator")
    p.add_argument("--jobs", type=int, default=200, help="fits of the study that is checked again")
    p.add_argument("--bare-steps", type=int, default=40, help="timed steps of a turn")
    p.add_argument("--ddp-images", type=int, default=240, help="images of a process in the short fit; the long one has four times as many")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--dry-run", action="store_true", help="write no results")
    args = p.parse_args()
    stamp = {"date": date.today().isoformat(), "device": processor(), "cores": os.cpu_count(), "torch": version("torch"), "lightning": version("lightning"),
             "snakemake": version("snakemake"), "synthrad": version("synthrad")}
    with tempfile.TemporaryDirectory() as temporary:
        lab = Path(temporary)
        synthrad("prepare", "phantom", str(lab / "real"), "--number", "240", "--size", "32", "64", "--seed", "0", cwd=lab)
        for phase in args.phases:
            for line in globals()[phase](lab, args):
                print("\n".join(goals(line)), flush=True)
                if not args.dry_run:
                    with RESULTS.open("a") as file:
                        file.write(json.dumps({"bench": "study", **line, **stamp}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

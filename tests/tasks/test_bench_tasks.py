"""The benchmark of tasks: a bare loop learns what the task learns, and a short run ends with measured goals."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_set import make
from torch import nn

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))
import bench_tasks  # noqa: E402

from synthrad.datamodules.fusion import FusionDataModule  # noqa: E402
from synthrad.tasks import ClassificationTask  # noqa: E402


def test_goals_are_met_or_short():
    line = {"bench": "features", "net": "vit", "times_faster": 19.9}
    assert bench_tasks.goals(line) == [("features_vit_times_faster", 19.9, ">=20", False)]
    line = {"bench": "overhead", "net": "unet", "computes_on": "cuda", "ratio": 1.01, "cpu_ratio": 1.5, "more_ms": 1.5, "more_cpu_ms": 0.5}
    assert bench_tasks.goals(line) == [("overhead_unet_ratio", 1.01, "<=1.02", True)]
    assert bench_tasks.goals({**line, "computes_on": "cpu"}) == [("overhead_unet_cpu_ratio", 1.5, "<=1.02", False)]
    assert bench_tasks.goals({**line, "net": "tiny_segmentation"}) == [("overhead_tiny_segmentation_ms", 1.5, "<=1", False)]
    line = {"bench": "precision", "net": "unet", "computes_on": "cpu", "ratio": 0.6, "cpu_ratio": 0.5}
    assert bench_tasks.goals(line) == [("precision_unet_ratio", 0.5, "<=0.55", True)]
    line = {"bench": "precision_score", "task": "segmentation", "apart_in_seed_sd": 1.2}
    assert bench_tasks.goals(line) == [("precision_segmentation_apart_in_seed_sd", 1.2, "<=1", False)]


def test_blocks_take_turns_and_the_first_step_of_each_is_not_counted():
    done = []
    turns = bench_tasks.Turns((done.append("bare") for _ in range(9)), 3, "cpu")
    for _ in range(6):
        done.append("task")
        turns.on_train_batch_end()
    assert done == (["task"] * 3 + ["bare"] * 3) * 2
    assert {k: [len(block) for block in blocks] for k, blocks in turns.seconds.items()} == {"task": [2, 2], "bare": [2, 2]}
    turns.seconds = {"task": [[9.0, 9.0], [0.004, 0.005, 9.0]], "bare": [[9.0, 9.0], [0.003, 0.003, 9.0]]}
    turns.cpu_seconds = {"task": [9.0, 0.003], "bare": [9.0, 0.002]}
    found = turns.compared()
    assert found["more_ms"] == pytest.approx(2) and found["more_cpu_ms"] == pytest.approx(1) and found["cpu_ratio"] == pytest.approx(1.5)


def test_the_bare_loop_sees_the_same_batches_with_the_same_loss(tmp_path):
    """Its rate rises otherwise, so that weights differ; with a rate of nearly 0 both leave the net as it was, and time as many steps."""
    make(tmp_path / "real")
    seen, made = {"task": [], "bare": []}, {}
    for how, losses in seen.items():
        torch.manual_seed(0)
        data = FusionDataModule(str(tmp_path / "real"), size=(16, 16), batch_size=4, steps=12)
        task = ClassificationTask(nn.Sequential(nn.Flatten(), nn.Linear(256, 2)), list(data.classes), lr=1e-12, pictures=0)
        task.loss = lambda *a, plain=task.loss, losses=losses, **k: losses.append(plain(*a, **k)) or losses[-1]
        made[how] = task, data
    turns = bench_tasks.Turns(bench_tasks.bare_loop(*made["bare"], 6, "cpu"), 3, "cpu")
    bench_tasks.under_lightning(*made["task"], 6, "cpu", tmp_path / "run", turns)
    assert torch.allclose(*(torch.stack(losses).detach() for losses in seen.values())) and len(seen["bare"]) == 6


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["features", "overhead", "precision"])
def test_a_short_run_measures_every_goal(phase):
    made = subprocess.run([sys.executable, FOLDER / "bench_tasks.py", phase, "--net", "vit_tiny_patch16_224", "--size", "64", "64", "--rounds", "1", "--steps", "3",
                           "--batch", "4", "--number", "60", "--seeds", "2", "--score-steps", "4", "--dry-run"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    found = re.findall(r"^(\w+) ([\d.-]+) [<>]=[\d.]+ (?:met|short)$", made.stdout, re.MULTILINE)
    assert len(found) == {"features": 1, "overhead": 4, "precision": 5}[phase]

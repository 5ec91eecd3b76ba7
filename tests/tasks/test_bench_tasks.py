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
    line = {"bench": "overhead", "net": "unet", "ratio": 1.01, "more_ms": 1.5}
    assert [met for *_, met in bench_tasks.goals(line)] == [True, False]


def test_the_bare_loop_sees_the_same_batches_with_the_same_loss(tmp_path):
    """Its rate rises otherwise, so that weights differ; with a rate of nearly 0 both leave the net as it was, and time as many steps."""
    make(tmp_path / "real")
    seen = {}
    for how in ("under_lightning", "bare_loop"):
        torch.manual_seed(0)
        data = FusionDataModule(str(tmp_path / "real"), size=(16, 16), batch_size=4, steps=12)
        task = ClassificationTask(nn.Sequential(nn.Flatten(), nn.Linear(256, 2)), list(data.classes), lr=1e-12, pictures=0)
        losses = seen.setdefault(how, [])
        task.loss = lambda *a, plain=task.loss, losses=losses, **k: losses.append(plain(*a, **k)) or losses[-1]
        assert len(getattr(bench_tasks, how)(task, data, 3, "cpu")) == 3
    assert torch.allclose(*(torch.stack(seen[how]).detach() for how in seen)) and len(seen["bare_loop"]) == 7


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["features", "overhead"])
def test_a_short_run_measures_every_goal(phase):
    made = subprocess.run([sys.executable, FOLDER / "bench_tasks.py", phase, "--net", "vit_tiny_patch16_224", "--size", "64", "64", "--rounds", "1", "--steps", "3",
                           "--batch", "4", "--number", "60", "--dry-run"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    found = re.findall(r"^(\w+) ([\d.-]+) [<>]=[\d.]+ (?:met|short)$", made.stdout, re.MULTILINE)
    assert len(found) == (1 if phase == "features" else 4)

"""Tasks on two processes: the weights, metrics and cases of one, though some labels and masks are unknown."""

from datetime import timedelta

import lightning as L
import pandas as pd
import pytest
import torch
from forks import forks
from lightning.pytorch.strategies import DDPStrategy
from tiny_set import make
from torch import nn

from synthrad.callbacks import RandomState
from synthrad.datamodules.fusion import FusionDataModule
from synthrad.tasks import ClassificationTask, SegmentationTask

STEPS = 6


class Kept(L.Callback):
    """Each process writes what it ends with."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, trainer, name, content):
        torch.save(content, self.folder / f"{name}{trainer.global_rank}.pt")

    def on_train_end(self, trainer, task):
        self.write(trainer, "weights", task.state_dict())

    def on_validation_end(self, trainer, task):
        self.write(trainer, "validation", {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")})

    def on_test_end(self, trainer, task):
        self.write(trainer, "test", {k: float(v) for k, v in trainer.callback_metrics.items()})
        task.cases.to_pickle(self.folder / f"cases{trainer.global_rank}.pkl")


def build(kind, data, dropout=0.0):
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Dropout(dropout)]
    if kind == "segmentation":
        return SegmentationTask(nn.Sequential(*body, nn.Conv2d(8, 3, 3, padding=1)), data.layers, lr=0.01)
    head = [nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 2)]
    return ClassificationTask(nn.Sequential(*body, *head), list(data.classes), lr=0.01, pos_weight="balanced")


def dataset(folder):
    """With an odd number of test and of validation rows, so that two processes have unequal shares."""
    made = make(folder, rows=36)
    rows = [i for i in range(len(made)) if i not in (18 + 6, 35)]  # the first of val, the last of test
    made.take(rows).write(folder)
    return folder


def final(kind, real, folder, devices=1, callbacks=(), dropout=0.0, test=True, precision="64-true", parts=1):
    """What each process ends with: weights, validation, test metrics, cases."""
    folder.mkdir()
    data = FusionDataModule(str(real), size=(32, 32), batch_size=4 // devices // parts, steps=STEPS * parts)
    task, options = build(kind, data, dropout), {}
    if devices > 1:
        options["strategy"] = DDPStrategy(start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=120))
    trainer = L.Trainer(accelerator="cpu", devices=devices, max_steps=STEPS, precision=precision, accumulate_grad_batches=parts, logger=False, enable_progress_bar=False,
                        enable_model_summary=False, enable_checkpointing=False, use_distributed_sampler=False, num_sanity_val_steps=0,
                        callbacks=[RandomState(), Kept(folder), *callbacks], **options)
    trainer.fit(task, datamodule=data)
    if test:
        trainer.test(task, datamodule=data, verbose=False)
    kinds = ("weights", "validation", "test") if test else ("weights", "validation")
    found = [{k: torch.load(folder / f"{k}{r}.pt", weights_only=True) for k in kinds} for r in range(devices)]
    for r, one in enumerate(found if test else []):
        one["cases"] = pd.read_pickle(folder / f"cases{r}.pkl").sort_values(["image", "class_name"]).reset_index(drop=True)
    return found


def distance(a, b):
    assert a.keys() == b.keys()
    return max(abs(torch.as_tensor(a[k]) - torch.as_tensor(b[k])).max().item() for k in a)


def differences(kind, real, folder):
    """What two processes have that one has not."""
    (whole,), (one, two) = final(kind, real, folder / "whole"), final(kind, real, folder / "two", devices=2)
    found = [f"weights by {d}" for d in (distance(whole["weights"], one["weights"]), distance(one["weights"], two["weights"])) if not d < 1e-12]
    names = {k for k in whole["validation"] if kind == "classification" or k != "val/loss"}  # Dice loss of batches of other images
    for part in ("validation", "test"):
        for mine in (one, two):
            known = names if part == "validation" else set(whole["test"])
            if not set(mine[part]) >= known or distance(*({k: x[part][k] for k in known} for x in (whole, mine))) > 1e-6:
                found.append(f"{part} metrics")
    for mine in (one, two):
        again = mine["cases"].duplicated(["image", "layer", "class_name"]).any()
        try:
            pd.testing.assert_frame_equal(mine["cases"], whole["cases"], rtol=1e-6)
        except AssertionError as e:
            found.append(f"cases: {e}")
        if again:
            found.append("an item twice")
    return found


@forks
@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_two_processes_end_as_one(tmp_path, kind):
    assert not differences(kind, dataset(tmp_path / "real"), tmp_path)


class Masks(L.Callback):
    """Which numbers each process would draw next, after each step."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, *args):
        with torch.random.fork_rng():
            torch.save(torch.rand(4), self.folder / f"draw{trainer.global_rank}-{trainer.global_step}.pt")


@forks
def test_processes_drop_out_other_numbers(tmp_path):
    final("classification", dataset(tmp_path / "real"), tmp_path / "run", 2, [Masks(tmp_path / "run")], 0.5, test=False)
    drawn = [torch.load(tmp_path / "run" / f"draw{r}-{s}.pt", weights_only=True) for r in range(2) for s in range(1, STEPS + 1)]
    assert not any(torch.isclose(a, b).any() for k, a in enumerate(drawn) for b in drawn[:k])


@forks
def test_parts_of_a_batch_on_two_processes(tmp_path):
    """trainer.accumulate_grad_batches=2, in float64: 2 x 2 pictures on one process, 2 x 1 on each of two. Parts are not the whole batch: each
    has its own mean over the labels that it knows."""
    real = dataset(tmp_path / "real")
    (whole,) = final("classification", real, tmp_path / "whole", test=False, parts=2)
    one, two = final("classification", real, tmp_path / "two", 2, test=False, parts=2)
    assert distance(one["weights"], two["weights"]) == 0 and distance(whole["weights"], one["weights"]) < 1e-12


@forks
def test_bf16_on_two_processes(tmp_path):
    """Both end with the same weights, which are float32, near those of one process and not those of float32."""
    real = dataset(tmp_path / "real")
    (whole,), (exact,) = (final("segmentation", real, tmp_path / p, test=False, precision=p) for p in ("bf16-mixed", "32-true"))
    one, two = final("segmentation", real, tmp_path / "two", 2, test=False, precision="bf16-mixed")
    assert distance(one["weights"], two["weights"]) == 0 and {v.dtype for v in one["weights"].values()} == {torch.float32}
    assert distance(whole["weights"], one["weights"]) < 0.5 * distance(whole["weights"], exact["weights"])

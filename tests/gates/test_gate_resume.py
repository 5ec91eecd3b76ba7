"""Gate: a fit that goes on from any of its checkpoints ends with the bits of the fit that nobody stopped.

By the command line, for a GAN, diffusion (on pixels, on latents, a ControlNet), autoencoder, segmentation and classification. Compared are the losses of every later step and all
that the last checkpoint holds: weights, averages, optimizers, schedules, random states, images counted. Short forms: tests/
test_kills.py, tests/callbacks/test_durable_checkpoint.py.
"""

import csv
import math

import pytest
import torch
from lightning.pytorch import Trainer
from tiny_generator import SMALL, fit_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks.durable_checkpoint import newest_valid, step_of
from synthrad.generators.autoencoder import Autoencoder
from synthrad.generators.controlled import ControlledDiffusion
from synthrad.generators.diffusion import Diffusion
from synthrad.generators.gan import StyleGAN2
from synthrad.tasks import ClassificationTask, SegmentationTask

pytestmark = pytest.mark.gate
BATCH = 4
DIFFUSION = {**SMALL["Diffusion"], "drop_rate": 0.3}
GENERATORS = {"StyleGAN2": (StyleGAN2, SMALL["StyleGAN2"]), "Diffusion": (Diffusion, DIFFUSION)}
ON_OTHERS = {  # {..}: the newest checkpoint of that fit
    "Autoencoder": (Autoencoder, SMALL["Autoencoder"]), "Diffusion on latents": (Diffusion, {**DIFFUSION, "autoencoder": "{Autoencoder}"}),
    "ControlledDiffusion": (ControlledDiffusion, {"base": "{Diffusion}", "mask_drop_rate": 0.3, "steps": 3}),
}  # fmt: skip
SIZES = {"Autoencoder": 32, "Diffusion on latents": 32}
TASKS = {"SegmentationTask": (SegmentationTask, {"net": "SmpNet", "net.encoder": "tu-test_resnet"}),
         "ClassificationTask": (ClassificationTask, {"net": "TimmNet", "net.name": "test_resnet"})}
KINDS = {**GENERATORS, **ON_OTHERS, **TASKS}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        make(folder / "real")
        assert main(fit_command(folder / "real", folder / "Autoencoder", "Autoencoder", 32)) == 0
        assert main([*fit_command(folder / "real", folder / "Diffusion", "Diffusion"), "--data.layers=[]"]) == 0
    return folder / "real"


def command(kind, real, run, workers, *more, every_steps=1):
    """Four epochs of 2 batches for a generator, three of 3 for a task; a state of every step is kept."""
    size, own, data = (32, {}, {}) if kind in TASKS else (SIZES.get(kind, 16), {"max_images": 8 * BATCH}, {})
    begun = {name: newest_valid(real.parent / name) for name in ("Autoencoder", "Diffusion")}
    own = {k: str(v).format(**begun) for k, v in {**KINDS[kind][1], **own}.items()}
    trainer = {"accelerator": "cpu", "log_every_n_steps": 1, "default_root_dir": run}
    if kind in TASKS:  # both ways to say where a fit ends
        trainer, data = ({**trainer, "max_epochs": 3}, {}) if workers else ({**trainer, "max_steps": 9}, {"steps": 3})
    data |= {"manifest": real, "size": f"[{size},{size}]", "batch_size": BATCH, "num_workers": workers}
    keeps = {"every_steps": every_steps, "keep": 99} if every_steps else {"every_seconds": 1e6}
    return ["fit", f"--model={KINDS[kind][0].__name__}", *(f"--model.{k}={v}" for k, v in own.items()),
            f"--data={'FusionDataModule' if kind in TASKS else 'GenerationDataModule'}", *(f"--data.{k}={v}" for k, v in data.items()),
            *(f"--trainer.{k}={v}" for k, v in trainer.items()), "--trainer.callbacks=DurableCheckpoint",
            *(f"--trainer.callbacks.{k}={v}" for k, v in keeps.items()), *more]  # fmt: skip


def lines(run):
    """Of metrics.csv, the values of each line; Lightning numbers lines one step higher where a fit goes on after its end."""
    with open(run / "metrics.csv", newline="") as file:
        return [{k: v for k, v in line.items() if v and k not in ("epoch", "step")} for line in csv.DictReader(file)]


def plain(tree):
    """A checkpoint as nested tuples that can be compared to the bit, without what names its own folder."""
    if isinstance(tree, dict):
        return {k: plain(v) for k, v in tree.items() if k not in ("hyper_parameters", "datamodule_hyper_parameters")}
    if isinstance(tree, list | tuple):
        return tuple(plain(v) for v in tree)
    if isinstance(tree, torch.Tensor):
        return tree.dtype, tuple(tree.shape), tree.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return "nan" if isinstance(tree, float) and math.isnan(tree) else tree


PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "global_step", "synthrad")


def end(run):
    """What the last state holds, part by part, and the images that its loader has given."""
    saved = torch.load(newest_valid(run), weights_only=True)
    given = saved["loops"]["fit_loop"]["state_dict"]["combined_loader"][0]["done"] * BATCH
    return {**{k: plain(saved.get(k)) for k in PARTS}, "images": given}


def resumed(kind, real, run, workers, checkpoint, whole):
    """What differs between the uninterrupted fit and the one that goes on from a checkpoint."""
    assert main(command(kind, real, run, workers, f"--ckpt_path={checkpoint}")) == 0
    theirs, first = end(whole), step_of(checkpoint)
    if first == theirs["global_step"]:  # nothing was left to do, and nothing was done
        differing = [str(p) for p in (run / "checkpoints", run / "metrics.csv") if p.exists()]
    else:
        mine = end(run)
        differing = [k for k in mine if mine[k] != theirs[k]]
        found = lines(run)
        if not found or lines(whole)[-len(found):] != found:
            differing.append("losses")
    return f"{kind}, {workers} workers, from {checkpoint.name}: {differing}" if differing else None


def stopped(kind, real, run, workers, step, patch):
    """A fit that ends after so many steps; the state that it leaves, and one that is saved when it is over."""
    own, calls, fit = KINDS[kind][0].training_step, [0], Trainer.fit

    def training_step(self, *args):
        calls[0] += 1
        self.trainer.should_stop = calls[0] >= step
        return own(self, *args)

    def and_save(self, *args, **kwargs):
        fit(self, *args, **kwargs)
        self.save_checkpoint(run / f"after-{self.global_step:09d}.ckpt")

    with patch.context() as p:
        p.setattr(KINDS[kind][0], "training_step", training_step)
        p.setattr(Trainer, "fit", and_save)
        assert main(command(kind, real, run, workers, every_steps=None)) == 0
    return [newest_valid(run), *run.glob("after-*.ckpt")]


@pytest.mark.parametrize(("kind", "workers"), [(k, w) for k in KINDS for w in (0, 2) if not (w and k in ON_OTHERS)])  # their loader is a generator's
def test_resume(real, tmp_path, monkeypatch, tally, kind, workers):
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(real.parent))
    whole = tmp_path / "whole"
    assert main(command(kind, real, whole, workers)) == 0
    checkpoints = sorted((whole / "checkpoints").glob("last-*.ckpt"), key=step_of)
    assert len(checkpoints) >= 8
    checkpoints = checkpoints[3:7] if workers else checkpoints
    for step in (6,) if workers else (3, 4, 6):  # generators end an epoch at 4 and 6, tasks at 3 and 6
        checkpoints += stopped(kind, real, tmp_path / f"stopped{step}", workers, step, monkeypatch)
    found = [resumed(kind, real, tmp_path / f"run{k}", workers, c, whole) for k, c in enumerate(checkpoints)]
    tally("Exact resume", len(found), [x for x in found if x])

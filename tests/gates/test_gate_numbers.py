"""Gate: NaN and infinities planted at 20 points of data, losses, gradients, weights, averages and optimizers.

Each fit must stop within one step, and no checkpoint and no image that it wrote may hold one. Short form: tests/generators/test_guards.py.
"""

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from test_guards import At
from test_task_ranks import build, dataset
from tiny_gan import TINY, fit
from tiny_set import make

from synthrad.callbacks import DurableCheckpoint, DurableCheckpointIO
from synthrad.callbacks.image_grid import ImageGrid
from synthrad.datamodules.fusion import FusionDataModule
from synthrad.datamodules.generation import GenerationDataModule
from synthrad.errors import RunError
from synthrad.generators import autoencoder, conditional, diffusion, gan, guards
from synthrad.generators.autoencoder import Autoencoder
from synthrad.generators.diffusion import Diffusion
from synthrad.generators.gan import StyleGAN2

pytestmark = pytest.mark.gate
NAN, INF = float("nan"), float("inf")
NET = {"channels": (8, 16), "attention": (False, True), "res_blocks": 1, "head_channels": 8, "warmup_images": 0, "steps": 2}
VAE = {"channels": (8, 16), "res_blocks": 1, "latent_channels": 2, "attention": False, "adversarial_from": 0}
MODELS = {
    "GAN": lambda: StyleGAN2(**TINY, max_images=20), "diffusion": lambda: Diffusion(**NET, max_images=20),
    "autoencoder": lambda: Autoencoder(**VAE, max_images=20),
}
AT = 1  # the batch of an epoch, from 0, of which something is spoiled


def image(value):
    return lambda patch, model, batch: batch.image.__setitem__((1, 0, 2, 2), value)


def function(owner, name, value):
    """A function that answers `value` times what it did; of several answers, the first."""

    def spoil(patch, model, batch):
        honest = getattr(owner, name)

        def wrapped(*args, **kwargs):
            out = honest(*args, **kwargs)
            return (out[0] * value, *out[1:]) if isinstance(out, tuple) else out * value

        patch.setattr(owner, name, wrapped)

    return spoil


def gradient(part, value):
    def spoil(patch, model, batch):
        chosen = next(getattr(model, part).parameters()).requires_grad_(True)  # nets take turns at it
        chosen.register_hook(lambda g: g * value)

    return spoil


def plant(tensor, value):
    tensor.data[(0,) * tensor.ndim] = value


def weight(part, value):
    return lambda patch, model, batch: plant(next(getattr(model, part).parameters()), value)


def moment(patch, model, batch):
    optimizers = model.optimizers()
    first = optimizers[0] if isinstance(optimizers, list) else optimizers
    plant(next(iter(first.state.values()))["exp_avg"], INF)


def average(patch, model, batch):
    honest = conditional.update_average

    def spoiled(mean, source, decay):
        honest(mean, source, decay)
        plant(next(mean.parameters()), NAN)

    patch.setattr(conditional, "update_average", spoiled)


POINTS = {
    "GAN: NaN in an image": ("GAN", image(NAN)), "GAN: Inf in an image": ("GAN", image(INF)),
    "GAN: generator loss": ("GAN", function(gan, "generator_loss", NAN)), "GAN: loss of reals": ("GAN", function(gan, "real_loss", INF)),
    "GAN: R1": ("GAN", function(gan, "r1_penalty", NAN)), "GAN: path penalty": ("GAN", function(gan, "path_penalty", NAN)),
    "GAN: gradient of the generator": ("GAN", gradient("generator", INF)),
    "GAN: gradient of the discriminator": ("GAN", gradient("discriminator", NAN)),
    "GAN: weight": ("GAN", weight("generator", NAN)), "GAN: average": ("GAN", average), "GAN: moment of Adam": ("GAN", moment),
    "diffusion: NaN in an image": ("diffusion", image(NAN)), "diffusion: loss": ("diffusion", function(diffusion, "noised_loss", INF)),
    "diffusion: gradient": ("diffusion", gradient("net", NAN)), "diffusion: average": ("diffusion", average),
    "diffusion: weight": ("diffusion", weight("net", INF)),
    "autoencoder: Inf in an image": ("autoencoder", image(INF)),
    "autoencoder: opinion": ("autoencoder", function(autoencoder, "_least_squares", NAN)),
    "autoencoder: gradient": ("autoencoder", gradient("net", INF)), "autoencoder: average": ("autoencoder", average),
}


class Steps(L.Callback):
    """How many batches were begun."""

    begun = 0

    def on_train_batch_start(self, *args):
        self.begun += 1


def unclean(folder):
    """Checkpoints and images of a folder that hold what is no number; none at all is a fault as well."""
    files = sorted(folder.rglob("*.ckpt"))
    for path in files:
        saved = torch.load(path, weights_only=True)
        tensors = [v for _, v in guards._tensors([saved["state_dict"], saved["optimizer_states"]], "") if v.is_floating_point()]
        if not all(torch.isfinite(v).all() for v in tensors):
            return f"{path.name} holds no numbers"
    pictures = [np.asarray(Image.open(p)) for p in folder.rglob("*.png")]
    return None if files and pictures else "no checkpoint or no image was written before"


def fault(name, folder, real, patch):
    kind, spoil = POINTS[name]
    steps = Steps()
    options = {"enable_checkpointing": True, "default_root_dir": folder, "plugins": [DurableCheckpointIO()]}
    callbacks = [steps, At(AT, before=lambda model, batch: spoil(patch, model, batch)), ImageGrid(every_images=4, number=2),
                 DurableCheckpoint(every_steps=1)]
    data = GenerationDataModule(str(real), (16, 16), 4)
    try:
        fit(data, MODELS[kind](), callbacks=callbacks, trainer_options=options)
    except RunError:
        pass
    else:
        return "it was not noticed"
    if steps.begun > AT + 2:
        return f"{steps.begun - AT - 1} steps later"
    return unclean(folder)


def test_generators(tmp_path, monkeypatch, tally):
    lost, real = [], tmp_path / "real"
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path))
    make(tmp_path / "real")
    for k, name in enumerate(POINTS):
        with monkeypatch.context() as patch:
            if found := fault(name, tmp_path / str(k), real, patch):
                lost.append(f"{name}: {found}")
    tally("NaN and Inf", len(POINTS), lost)


def task_fault(kind, where, value, folder, real):
    data = FusionDataModule(str(real), size=(32, 32), batch_size=4, steps=6)
    task, steps = build(kind, data), Steps()

    def spoil(model, batch):
        if where == "image":
            batch.image[1, 0, 2, 2] = value
        else:
            next(model.net.parameters()).register_hook(lambda g: g * value)

    trainer = L.Trainer(accelerator="cpu", max_steps=6, logger=False, enable_progress_bar=False, enable_model_summary=False,
                        num_sanity_val_steps=0, default_root_dir=folder, plugins=[DurableCheckpointIO()],
                        callbacks=[steps, At(AT, before=spoil), DurableCheckpoint(every_steps=1)])
    try:
        trainer.fit(task, datamodule=data)
    except RunError:
        pass
    else:
        return "it was not noticed"
    bad = [p.name for p in folder.rglob("*.ckpt") if not all(torch.isfinite(v).all() for v in torch.load(p, weights_only=True)["state_dict"].values())]
    return f"{steps.begun - AT - 1} steps later" if steps.begun > AT + 2 else ", ".join(bad)


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_tasks(tmp_path, tally, kind):
    real, lost = dataset(tmp_path / "real"), []
    cases = [("image", NAN), ("image", INF), ("gradient", NAN), ("gradient", INF)]
    for k, (where, value) in enumerate(cases):
        if found := task_fault(kind, where, value, tmp_path / str(k), real):
            lost.append(f"{kind}, {value} in {where}: {found}")
    tally("NaN and Inf", len(cases), lost)

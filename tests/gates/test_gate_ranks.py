"""Gate: two gloo processes train, test and draw as one does, in float64 within 1e-12; what is random differs between them.

Random numbers are given by row and step where weights are compared. Short forms: tests/generators/test_ranks*.py,
tests/tasks/test_task_ranks.py, tests/test_processes_asked_for.py.
"""

import contextlib
from unittest.mock import patch

import pytest
import test_ranks
import test_ranks_diffusion as diffusion
import test_task_ranks as tasks
import torch
from forks import forks
from test_ranks_diffusion import Given, GivenAutoencoder, GivenDiffusion
from test_sharding import shared
from tiny_gan import Pictures, fit
from tiny_generator import SMALL, fit_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.datamodules.generation import GenerationDataModule
from synthrad.generators.autoencoder import Autoencoder
from synthrad.generators.controlled import ControlledDiffusion
from synthrad.generators.diffusion import Diffusion
from synthrad.generators.gan import StyleGAN2

pytestmark = [pytest.mark.gate, forks]
WITHOUT = {"label_dropout": 0.0, "drop_rate": 0.0, "warmup_images": 0, "max_images": 40}
NET = {"channels": (8, 16), "attention": (False, True), "res_blocks": 1, "head_channels": 8}


class GivenControlled(Given, ControlledDiffusion):
    pass


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A dataset, an autoencoder and a diffusion model of its images alone."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patching:
        patching.setenv("SYNTHRAD_PROJECT", str(folder))
        make(folder / "real")
        assert main(fit_command(folder / "real", folder / "vae", "Autoencoder", 32)) == 0
        assert main([*fit_command(folder / "real", folder / "base", "Diffusion"), "--data.layers=[]"]) == 0
    return folder


def generators(lab):
    """Kind -> a function to the model, the size of its pictures and whether it learns from files."""
    vae, base = (str(newest_valid(lab / name)) for name in ("vae", "base"))
    return {
        "diffusion": (lambda: GivenDiffusion(**NET, **WITHOUT), 16),
        "diffusion from masks": (lambda: GivenDiffusion(**NET, **WITHOUT, masks="given"), 16),
        "latent diffusion": (lambda: GivenDiffusion(**NET, **WITHOUT, autoencoder=vae), 32),
        "ControlNet": (lambda: GivenControlled(base=base, mask_drop_rate=0.0, **WITHOUT), 16),
        "autoencoder": (lambda: GivenAutoencoder(channels=(8, 16), res_blocks=1, latent_channels=2, attention=False, adversarial_from=16,
                                                 max_images=40), 16),
    }  # fmt: skip


def test_weights_of_generators(lab, tmp_path, monkeypatch, tally):
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(lab))
    lost, kinds = [], generators(lab)
    for kind, (make_model, size) in kinds.items():
        ended = []
        for devices in (1, 2):
            data = GenerationDataModule(str(lab / "real"), (size, size), 8 // devices)
            model = make_model()
            data.prepare()
            model.rows = len(data.train)
            ended += diffusion.final(model, tmp_path / f"{kind}{devices}", devices=devices, data=data)
        far = max(diffusion.distance(a, b) for a, b in zip(ended, ended[1:], strict=False))
        lost += [f"{kind}: weights differ by {far}"] if not far < 1e-12 else []
    (whole,), two = test_ranks.final(tmp_path / "gan"), test_ranks.final(tmp_path / "gan2", 4, range(8), devices=2)
    far = max(test_ranks.distance(whole, two[0]), test_ranks.distance(*two))
    tally("DDP: weights of 1 and 2 processes", len(kinds) + 1, [*lost, *([f"GAN: weights differ by {far}"] if not far < 1e-12 else [])])


def test_weights_in_parts(lab, tmp_path, monkeypatch, tally):
    """trainer.strategy=fsdp."""
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(lab))
    lost, kinds = [], {k: v for k, v in generators(lab).items() if k != "autoencoder"}
    for kind, (make_model, size) in kinds.items():
        ended = []
        for devices, run in ((1, diffusion.final), (2, lambda *args, data: [shared(*args, data=data)])):
            data = GenerationDataModule(str(lab / "real"), (size, size), 8 // devices)
            model = make_model()
            data.prepare()
            model.rows = len(data.train)
            ended += run(model, tmp_path / f"{kind}{devices}", data=data)
        if not (far := diffusion.distance(*ended)) < 1e-12:
            lost.append(f"{kind}: weights differ by {far}")
    tally("DDP: weights of 1 process and of 2 in parts", len(kinds), lost)


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_tasks(tmp_path, tally, kind):
    """Weights, validation, cases (each test item once, though they are odd in number) and test metrics."""
    found = tasks.differences(kind, tasks.dataset(tmp_path / "real"), tmp_path)
    tally("DDP: weights of 1 and 2 processes", 1, [f"{kind}: {x}" for x in found if "weights" in x])
    tally("DDP: items and metrics of a task", 1, [f"{kind}: {x}" for x in found if "weights" not in x])


class Noted:
    """Each process keeps all noise that it draws."""

    folder = None

    def training_step(self, batch, batch_idx):
        drawn = []

        def noting(function):
            def wrapped(*args, **kwargs):
                made = function(*args, **kwargs)
                drawn.append(made.detach().flatten()[:8])
                return made

            return wrapped

        with contextlib.ExitStack() as stack:
            for name in ("randn", "randn_like", "rand"):
                stack.enter_context(patch.object(torch, name, noting(getattr(torch, name))))
            super().training_step(batch, batch_idx)
        torch.save([x for x in drawn if len(x) == 8], self.folder / f"drawn{self.global_rank}-{self.images_seen}.pt")


NOTED = {"GAN": (StyleGAN2, SMALL["StyleGAN2"]), "diffusion": (Diffusion, NET),
         "autoencoder": (Autoencoder, {"channels": (8, 16), "res_blocks": 1, "latent_channels": 2, "attention": False})}


def test_noise_differs_by_rank_and_step(tmp_path, tally):
    tried, lost = 0, []
    for kind, (of, options) in NOTED.items():
        folder = tmp_path / kind
        folder.mkdir()
        model = type(f"Noted{kind}", (Noted, of), {})(**options, max_images=32)
        model.folder = folder
        fit(Pictures(4), model, devices=2)
        drawn = [x for p in sorted(folder.glob("drawn*.pt")) for x in torch.load(p, weights_only=True)]
        assert len(drawn) >= 8
        tried += len(drawn)
        lost += [f"{kind}: the same noise twice" for k, a in enumerate(drawn) for b in drawn[:k] if torch.equal(a, b)]
    tally("DDP: noise of ranks and steps", tried, lost)

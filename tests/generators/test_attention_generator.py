"""The attention that a fit chose stays: in its checkpoints, in what resumes or samples them, on every process."""

from types import SimpleNamespace

import pytest
import torch
from forks import forks
from monai.networks.blocks.selfattention import SABlock
from tiny_gan import Pictures
from tiny_gan import fit as fit_tiny
from tiny_generator import fit_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.generators.attention import _measured, settle_attention
from synthrad.generators.autoencoder import Autoencoder
from synthrad.generators.diffusion import Diffusion
from synthrad.generators.loading import load_generator
from synthrad.nets import attention
from synthrad.nets.attention import Measured

TINY = {"channels": (8, 16), "res_blocks": 1, "max_images": 8}


def ways(net):
    return {m.use_flash_attention for m in net.modules() if isinstance(m, SABlock)}


def choosing(monkeypatch, flash):
    """Let measuring end so; counts how often it was asked."""
    asked = []
    monkeypatch.setattr(attention, "measure", lambda *sizes: asked.append(sizes) or Measured(flash, 2.0, 1.0))
    return asked


def forget(project):
    """As on another machine."""
    (project / ".synthrad" / "attention.json").unlink()


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    make(folder)
    return folder


def diffusion(real, run, **more):
    return [*fit_command(real, run, "Diffusion", **more), "--data.layers=[]"]


def test_a_resumed_fit_and_a_sampler_compute_as_the_fit_began(real, tmp_path, monkeypatch, capsys):
    first = choosing(monkeypatch, False)
    assert main(diffusion(real, tmp_path, images=8)) == 0
    assert "Diffusion: attention by the plain product (its blocks forward and backward: 2.0 ms, plain 1.0 ms" in capsys.readouterr().out
    assert [s[0][0] for s in first] == [attention.Attended(16, 2, 64)]  # of 16 px, at the second level
    stopped = newest_valid(tmp_path)
    assert torch.load(stopped, weights_only=True)["hyper_parameters"]["flash"] is False
    again = choosing(monkeypatch, True)
    assert main([*diffusion(real, tmp_path, images=16), f"--ckpt_path={stopped}"]) == 0
    resumed = newest_valid(tmp_path)
    assert again == [] and resumed != stopped and "attention by" not in capsys.readouterr().out
    assert torch.load(resumed, weights_only=True)["hyper_parameters"]["flash"] is False
    model = load_generator(resumed)[0]
    assert ways(model.net_ema) == ways(model.net) == {False}


def test_explicit_ones_are_not_measured_and_an_old_checkpoint_has_its_own(real, tmp_path, monkeypatch):
    asked = choosing(monkeypatch, False)
    assert main(diffusion(real, tmp_path, images=4, flash="true")) == 0
    made = newest_valid(tmp_path)
    assert asked == [] and ways(load_generator(made)[0].net_ema) == {True}
    old = torch.load(made, weights_only=True)
    del old["hyper_parameters"]["flash"]
    model = Diffusion(**TINY, attention=(False, True), head_channels=8)
    assert model.hparams.flash == "auto"
    model.on_load_checkpoint(old)
    assert model.hparams.flash is True and ways(model.net) == {True}


def test_an_autoencoder_keeps_its_choice_inside_a_diffusion_model_that_chose_another(real, tmp_path, monkeypatch):
    choosing(monkeypatch, False)
    command = fit_command(real, tmp_path / "ae", "Autoencoder", images=4, attention="true")
    assert main([*command, "--data.layers=[]"]) == 0
    forget(tmp_path)
    choosing(monkeypatch, True)
    assert main(diffusion(real, tmp_path / "ldm", images=4, autoencoder=newest_valid(tmp_path / "ae"))) == 0
    model = load_generator(newest_valid(tmp_path / "ldm"))[0]
    assert ways(model.autoencoder) == {False} and ways(model.net_ema) == {True}
    forget(tmp_path)
    choosing(monkeypatch, False)
    more = ["--model=ControlledDiffusion", f"--model.base={newest_valid(tmp_path / 'ldm')}"]
    own = [x for x in fit_command(real, tmp_path / "steered", "Diffusion", images=4) if not x.startswith("--model")]
    assert main([*own, *more, "--model.max_images=4"]) == 0
    steered = load_generator(newest_valid(tmp_path / "steered"))[0]
    assert ways(steered.autoencoder) == {False} == ways(steered.base) == ways(steered.net_ema)


def test_without_attention_or_in_half_precision_there_is_nothing_to_measure(monkeypatch):
    asked = choosing(monkeypatch, False)
    model, _ = fit_tiny(Pictures(), Autoencoder(**TINY, latent_channels=2, attention=False), 1)
    assert asked == [] and model.hparams.flash is True
    model = Autoencoder(**TINY, latent_channels=2)
    model.build(Pictures().spec())
    model._trainer = SimpleNamespace(precision="16-mixed")  # the plain product overflows; Lightning makes bf16 of it on a CPU
    settle_attention(model)
    assert asked == [] and model.hparams.flash is True and ways(model.net) == {True}
    fit_tiny(Pictures(), Autoencoder(**TINY, latent_channels=2), 1)
    assert len(asked) == 1


class Noted(Diffusion):
    folder = None

    def on_train_end(self):
        torch.save(list(ways(self.net)), self.folder / f"rank{self.global_rank}.pt")


@forks
def test_processes_agree(tmp_path, monkeypatch):
    """The second one would choose otherwise."""
    monkeypatch.setattr(attention, "measure", lambda *_: Measured(torch.distributed.get_rank() == 1, 2.0, 1.0))
    model = Noted(**TINY, attention=(False, True), head_channels=8, warmup_images=0)
    model.folder = tmp_path
    fit_tiny(Pictures(8), model, devices=2)
    assert [torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in range(2)] == [[False], [False]]


def test_what_was_measured_once_in_a_project_is_believed_there(tmp_path, monkeypatch):
    sizes, device = (attention.Attended(16, 2, 64),), torch.device("cpu")
    asked = choosing(monkeypatch, False)
    first = _measured(sizes, device, "32-true")
    choosing(monkeypatch, True)
    assert _measured(sizes, device, "32-true") == first and not first.flash and len(asked) == 1
    assert _measured(sizes, device, "bf16-mixed").flash  # other numbers, another measurement
    (tmp_path / ".synthrad" / "attention.json").write_text("[")
    assert _measured(sizes, device, "32-true").flash

"""Ctrl-C in fit and sample: one message, exit code 1, no traceback; the same command goes on."""

import os
import signal

import pytest
from forks import dying
from tiny_generator import fit_command, same_weights, sample_command

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.datamodules.generation import GenerationDataModule
from synthrad.errors import InputError
from synthrad.generators.gan import StyleGAN2
from synthrad.records import Manifest


@pytest.fixture(autouse=True)
def default_handlers():
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    assert {n: signal.getsignal(n) for n in before} == before, "a handler stayed"
    for number, handler in before.items():
        signal.signal(number, handler)


def told(capfd, *words):
    err = capfd.readouterr().err
    assert all(w in err for w in words), err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("owner", "hook", "words"),
    [
        (GenerationDataModule, "prepare", ["interrupted", "the same command resumes"]),  # images are read
        (StyleGAN2, "configure_optimizers", ["interrupted", "the same command resumes"]),
        (StyleGAN2, "training_step", ["stopped by SIGINT at step", "saved", "The same command resumes"]),
        (StyleGAN2, "on_save_checkpoint", ["stopped by SIGINT", "The same command resumes"]),
    ],
    ids=["reading", "building", "step", "saving"],
)
def test_fit(trained, tmp_path, monkeypatch, capfd, owner, hook, words):
    real, checkpoint = trained
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(real.parent))
    command = fit_command(real, tmp_path / "run")
    call = 3 if hook in ("training_step", "on_save_checkpoint") else 1
    with monkeypatch.context() as patch:
        patch.setattr(owner, hook, dying(getattr(owner, hook), call, number=signal.SIGINT))
        assert main(command) == 1
    told(capfd, "synthrad fit", *words)
    assert (newest_valid(tmp_path / "run") is None) == ("interrupted" in words)
    assert main(command) == 0
    assert same_weights(newest_valid(tmp_path / "run"), checkpoint)


def test_a_second_ctrl_c_stops_at_once(trained, tmp_path, monkeypatch, capfd):
    real, _ = trained
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(real.parent))

    def twice(*_):
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(StyleGAN2, "training_step", dying(StyleGAN2.training_step, 3, twice, signal.SIGINT))
        assert main(fit_command(real, tmp_path / "run")) == 1
    told(capfd, "synthrad fit: interrupted")
    assert newest_valid(tmp_path / "run") is not None


def test_sample(trained, tmp_path, monkeypatch, capfd):
    real, checkpoint = trained
    command = sample_command(checkpoint, real, tmp_path / "set")
    with monkeypatch.context() as patch:
        patch.setattr(StyleGAN2, "sample", dying(StyleGAN2.sample, 2, number=signal.SIGINT))
        assert main(command) == 1
    told(capfd, "synthrad sample: interrupted; the same command resumes")
    with pytest.raises(InputError, match="manifest"):
        Manifest.read(tmp_path / "set")
    assert main(command) == 0
    assert len(Manifest.read(tmp_path / "set")) == 10

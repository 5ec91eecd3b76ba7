import lightning as L
import pytest
from tiny_generator import fit_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks.precision import check_precision, paying_precision
from synthrad.cli import SynthradCLI, parse
from synthrad.errors import InputError


@pytest.mark.filterwarnings("ignore:.*fp16 is not supported.*")
def test_float16_on_a_cpu_is_refused_before_the_first_step(tmp_path, capfd):
    make(tmp_path / "real")
    assert main([*fit_command(tmp_path / "real", tmp_path / "run"), "--trainer.precision=16-mixed"]) == 2
    said = capfd.readouterr().err
    assert "trainer.precision: found 16-mixed on a cpu; expected bf16-mixed or 32-true" in said and "Repair: use bf16-mixed" in said
    assert not (tmp_path / "run").exists()


def test_the_transformer_engine_is_refused_before_the_first_step(tmp_path, capfd):
    make(tmp_path / "real")
    assert main([*fit_command(tmp_path / "real", tmp_path / "run"), "--trainer.precision=transformer-engine"]) == 2
    assert "trainer.precision: found transformer-engine; expected 32-true or bf16-mixed" in capfd.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize("asked", [None, "32-true", "bf16-mixed", 32, "64-true"])
def test_what_a_cpu_has(asked):
    options = {} if asked is None else {"precision": asked}
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **options)
    check_precision(asked, trainer)
    with pytest.raises(InputError, match="found 16 on a cpu"):
        check_precision(16, trainer)


@pytest.mark.parametrize(("cuda", "has", "accelerator", "chosen"), [
    (True, True, "auto", "bf16-mixed"), (True, False, "gpu", "32-true"), (True, True, "cpu", "32-true"), (False, False, "auto", "32-true")])
def test_what_pays_on_a_gpu(monkeypatch, cuda, has, accelerator, chosen):
    on_cpu(monkeypatch, False, False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: has or including_emulation)
    assert paying_precision(accelerator) == chosen


@pytest.mark.parametrize(("avx512_bf16", "amx", "chosen"), [(True, False, "bf16-mixed"), (False, True, "bf16-mixed"), (False, False, "32-true")])
def test_what_pays_on_a_cpu(monkeypatch, avx512_bf16, amx, chosen):
    on_cpu(monkeypatch, avx512_bf16, amx)
    assert paying_precision("cpu") == chosen


def on_cpu(monkeypatch, avx512_bf16, amx):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)


TASK = ["--model=SegmentationTask", "--model.net=SmpNet", "--data=FusionDataModule", "--data.size=[32,32]", "--data.batch_size=2", "--trainer.max_steps=1",
        "--trainer.accelerator=cpu", "--trainer.limit_val_batches=0"]


def test_a_fit_takes_what_pays_and_its_folder_keeps_it(tmp_path, monkeypatch):
    make(tmp_path / "real")
    command = ["fit", *TASK, f"--data.manifest={tmp_path / 'real'}"]
    settled = lambda run, *more: precision_of([*command, f"--trainer.default_root_dir={tmp_path / run}", *more])  # noqa: E731
    monkeypatch.setattr("synthrad.cli.paying_precision", lambda accelerator: "32-true")
    assert main([*command, f"--trainer.default_root_dir={tmp_path / 'before'}"]) == 0  # as fits that named none were, before
    assert settled("new") is None
    monkeypatch.setattr("synthrad.cli.paying_precision", lambda accelerator: "bf16-mixed")
    assert (settled("before"), settled("new"), settled("new", "--trainer.precision=64-true")) == (None, "bf16-mixed", "64-true")
    assert main([*command, f"--trainer.default_root_dir={tmp_path / 'low'}"]) == 0
    assert "precision: bf16-mixed" in (tmp_path / "low" / "config.yaml").read_text()
    monkeypatch.setattr("synthrad.cli.paying_precision", lambda accelerator: "32-true")
    assert settled("low") == "bf16-mixed"  # it goes on elsewhere


def precision_of(command):
    class Settling(SynthradCLI):
        def instantiate_classes(self):
            """Make nothing."""

        def _run_subcommand(self, subcommand):
            """Run nothing."""

    return parse(command, Settling).config["fit"].trainer.precision

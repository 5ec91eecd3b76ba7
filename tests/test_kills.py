"""kill -9 in the middle: what is left is not taken for whole, and the same command gives what it would have given."""

import os
import signal
from pathlib import Path

import pytest
from forks import dying, forks, in_child
from tiny_generator import fit_command, fitted, same_weights, sample_command

import synthrad.blocks
import synthrad.sampling.drawing
from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.callbacks.durable_checkpoint import step_of
from synthrad.errors import InputError
from synthrad.generators.gan import StyleGAN2
from synthrad.records import Manifest

pytestmark = forks


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of the real set, a checkpoint, and an uninterrupted synthetic set."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        real, checkpoint = fitted(folder)
        assert main(sample_command(checkpoint, real, folder / "set")) == 0
    return real, checkpoint, folder / "set"


@pytest.fixture(autouse=True)
def one_project(trained, project_folder, monkeypatch):
    """Sets are sealed with the project's key: equal bytes need one project."""
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(trained[0].parent))


def everything(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def half_an_image(drawn, i, k, out, info, layers):
    path = out / f"images/image/{k:06d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n half")


MOMENTS = {
    "first file": ("synthrad.files.os.replace", 1, None),
    "half an image": ("synthrad.sampling.drawing.write_image", 6, half_an_image),
    "a block without its mark": ("synthrad.blocks.write_durably", 2, None),
    "half of the table": ("synthrad.files.os.replace", 5, None),
    "half of dataset.yaml": ("synthrad.files.os.replace", 6, None),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_sampling_resumes_to_the_same_bytes(trained, tmp_path, monkeypatch, moment):
    real, checkpoint, whole = trained
    command = sample_command(checkpoint, real, tmp_path / "set")
    name, call, before = MOMENTS[moment]
    module, attribute = name.rsplit(".", 1)
    owner = {"synthrad.files.os": os, "synthrad.sampling.drawing": synthrad.sampling.drawing, "synthrad.blocks": synthrad.blocks}[module]
    with monkeypatch.context() as patch:
        patch.setattr(owner, attribute, dying(getattr(owner, attribute), call, before))
        assert in_child(main, command) == -signal.SIGKILL
    assert everything(tmp_path / "set") != everything(whole)
    with pytest.raises(InputError, match="manifest"):
        Manifest.read(tmp_path / "set")
    assert main(command) == 0
    assert everything(tmp_path / "set") == everything(whole)


def test_a_kill_after_the_last_file_draws_nothing_again(trained, tmp_path, monkeypatch):
    real, checkpoint, whole = trained
    command = sample_command(checkpoint, real, tmp_path / "set")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rmdir", dying(Path.rmdir))
        assert in_child(main, command) == -signal.SIGKILL
    assert len(Manifest.read(tmp_path / "set")) == 10  # whole, but for the marks
    monkeypatch.setattr(synthrad.sampling.drawing, "write_image", lambda *a: pytest.fail("an image of a whole set was written again"))
    assert main(command) == 0
    assert everything(tmp_path / "set") == everything(whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 1)], ids=["kill", "term"])
def test_a_killed_fit_goes_on_by_the_same_command(trained, tmp_path, monkeypatch, capfd, number, code):
    real, checkpoint, _ = trained
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(real.parent))
    command = fit_command(real, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(StyleGAN2, "training_step", dying(StyleGAN2.training_step, 4, number=number))
        assert in_child(main, command) == code
    said = capfd.readouterr().err
    if code == 1:
        assert "stopped by SIGTERM" in said and "The same command resumes" in said and "Traceback" not in said
    stopped = newest_valid(tmp_path / "run")
    assert 0 < step_of(stopped) < step_of(checkpoint)
    seen = []
    step = StyleGAN2.training_step
    monkeypatch.setattr(StyleGAN2, "training_step", lambda self, *a: (seen.append(self.steps_done), step(self, *a))[1])
    assert main(command) == 0
    assert seen and seen[0] > 0  # it did not start again
    assert same_weights(newest_valid(tmp_path / "run"), checkpoint)


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(trained, tmp_path, monkeypatch):
    real, checkpoint, _ = trained
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(real.parent))
    command = fit_command(real, tmp_path / "run")
    from synthrad.callbacks import durable_checkpoint

    def half(path, data):
        Path(path).write_bytes(data[: len(data) // 2])  # as a file system without order would leave it

    with monkeypatch.context() as patch:
        patch.setattr(durable_checkpoint, "write_durably", dying(durable_checkpoint.write_durably, 7, half))
        assert in_child(main, command) == -signal.SIGKILL
    torn = max((tmp_path / "run" / "checkpoints").glob("last-*.ckpt"), key=step_of)
    with pytest.warns(UserWarning, match="torn"):
        assert step_of(newest_valid(tmp_path / "run")) < step_of(torn)
    with pytest.warns(UserWarning, match="torn"):
        assert main(command) == 0
    assert same_weights(newest_valid(tmp_path / "run"), checkpoint)

"""A full disk in fit and sample: one message with file and repair, exit code 1; the same command then finishes."""

from pathlib import Path

import pytest
from disks import full_disk
from tiny_generator import fit_command, same_weights, sample_command

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.callbacks.durable_checkpoint import step_of
from synthrad.errors import InputError
from synthrad.lineage import project_key
from synthrad.records import Manifest


def told(capfd, *words):
    err = capfd.readouterr().err
    assert all(w in err for w in ("No space left on device", "Repair: make room", *words)), err
    assert "Traceback" not in err


@pytest.mark.parametrize("after", [1, 14, 17])  # the mark of the run; a checkpoint; its sha256
def test_fit(trained, tmp_path, monkeypatch, capfd, after):
    real, checkpoint = trained
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(real.parent))
    command = fit_command(real, tmp_path / "run")
    with monkeypatch.context() as patch:
        full_disk(patch, after)
        assert main(command) == 1
    told(capfd, "synthrad fit", str(tmp_path / "run"))
    kept = newest_valid(tmp_path / "run")
    assert (kept is None) == (after == 1)
    assert kept is None or 0 < step_of(kept) < step_of(checkpoint)
    assert main(command) == 0
    assert same_weights(newest_valid(tmp_path / "run"), checkpoint)


@pytest.mark.parametrize("after", [0, 11, 27, 29])  # first file; an image; the table; dataset.yaml
def test_sample(trained, tmp_path, monkeypatch, capfd, after):
    real, checkpoint = trained
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(real.parent))  # where the fit left the project's key
    command = sample_command(checkpoint, real, tmp_path / "set")
    with monkeypatch.context() as patch:
        full_disk(patch, after)
        assert main(command) == 1
    told(capfd, "synthrad sample", str(tmp_path / "set"))
    with pytest.raises(InputError, match="manifest"):
        Manifest.read(tmp_path / "set")
    assert main(command) == 0
    assert len(Manifest.read(tmp_path / "set")) == 10
    files = [p for p in (tmp_path / "set").rglob("*") if p.is_file()]
    assert not [p for p in files if p.name.startswith(".")], "a draft stayed"


def test_a_real_full_device(trained, capfd, monkeypatch):
    """What the system itself says and does, where it lends a device that is always full."""
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is missing")
    real, checkpoint = trained
    out = real.parent / "to_full"
    (out / "images" / "image").mkdir(parents=True)
    (out / "images" / "image" / "000003.png").symlink_to("/dev/full")
    from synthrad.sampling import set_folder

    monkeypatch.setattr(set_folder, "is_finished", lambda *_: False)  # the folder is not empty
    assert main(sample_command(checkpoint, real, out)) == 1
    told(capfd)
    assert not (out / "dataset.yaml").exists()


def test_the_project_key(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        full_disk(patch, 0)
        with pytest.raises(OSError, match="No space left") as e:
            project_key(tmp_path)
    assert e.value.filename == str(tmp_path / ".synthrad" / "key")
    assert not list((tmp_path / ".synthrad").iterdir())  # no draft is left
    assert len(project_key(tmp_path)) == 32

"""Checkpoints as files: changed bytes and foreign objects are refused, whichever way they come."""

import pickle
import zipfile

import pytest
import torch

from synthrad.checkpoints import check_bytes, is_valid, read_checkpoint, sidecar
from synthrad.errors import InputError
from synthrad.files import file_digest


class Trap:
    def __reduce__(self):
        return print, ("ran",)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save({"weight": torch.arange(1000.0), "step": 3}, path)
    return path


def flipped(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_what_was_saved_is_read(saved):
    assert read_checkpoint(saved)["step"] == 3 and not is_valid(saved)
    sidecar(saved).write_text(file_digest(saved))
    assert is_valid(saved) and torch.equal(read_checkpoint(saved)["weight"], torch.arange(1000.0))


def test_a_flipped_bit_of_a_weight_is_noticed_with_its_sha256_and_without(saved):
    digest, at = file_digest(saved), saved.read_bytes().find(torch.tensor([500.0, 501.0]).numpy().tobytes())
    flipped(saved, at)
    assert not torch.equal(torch.load(saved, weights_only=True)["weight"], torch.arange(1000.0))  # torch says nothing
    with pytest.raises(InputError, match="differ from the checksum"):
        read_checkpoint(saved)
    sidecar(saved).write_text(digest)
    with pytest.raises(InputError, match="differ from its sha256"):
        read_checkpoint(saved)


def test_a_sha256_that_is_no_text_vouches_for_nothing(saved):
    sidecar(saved).write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="differ from its sha256"):
        check_bytes(saved)


def test_packed_entries_and_no_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(10_000_000))
    with pytest.raises(InputError, match="packed"):
        read_checkpoint(tmp_path / "bomb.ckpt")
    with pytest.raises(InputError, match="no such file"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("legacy", [False, True])
def test_no_code_runs_whatever_the_environment_says(tmp_path, monkeypatch, capsys, legacy):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = tmp_path / "a.ckpt"
    if legacy:
        path.write_bytes(pickle.dumps(Trap()))
    else:
        torch.save({"state_dict": Trap()}, path)
    with pytest.raises(InputError, match="cannot be read"):
        read_checkpoint(path)
    assert "ran" not in capsys.readouterr().out

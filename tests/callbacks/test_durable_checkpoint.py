import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_fit
import torch

from synthrad.callbacks import DurableCheckpoint, newest_valid
from synthrad.callbacks.durable_checkpoint import is_valid, step_of
from synthrad.errors import RunError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted fit."""
    return tiny_fit.fit(tmp_path_factory.mktemp("whole"))


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def best_of(trainer):
    keeper = next(c for c in trainer.callbacks if isinstance(c, DurableCheckpoint))
    return keeper.best_step, keeper.best_score


def start(folder, temporary):
    here = Path(tiny_fit.__file__)
    env = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(here.parents[2])}
    process = subprocess.Popen([sys.executable, str(here), str(folder)], env=env, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((folder / "checkpoints").glob("last-*.ckpt")):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("stop", [7, 12, 13, 30])
def test_resume_equals_uninterrupted_bit_for_bit(whole, tmp_path, stop):
    tiny_fit.fit(tmp_path, steps=stop)
    model, trainer = tiny_fit.fit(tmp_path)
    assert trainer.global_step == tiny_fit.STEPS
    assert same_weights(model, whole[0])
    assert best_of(trainer) == best_of(whole[1])


def test_kill_leaves_a_valid_checkpoint_and_resumes(whole, tmp_path):
    elsewhere = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path
    process = start(tmp_path / "run", elsewhere)
    time.sleep(0.4)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    found = newest_valid(tmp_path / "run")
    assert found is not None and 0 < step_of(found) < tiny_fit.STEPS
    model, _ = tiny_fit.fit(tmp_path / "run")
    assert same_weights(model, whole[0])


def test_sigterm_stops_cleanly_and_says_how_to_go_on(whole, tmp_path):
    process = start(tmp_path / "run", tmp_path)
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "SIGTERM" in message and "The same command resumes" in message and "Traceback" not in message
    assert newest_valid(tmp_path / "run") is not None
    model, _ = tiny_fit.fit(tmp_path / "run")
    assert same_weights(model, whole[0])


def test_a_torn_checkpoint_is_passed_over(tmp_path):
    tiny_fit.fit(tmp_path, steps=9)
    newest, older = sorted((tmp_path / "checkpoints").glob("last-*.ckpt"), key=step_of, reverse=True)[:2]
    newest.write_bytes(newest.read_bytes()[:-100])
    assert not is_valid(newest)
    with pytest.warns(UserWarning, match="torn"):
        assert newest_valid(tmp_path) == older


def test_weights_that_are_not_finite_are_never_written(tmp_path):
    with pytest.raises(RunError, match="not finite"):
        tiny_fit.fit(tmp_path, spoil_at=10)
    kept = newest_valid(tmp_path)
    state = torch.load(kept, weights_only=True)["state_dict"]
    assert step_of(kept) <= 10 and all(torch.isfinite(v).all() for v in state.values())


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    tiny_fit.fit(tmp_path, steps=6)
    before = newest_valid(tmp_path)

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        tiny_fit.fit(tmp_path)
    monkeypatch.undo()
    assert newest_valid(tmp_path) == before

"""Gate: kill -9, full disks and an unwritable folder, with TMPDIR on another file system: no checkpoint is torn or lost in silence.

Half of the kills come at random times, half in the middle of writing. Short forms: tests/callbacks/test_durable_checkpoint.py,
tests/test_kills.py, tests/test_full_disk.py.
"""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tiny_fit
import torch
from disks import full_disk
from forks import dying, forks, in_child, killed

from synthrad.callbacks import DurableCheckpointIO, newest_valid
from synthrad.callbacks.durable_checkpoint import step_of
from synthrad.files import write_durably

pytestmark = [pytest.mark.gate, forks, pytest.mark.filterwarnings("ignore:.*torn or unfinished.*")]
KILLS = 50
NOBODY = 65534


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """TMPDIR on another file system than the run."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system to write to")
    folder = Path(tempfile.mkdtemp(dir=shared))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder
    shutil.rmtree(folder)


def fit(folder, steps=tiny_fit.STEPS):
    tiny_fit.fit(folder, steps=steps, pause=0.005)


def dying_at_write(folder, call, name):
    """A fit that is killed at a call of fsync or replace; True bytes of half a file may lie there then."""
    setattr(os, name, dying(getattr(os, name), call))
    fit(folder)


def readable(folder, before):
    """The step of the newest whole checkpoint; what is wrong with it, if anything."""
    found = newest_valid(folder)
    if found is None:
        return -1, "the checkpoints are gone" if before >= 0 else None
    saved = DurableCheckpointIO().load_checkpoint(found)
    if step_of(found) < before or saved["global_step"] != step_of(found):
        return step_of(found), f"back from step {before} to {step_of(found)}"
    return step_of(found), None


def test_kills(tmp_path, elsewhere, tally):
    whole, lost, kills, number = tiny_fit.fit(tmp_path / "whole")[0].state_dict(), [], 0, 0
    rng = np.random.default_rng(0)
    while kills < KILLS:
        folder, step = tmp_path / f"run{number}", -1
        for k in range(6):  # victims of one folder, each going on where the one before was killed
            if k % 2:
                died = killed(fit, folder, after=float(rng.uniform(0.05, 0.5)))
            else:
                died = in_child(dying_at_write, folder, int(rng.integers(1, 9)), ("fsync", "replace")[k % 4 // 2]) < 0
            kills += died
            step, wrong = readable(folder, step)
            lost += [f"run {number}, victim {k}: {wrong}"] if wrong else []
        model = tiny_fit.fit(folder)[0]
        if not all(torch.equal(v, whole[k]) for k, v in model.state_dict().items()):
            lost.append(f"run {number}: other weights at the end")
        number += 1
    tally("Checkpoints: kill -9, TMPDIR elsewhere", kills, lost)


def test_full_disks(tmp_path, elsewhere, monkeypatch, tally):
    lost = []
    tiny_fit.fit(tmp_path / "begun", steps=6)
    for after in range(5):  # at the checkpoint, at its sha256, at the next one ...
        folder = tmp_path / str(after)
        shutil.copytree(tmp_path / "begun", folder)
        before = newest_valid(folder)
        with monkeypatch.context() as patch:
            full_disk(patch, after)
            try:
                tiny_fit.fit(folder)
                lost.append(f"full after {after} files: nothing was raised")
            except OSError as e:
                lost += [] if e.errno == 28 else [str(e)]
        if (wrong := readable(folder, step_of(before))[1]) is not None:
            lost.append(f"full after {after} files: {wrong}")
    tally("Checkpoints: full disk", 5, lost)


def as_nobody(folder):
    """In a fork: 7 where a fit of a folder that is not ours says so."""
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    try:
        write_durably(folder / "checkpoints" / "x", b"")
    except PermissionError:
        pass
    else:
        return 5  # it is writable: nothing would be tested
    try:
        tiny_fit.fit(folder)
    except PermissionError as e:
        return 7 if str(folder) in str(e) else 6
    return 0


def test_an_unwritable_folder(elsewhere, tally):
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        folder.chmod(0o755)
        tiny_fit.fit(folder, steps=6)
        before, checkpoints = newest_valid(folder), folder / "checkpoints"
        checkpoints.chmod(0o555)
        code = in_child(as_nobody, folder)
        lost = [] if code == 7 and newest_valid(folder) == before else [f"exit code {code}, newest {newest_valid(folder)}"]
        checkpoints.chmod(0o755)
    finally:
        shutil.rmtree(folder)
    tally("Checkpoints: unwritable folder", 1, lost)

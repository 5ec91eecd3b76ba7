"""Gate: kill -9 at random moments of sampling and of a study's jobs changes no byte of what they leave, and nobody is a second writer.

Each victim is a fork that goes on where the one before was killed. Short forms: tests/test_kills.py, tests/test_one_writer.py,
tests/study/test_study_robustness.py.
"""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from forks import forks, in_child, killed
from test_study_robustness import FIT, cases, job, open_graph, write_study
from tiny_generator import fitted, sample_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import DurableCheckpoint
from synthrad.errors import RunError
from synthrad.locking import locked
from synthrad.records import Manifest
from synthrad.study import fitting, jobs

pytestmark = [pytest.mark.gate, forks]


def seconds(function, *args) -> float:
    begun = time.monotonic()
    assert in_child(function, *args) == 0
    return time.monotonic() - begun


def everything(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def tidy(folder: Path) -> bool:
    """No image of an unfinished set can be taken for a finished one's."""
    try:
        Manifest.read(folder)
    except Exception:
        return not (folder / "dataset.yaml").exists()
    return True


def test_sampling(tmp_path, monkeypatch, tally):
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path))
    real, checkpoint = fitted(tmp_path)
    command = lambda out: [*sample_command(checkpoint, real, out)[:-6], "--number", "24", "--block-size", "2", "--device", "cpu"]  # noqa: E731
    whole, lost, kills, number = tmp_path / "set", [], 0, 0
    long = seconds(main, command(whole))
    rng = np.random.default_rng(0)
    while kills < 50:
        out = tmp_path / f"set{number}"
        while kills < 50 and killed(main, command(out), after=float(rng.uniform(0.2, 1.2) * long)):
            kills += 1
            if not tidy(out):
                lost.append(f"kill {kills}: what is left is taken for a whole set")
        assert main(command(out)) == 0
        if everything(out) != everything(whole):
            lost.append(f"set {number}: other bytes")
        number += 1
    tally("Sampling, kill -9", kills, lost)


def study_jobs(run: Path) -> int:
    """What a study of an imported set runs, job after job; each knows what is done."""
    fits = [["fit", f] for f in (FIT, "find/tiny/real_only") if not (run / f / "done.json").exists()]
    for argv in (["pool", "made"], ["arms"], *fits, ["report"]):
        os.chdir(run)  # a job goes where the study was started
        if code := jobs.main(list(argv)):
            return code
    return 0


def results(run: Path) -> dict[str, bytes]:
    """Cases, measurements, arms and the pool's manifest."""
    files = [*run.rglob("cases.parquet"), *run.rglob("measurements.jsonl"), *run.glob("arms/*.json"), *run.rglob("manifest.csv")]
    return {str(p.relative_to(run)): p.read_bytes() for p in files}


def two_writers(run: Path) -> bool:
    """Whether a job of the study could begin while another one holds its folder."""
    with locked(run / FIT / ".lock", "a test"):
        return job(run, "fit", FIT) != 1


def test_study(tmp_path, monkeypatch, tally):
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path))
    monkeypatch.setattr(fitting, "DurableCheckpoint", lambda *a, **k: DurableCheckpoint(*a, **{**k, "every_steps": 1}))
    make(tmp_path / "real")
    make(tmp_path / "made", source="synthetic", seed=1, name="made")
    path, lost, kills, number = write_study(tmp_path, "tiny"), [], 0, 0
    run = open_graph(path, tmp_path / "whole")
    shutil.copytree(run, tmp_path / "empty" / "tiny")
    assert in_child(study_jobs, run) == 0  # imports what the forks need, and reads the caches
    shutil.rmtree(run)
    shutil.copytree(tmp_path / "empty" / "tiny", run)
    long = seconds(study_jobs, run)
    wanted = results(run)
    assert len(wanted) >= 8 and any("measurements" in k for k in wanted) and len(cases(run)) == 2
    rng = np.random.default_rng(0)
    while kills < 20:
        run = tmp_path / f"run{number}" / "tiny"
        shutil.copytree(tmp_path / "empty" / "tiny", run)
        while kills < 20 and killed(study_jobs, run, after=float(rng.uniform(0.1, 0.9) * long)):
            kills += 1
            try:
                with locked(run / FIT / ".lock", "a test"):
                    pass
            except RunError:
                lost.append(f"kill {kills}: the lock of the dead stayed")
        if in_child(study_jobs, run) != 0 or results(run) != wanted:
            lost.append(f"study {number}: {[k for k, v in results(run).items() if wanted.get(k) != v]} differ")
        number += 1
    (run / FIT / "done.json").unlink()
    tally("Study, kill -9", kills, [*lost, *(["two writers in one folder"] if two_writers(run) else [])])

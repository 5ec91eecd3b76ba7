"""Jobs of a study that are killed, stopped, starved of disk or doubled; external sets; pools that cannot fill an arm."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np
import pytest
import yaml
from forks import dying, forks, in_child
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import DurableCheckpoint
from synthrad.cases import read_cases
from synthrad.errors import RunError
from synthrad.locking import locked
from synthrad.measurements import read_measurements
from synthrad.records import Manifest
from synthrad.study import command, failures, fitting, jobs, other_sets
from synthrad.study.settling import settled
from synthrad.study.study_file import load_study
from synthrad.tasks import ClassificationTask

pytestmark = forks
FIT = "find/tiny/only"


def write_study(folder, name, **changes):
    """A study of two arms, one net and two seeds on an imported set; `folder` holds real and made."""
    study = {
        "name": name, "mechanics": True, "manifest": str(folder / "real"), "size": [32, 32], "seeds": 2,
        "cells": {"classes": ["caries"]}, "sources": {"made": {"manifest": str(folder / "made")}},
        "arms": {"real_only": {"strategy": "RealOnly"}, "only": {"strategy": "SyntheticOnly", "source": "made"}},
        "tasks": {"find": {"kind": "classification", "classes": ["caries"], "steps": 4, "batch_size": 4, "validations": 2,
                           "nets": {"tiny": {"class_path": "TimmNet", "init_args": {"name": "test_resnet"}}}}},
        "endpoint": {"task": "find", "net": "tiny", "metric": "auroc", "classes": ["caries"]},
    }  # fmt: skip
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**study, **changes}))
    return path


def open_graph(path, runs):
    """What `study run` writes before Snakemake starts."""
    study = settled(load_study(path))
    (runs / study.name).mkdir(parents=True)
    command._write_graph(study, path, runs / study.name)
    return runs / study.name


def job(run, *argv):
    """Exit code of one job in a process of its own, as Snakemake starts it."""

    def call():
        os.chdir(run)
        return jobs.main(list(argv))

    return in_child(call)


def cases(run, fit=FIT):
    return [(run / fit / f"seed{s}" / "cases.parquet").read_bytes() for s in range(2)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A real and a synthetic set, a run folder with its pool, and the cases of an uninterrupted fit."""
    folder = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        make(folder / "real")
        make(folder / "made", source="synthetic", seed=1, name="made")
        run = open_graph(write_study(folder, "tiny"), folder / "runs")
        assert job(run, "pool", "made") == 0
        shutil.copytree(run, folder / "pooled" / "tiny")
        assert job(run, "fit", FIT) == 0
    return folder, cases(run)


@pytest.fixture
def run(lab, tmp_path, monkeypatch):
    """A run folder whose pool is made and whose fits are not; states are saved at every step."""
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(lab[0]))
    monkeypatch.setattr(fitting, "DurableCheckpoint", lambda *a, **k: DurableCheckpoint(*a, **{**k, "every_steps": 1}))
    shutil.copytree(lab[0] / "pooled" / "tiny", tmp_path / "runs" / "tiny")
    return tmp_path / "runs" / "tiny"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 1)], ids=["kill", "term"])
def test_a_fit_stopped_in_its_second_seed_goes_on(lab, run, monkeypatch, capfd, number, code):
    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, "training_step", dying(ClassificationTask.training_step, 7, number=number))
        assert job(run, "fit", FIT) == code
    said = capfd.readouterr().err
    assert ("stopped by SIGTERM" in said) == (code == 1) and "Traceback" not in said
    assert not (run / FIT / "done.json").exists() and not (run / FIT / "seed1" / "fit.json").exists()
    first = (run / FIT / "seed0" / "fit.json").stat().st_mtime_ns
    assert job(run, "fit", FIT) == 0
    assert (run / FIT / "seed0" / "fit.json").stat().st_mtime_ns == first
    assert json.loads((run / FIT / "seed1" / "fit.json").read_text())["resumed_from"]
    assert cases(run) == lab[1]


def test_sigterm_during_a_test_starts_no_other_seed(lab, run, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, "test_step", dying(ClassificationTask.test_step, 1, number=signal.SIGTERM))
        assert job(run, "fit", FIT) == 1
    said = capfd.readouterr().err
    assert "interrupted" in said and "Traceback" not in said
    assert not (run / FIT / "seed1").exists()
    assert job(run, "fit", FIT) == 0 and cases(run) == lab[1]


@pytest.mark.parametrize("when", ["before fit.json", "among the removals"])
def test_a_kill_after_the_test_keeps_what_belongs_together(lab, run, monkeypatch, when):
    kill = dying(lambda *_: None)
    with monkeypatch.context() as patch:
        if when == "before fit.json":
            write = fitting.write_durably
            patch.setattr(fitting, "write_durably", lambda p, d: kill() if p.name == "fit.json" else write(p, d))
        else:
            unlink = type(run).unlink
            patch.setattr(type(run), "unlink", lambda p, **k: (unlink(p, **k), kill() if "best-" in p.name else 0)[0])
            patch.setattr(DurableCheckpoint, "_drop", lambda *_: None)  # the only removals are those at the end
        assert job(run, "fit", FIT) == -signal.SIGKILL
    assert job(run, "fit", FIT) == 0
    assert cases(run) == lab[1]


def test_a_full_disk_in_a_fit(lab, run, monkeypatch, capfd):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert job(run, "fit", FIT) == 1
    said = capfd.readouterr().err
    assert "No space left on device" in said and str(run) in said and "Repair: make room" in said and "Traceback" not in said
    assert not (run / FIT / "done.json").exists()
    assert job(run, "fit", FIT) == 0 and cases(run) == lab[1]


def test_an_orphan_in_a_job_folder_is_the_only_writer(run, capfd):
    holder = ("import sys, time\nfrom pathlib import Path\nfrom synthrad.locking import locked\n"
              "with locked(Path(sys.argv[1]), 'x') as lock:\n"
              "    child = lock.start([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
              "    print(child.pid, flush=True)\n    child.wait()")
    parent = subprocess.Popen([sys.executable, "-c", holder, str(run / FIT / ".lock")], stdout=subprocess.PIPE, text=True)
    orphan = int(parent.stdout.readline())
    try:
        parent.kill()  # as kill -9 of a generator's job leaves its `synthrad fit`
        parent.wait()
        assert job(run, "fit", FIT) == 1
        said = capfd.readouterr().err
        assert f"`kill {orphan}` ends it" in said and "wait for it" in said and "Traceback" not in said
        assert not list((run / FIT).glob("seed*"))
    finally:
        os.kill(orphan, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with locked(run / FIT / ".lock", "fit"):
                return
        except RunError:
            time.sleep(0.1)
    raise AssertionError("the lock of a killed orphan stayed")


def test_an_external_set_is_reported_and_never_selected_on(lab, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(lab[0]))
    monkeypatch.chdir(tmp_path)
    facts = {}
    for kind in ("as it is", "labels turned"):
        home = tmp_path / kind.replace(" ", "_")
        other = make(home / "other", seed=7, name="elsewhere")
        if kind == "labels turned":
            table = other.table.copy()
            table["label:caries"] = 1 - table["label:caries"]
            Manifest(table, other.info).write(home / "other")
        path = write_study(lab[0], "outside", external={"other_site": str(home / "other")})
        run = open_graph(path, home / "runs")
        if kind == "as it is":  # what `study run` finds before its first job
            (run / other_sets.FILE).write_text(json.dumps({"compared": {}, "findings": [asdict(other_sets.Finding("external.other_site", "unknown", "nobody knows"))]}))
        for argv in (["pool", "made"], ["arms"], ["fit", FIT], ["fit", "find/tiny/real_only"], ["report"]):
            assert job(run, *argv) == 0
        table = read_cases([run / f / f"seed{s}" / "cases.parquet" for f in (FIT, "find/tiny/real_only") for s in range(2)])
        assert set(table["external"]) == {"", "other_site"}
        away = table[table["external"] == "other_site"]
        assert away["image"].nunique() == 4 and set(away["arm"]) == {"only", "real_only"}  # its test split alone
        chosen = [json.loads((run / f / "seed1" / "fit.json").read_text()) for f in (FIT, "find/tiny/real_only")]
        facts[kind] = [(c["best_step"], c["score_val"]) for c in chosen], table[table["external"] == ""], away
        page = (run / "report.html").read_text()
        assert "other_site" in page and ("by pixels unknown: nobody knows" in page) == (kind == "as it is") == ("begun by an older version" not in page)
        measured = read_measurements(run / "measurements.jsonl")
        assert {m.subgroup for m in measured} == {"", "external:other_site"}
    same, turned = facts.values()
    assert same[0] == turned[0]
    assert same[1].reset_index(drop=True).equals(turned[1].reset_index(drop=True))
    np.testing.assert_allclose(same[2]["target"].to_numpy(), 1 - turned[2]["target"].to_numpy())


def test_a_pool_that_cannot_fill_an_arm(lab, tmp_path, monkeypatch, capfd):
    """Through `study run`, Snakemake and all."""
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(lab[0]))
    few = Manifest.read(lab[0] / "made")
    few = few.take([i for i in range(len(few)) if i % 2 or i < 4])
    few.with_columns({"score:max_correlation": np.zeros(len(few))}).write(tmp_path / "few")
    sources = {"made": {"manifest": str(tmp_path / "few"), "filter": str(tmp_path / "all.yaml")}}
    # without a filter it is told before any job
    (tmp_path / "all.yaml").write_text("class_path: NoNearDuplicates\n")
    path = write_study(lab[0], "short", sources=sources, allow_copies={"sources.made": "squares look alike"})
    argv = ["study", "run", str(path), "--runs", str(tmp_path / "runs"), "--cores", "1"]
    assert main(argv) == 2
    said = capfd.readouterr().err
    last = said[said.rindex("synthrad study:") :]
    for word in ("arms.only", "source 'made'", "cell caries=0: 6 wanted, 2 available", "expected", "Repair: sample 4 more"):
        assert word in last, said
    assert "Traceback" not in said and len(said.splitlines()) < 10, said  # Snakemake's pages are in its log
    assert "arms" in (tmp_path / "runs" / "short" / command.LOG).read_text()
    assert not list((tmp_path / "runs").glob("short/find/*/*/seed*")), "a fit ran before the arms were checked"


def test_failures_are_of_the_last_run(tmp_path):
    failures.note(tmp_path, "fit a/b/c", RunError("x"), "job fit a/b/c: x")
    assert failures.read(tmp_path) == (["job fit a/b/c: x"], False)
    failures.forget(tmp_path)
    assert failures.read(tmp_path) == ([], False)

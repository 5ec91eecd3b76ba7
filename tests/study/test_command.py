"""The whole study on a few phantoms with an imported synthetic set: run, look, run again, change an arm, bad input."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from synthrad.__main__ import main
from synthrad.cases import read_cases
from synthrad.data.phantom import draw_dialled, write_phantoms
from synthrad.errors import RunError
from synthrad.locking import locked
from synthrad.measurements import read_measurements
from synthrad.study.board_events import scalar, write_events

STUDY = {
    "name": "tiny", "mechanics": True, "manifest": "real", "size": [32, 64], "seeds": 1,
    "cells": {"classes": ["caries", "deep_caries"]},
    "sources": {"good": {"manifest": "good"}},
    "arms": {"real_only": {"strategy": "RealOnly"},
             "matched": {"strategy": "Matched", "source": "good"},
             "nothing": {"strategy": "ClassBalanced", "args": {"cap": 1}, "source": "good"},
             "only": {"strategy": "SyntheticOnly", "source": "good"}},
    "tasks": {"findings": {"kind": "classification", "classes": ["caries"], "steps": 4, "batch_size": 4, "validations": 2,
                           "nets": {"resnet18": {"class_path": "TimmNet"}}}},
    "endpoint": {"task": "findings", "net": "resnet18", "metric": "auroc", "classes": ["caries"]},
}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    real = write_phantoms(tmp_path / "real", 48, (32, 64), 0, fractions=(0.4, 0.2, 0.1, 0.3))
    draw_dialled(real, tmp_path / "good", 80, "good", 1)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(STUDY))
    return tmp_path


@pytest.mark.slow  # a dozen jobs, each of which imports everything; test_study_robustness runs jobs in forks
def test_run_then_again_then_changed(lab, capfd):
    assert main(["study", "run", "tiny.yaml", "--dry-run"]) == 0
    printed = capfd.readouterr().out
    assert "same as real_only, not fitted" in printed and "findings/resnet18/matched_duplicate" in printed
    assert not (lab / "runs").exists()

    assert main(["study", "run", "tiny.yaml"]) == 0
    run = lab / "runs" / "tiny"
    html = (run / "report.html").read_text()
    assert "MECHANICS" in html.upper()
    beside = json.loads((run / "evidence.json").read_text())["beside"]
    assert [b["arm"] for b in beside] == ["matched", "only"] and all("no p-values: mechanics" in b["note"] for b in beside)
    fits = ["real_only", "matched", "matched_duplicate", "matched_augmented", "only"]
    cases = read_cases([run / f"findings/resnet18/{arm}/seed0/cases.parquet" for arm in fits])
    assert set(cases["arm"]) == set(fits)
    counts = cases.groupby("arm")["image"].nunique()
    assert counts.nunique() == 1  # every arm is tested on the same real images
    assert not (run / "findings/resnet18/nothing").exists()
    arms = {a["name"]: a for a in json.loads((run / "arms.json").read_text())}
    assert arms["matched"]["rows_added"] == arms["matched"]["rows_real"] == arms["matched_duplicate"]["rows_added"]
    assert set(read_cases([run / "findings/resnet18/real_only/seed0/synthetic_cases.parquet"])["external"]) == {"good"}
    assert "Train on real, test on synthetic" in html and not list(run.glob("findings/resnet18/matched/seed0/checkpoints/*"))
    assert any(m.metric == "auroc" and m.arm == "only" for m in read_measurements(run / "measurements.jsonl"))
    capfd.readouterr()
    assert main(["study", "status", "tiny.yaml"]) == 0
    said = capfd.readouterr().out
    assert "0/1" not in said and "logs/fit-findings-resnet18-only.log" in said

    written = json.loads((run / "sources/good/pool.json").read_text())["manifests"]
    assert written == [f"sources/good/pool-{json.loads((run / 'graph.json').read_text())['sources']['good']['pool']}/draw0"]
    (lab / "runs").rename(lab / "moved")
    assert main(["study", "report", "tiny.yaml", "--runs", "moved"]) == 0  # a run folder can be moved
    (lab / "moved").rename(lab / "runs")
    lines = [json.loads(line) for line in (run / "summary.jsonl").read_text().splitlines()]
    assert {x["verdict"] for x in lines if x["seed"] is None} == {"no verdict"} and all(x["mechanics"] for x in lines)
    assert str(lab) not in (run / "summary.jsonl").read_text()

    before = {p: p.stat().st_mtime_ns for p in run.glob("findings/*/*/seed0/fit.json")}
    changed = {**STUDY, "arms": {**STUDY["arms"], "only": {"strategy": "SyntheticOnly", "args": {"held_out": 0.3}, "source": "good"}}}
    (lab / "tiny.yaml").write_text(yaml.safe_dump(changed))
    assert main(["study", "run", "tiny.yaml"]) == 0
    redone = {p.parts[-3] for p, t in before.items() if p.stat().st_mtime_ns != t}
    assert redone == {"only"}

    moved = {**changed, "endpoint": {**STUDY["endpoint"], "margin": 0.5}}
    (lab / "tiny.yaml").write_text(yaml.safe_dump(moved))
    assert main(["study", "run", "tiny.yaml"]) == 2
    assert "declared before the first fit" in capfd.readouterr().err


def test_a_second_writer_is_refused(lab, capfd):
    other = subprocess.Popen([sys.executable, "-c", "import sys, time; from synthrad.locking import locked\n"
                              "from pathlib import Path\n"
                              "with locked(Path(sys.argv[1]), 'x'): print('held', flush=True); time.sleep(60)",
                              str(lab / "runs/tiny/.lock")], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"held\n"
        assert main(["study", "run", "tiny.yaml"]) == 1
        assert f"pid {other.pid}" in capfd.readouterr().err
    finally:
        other.kill()
        other.wait()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:  # a killed holder leaves no stale lock
        try:
            with locked(lab / "runs/tiny/.lock", "study"):
                return
        except RunError:
            time.sleep(0.1)
    raise AssertionError("the lock of a killed process stayed")


def test_the_board_names_runs_by_study_task_net_arm_and_seed(lab, monkeypatch):
    for fit in ("findings/resnet18/matched/seed0", "findings/resnet18/only/seed1", "tensorboard"):
        write_events(lab / "runs/tiny" / fit, [(0, scalar("report/auroc", 0.5))], 0.0)
    seen = {}

    def opened(command):
        folder = command[command.index("--logdir") + 1]
        runs = EventMultiplexer().AddRunsFromDirectory(folder)
        runs.Reload()
        seen.update({name: [e.value for e in runs.Scalars(name, "report/auroc")] for name in runs.Runs()}, folder=folder)
        return 0

    monkeypatch.setattr(subprocess, "call", opened)
    assert main(["study", "board", "tiny.yaml"]) == 0
    assert not Path(seen.pop("folder")).exists() and (lab / "runs/tiny/tensorboard").is_dir()  # the link is gone, what it led to is not
    assert seen == {f"tiny/{name}": [0.5] for name in ("findings/resnet18/matched/seed0", "findings/resnet18/only/seed1", "tensorboard")}


def test_missing_manifest_is_one_message(lab, capfd):
    (lab / "tiny.yaml").write_text(yaml.safe_dump({**STUDY, "manifest": "nowhere"}))
    assert main(["study", "run", "tiny.yaml"]) == 2
    err = capfd.readouterr().err
    assert "nowhere" in err and "Traceback" not in err

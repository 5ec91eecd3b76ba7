"""`study status` and `study report` count what was made under the settings that the file has now, and nothing else."""

import json
import os
import re

import pytest
from test_study_robustness import open_graph, write_study
from tiny_set import make

from synthrad.__main__ import main
from synthrad.study import jobs

FITS = ("find/tiny/only", "find/tiny/real_only")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("standing")
    make(folder / "real")
    make(folder / "made", source="synthetic", seed=1, name="made")
    return folder


@pytest.fixture
def run(lab, tmp_path):
    """A run folder whose jobs are all said to be done."""
    path = write_study(lab, "tiny")
    run = open_graph(path, tmp_path / "runs")
    graph = json.loads((run / "graph.json").read_text())
    for key in FITS:
        rows = [{"seed": s, "identity": graph["fits"][key]["identity"]} for s in range(2)]
        for row in rows:
            (run / key / f"seed{row['seed']}").mkdir(parents=True)
            (run / key / f"seed{row['seed']}" / "cases.parquet").write_bytes(b"")
            (run / key / f"seed{row['seed']}" / "fit.json").write_text(json.dumps(row))
        (run / key / "done.json").write_text(json.dumps(rows))
    for key, identity in graph["crossed"].items():
        (run / key / "on_synthetic.json").write_text(json.dumps({"identity": identity, "images": {}, "notes": []}))
    (run / "sources/made").mkdir(parents=True)
    pools = [f"sources/made/pool-{graph['sources']['made']['pool']}/draw0"]
    (run / "sources/made/pool.json").write_text(json.dumps({"manifests": pools}))
    (run / "arms.json").write_text("[]")
    (run / "report.html").write_text("old")
    return run


def status(path, run, capsys):
    assert main(["study", "status", str(path), "--runs", str(run.parent)]) == 0
    return capsys.readouterr().out


def test_status_of_a_finished_study(lab, run, capsys):
    said = status(lab / "tiny.yaml", run, capsys)
    assert said.count("2/2 seeds") == 2 and "stale" not in said and said.splitlines()[-1].split() == ["report", "done"]
    os.utime(run / "report.html", ns=(1, 1))  # older than the fits
    assert status(lab / "tiny.yaml", run, capsys).splitlines()[-2].split() == ["report", "stale"]


def test_status_of_a_changed_study(lab, run, capsys):
    said = status(write_study(lab, "tiny", seeds=3), run, capsys)
    assert said.count("2/3 seeds") == 2 and re.search(r"report +stale", said)
    said = status(write_study(lab, "tiny", size=[64, 64]), run, capsys)
    assert said.count("0/2 seeds, 2 stale") == 2 and re.search(r"report +stale", said) and "pool made" in said


def refused(path, runs, capsys, *words):
    before = {p: p.stat().st_mtime_ns for p in runs.rglob("*")}
    assert main(["study", "report", str(path), "--runs", str(runs)]) == 2
    assert {p: p.stat().st_mtime_ns for p in runs.rglob("*")} == before, "something was written"
    said = capsys.readouterr().err
    assert all(w in said for w in (*words, f"`synthrad study run {path}`")), said


def test_no_report_of_a_changed_study(lab, run, capsys):
    refused(write_study(lab, "tiny", size=[64, 64]), run.parent, capsys, "1 of 1 sources that are of another configuration", "made")
    tasks = {"find": {"kind": "classification", "classes": ["caries"], "steps": 5, "batch_size": 4, "validations": 2,
                      "nets": {"tiny": {"class_path": "TimmNet", "init_args": {"name": "test_resnet"}}}}}
    refused(write_study(lab, "tiny", tasks=tasks), run.parent, capsys, "2 of 2 fits that are of another configuration", *FITS)


def test_no_report_of_an_unfinished_study(lab, run, tmp_path, capsys):
    refused(write_study(lab, "tiny", seeds=3), run.parent, capsys, "2 of 2 fits that are not finished", *FITS)
    path = write_study(lab, "tiny")
    (run / FITS[0] / "done.json").unlink()
    refused(path, run.parent, capsys, f"1 of 2 fits that are not finished ({FITS[0]})")
    (tmp_path / "none").mkdir()
    refused(path, tmp_path / "none", capsys, "not finished")


def test_a_report_is_of_the_file_as_it_is_now(lab, run, monkeypatch, capsys):
    before = (run / "graph.json").read_bytes()
    seen = []
    monkeypatch.setattr(jobs, "report", lambda folder, opened, pictures: seen.append(opened) or "report.html")
    path = write_study(lab, "tiny", title="Another title")
    assert main(["study", "report", str(path), "--runs", str(run.parent)]) == 0
    assert seen[0][0].title == "Another title" and (run / "graph.json").read_bytes() == before

"""The table of `study status`."""

import json
import os
import socket
import time

from synthrad.errors import RunError
from synthrad.study import failures
from synthrad.study.status import Row, rows_of, table

GRAPH = {"sources": {"gan": {"trained": True, "generator": "g", "pool": "p"}, "made": {"trained": False, "pool": "p"}},
         "crossed": {"t/n/one": "x"}, "fits": {"t/n/one": {"identity": "i", "seeds": 2}}}


def begun(folder, job, ended=None, code=None, said=""):
    (folder / "logs").mkdir(exist_ok=True)
    name = job.replace(" ", "-").replace("/", "-")
    state = {"job": job, "pid": os.getpid(), "host": socket.gethostname(), "begun": time.time() - 75, "ended": ended, "code": code}
    (folder / "logs" / f"{name}.json").write_text(json.dumps(state))
    (folder / "logs" / f"{name}.log").write_text(said)


def test_every_job_with_its_state_progress_and_log(tmp_path):
    assert [(r.job, r.state) for r in rows_of(tmp_path, GRAPH)] == [("generator gan", "open"), ("pool gan", "open"), ("pool made", "open"), ("fit t/n/one", "open"), ("crossed t/n/one", "open"), ("report", "open")]
    begun(tmp_path, "generator gan", said="begun\ntraining: 3000 of 20000 images, 25.43 images/s, 11:08 left, loss=0.3\n")
    begun(tmp_path, "pool made")
    begun(tmp_path, "fit t/n/one", ended=time.time(), code=1)
    assert {r.job: r for r in rows_of(tmp_path, GRAPH)}["fit t/n/one"].state == "stopped"
    failures.note(tmp_path, "fit t/n/one", RunError("x"), "x")
    rows = {r.job: r for r in rows_of(tmp_path, GRAPH)}
    assert rows["generator gan"] == Row("generator gan", "running", "3,000 of 20,000 images", "25.43 images/s", "11:08", "logs/generator-gan.log")
    assert rows["pool made"].progress == "for 01:15" and rows["fit t/n/one"].state == "failed" and rows["fit t/n/one"].progress == "0/2 seeds"
    begun(tmp_path, "fit t/n/one", said="t/n/one seed 1: 8 of ? images, 2.0 images/s, ? left\n")
    assert {r.job: r for r in rows_of(tmp_path, GRAPH)}["fit t/n/one"].progress == "0/2 seeds, 8 images"


def test_columns_are_aligned_and_empty_ones_are_left_out():
    said = table([Row("report", "open"), Row("fit a/b/c", "running", "8 images", log="logs/x.log")]).splitlines()
    assert said[0].split() == ["job", "state", "progress", "log"] and len({line.index(w) for line, w in zip(said, ("state", "open", "running"), strict=True)}) == 1

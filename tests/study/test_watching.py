"""What is seen of a running study."""

import json
import os
import socket
import sys
import time

from synthrad.study.watching import watched


def test_progress_is_told_from_the_logs_of_snakemake_and_of_jobs(tmp_path, capsys):
    log = tmp_path / "snakemake.log"
    log.write_text("host: x\n")
    (tmp_path / "logs").mkdir()
    with watched(tmp_path, log, every_seconds=0.01, lines_every=0.1):
        state = {"job": "fit a/b/c", "pid": os.getpid(), "host": socket.gethostname(), "begun": time.time() + 1, "ended": None, "code": None}
        (tmp_path / "logs" / "fit-a-b-c.log").write_text("x: 9 of 20 images, 3.2 images/s, 00:03 left\n")
        os.utime(tmp_path / "logs" / "fit-a-b-c.log", (state["begun"] + 1,) * 2)
        (tmp_path / "logs" / "fit-a-b-c.json").write_text(json.dumps(state))
        with open(log, "a") as f:
            f.write("RuleException\n3 of 14 steps (21%) done\n")
        time.sleep(0.3)
        (tmp_path / "logs" / "fit-a-b-c.json").write_text(json.dumps({**state, "ended": time.time(), "code": 0}))
        with open(log, "a") as f:
            f.write("4 of 14 steps (29%) done\n14 of 14 steps (100%) done\n")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "study: 3 of 13 jobs done" and lines[-1] == "study: 13 of 13 jobs done"
    assert set(lines[1:-1]) == {"  fit a/b/c: 9 of 20 images, 3.2 images/s, 00:03 left"}


def test_a_terminal_gets_a_table(tmp_path, capsys, monkeypatch):
    log = tmp_path / "snakemake.log"
    log.write_text("1 of 3 steps (33%) done\n")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with watched(tmp_path, log, every_seconds=0.01):
        time.sleep(0.1)
    assert capsys.readouterr().out.rstrip().endswith("study: 1 of 2 jobs done")

"""A log and a state for each job, of its children too."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from synthrad.study import failures
from synthrad.study.logs import log_of, logs

JOB = """
import os, subprocess, sys
from pathlib import Path
from synthrad.study.logs import logged

def run(argv):
    print("of the job")
    subprocess.run([sys.executable, "-c", "import sys; print('of a child', file=sys.stderr)"])
    print("fit: 900 of 2000 images, 25.4 images/s, 00:43 left", file=sys.stderr, flush=True)
    if argv[1] == "dies":
        os.kill(os.getpid(), 9)
    return int(argv[1] == "fails")

sys.exit(logged(Path.cwd(), ["fit", sys.argv[1]], run))
"""


def job(folder, how):
    return subprocess.run([sys.executable, "-c", JOB, how], cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("how", "code", "state"), [("well", 0, "done"), ("fails", 1, "failed"), ("dies", -signal.SIGKILL, "killed")])
def test_what_a_job_and_its_children_say_and_how_it_ended(tmp_path, how, code, state):
    done = job(tmp_path, how)
    assert done.returncode == code and done.stdout == done.stderr == ""
    log = logs(tmp_path)[f"fit {how}"]
    assert log.log == log_of(tmp_path, f"fit {how}") == tmp_path / "logs" / f"fit-{how}.log" and log.state == state
    assert log.cpu_seconds is None if state == "killed" else 0 < log.cpu_seconds < 60
    assert {"of the job", "of a child"} <= set(log.last_lines()) and log.progress.done == 900
    assert not [x for x in log.last_lines() if "images/s" in x]
    path = log.log
    path.write_text(path.read_text() + "job fit x: begun\n" + f"job fit {how}: begun today\nanew\n")
    assert log.progress is None and log.last_lines() == ["anew"]  # of the newest process alone
    job(tmp_path, how)
    assert log.log.read_text().count("of a child") == 2  # a resumed job goes on in its file


def test_a_killed_job_is_told_with_its_last_lines_unless_it_was_of_an_earlier_run(tmp_path):
    job(tmp_path, "dies")
    messages, bad_input = failures.read(tmp_path)
    assert len(messages) == 1 and "job fit dies: killed" in messages[0] and "of a child" in messages[0] and not bad_input
    assert failures.read(tmp_path, time.time()) == ([], False)
    assert failures.last_words(tmp_path, "fit other") == ""


def test_a_process_of_another_host_runs_until_it_says_that_it_ended(tmp_path):
    (tmp_path / "logs").mkdir()
    state = {"job": "arms", "pid": os.getpid(), "host": socket.gethostname(), "begun": time.time(), "ended": None, "code": None}
    for host, pid, found in ((state["host"], state["pid"], "running"), (state["host"], 2**22 + 1, "killed"), ("elsewhere", 2**22 + 1, "running")):
        (tmp_path / "logs" / "arms.json").write_text(json.dumps({**state, "host": host, "pid": pid}))
        assert logs(tmp_path)["arms"].state == found
    (tmp_path / "logs" / "arms.json").write_text(json.dumps({**state, "host": "elsewhere", "begun": time.time() - 1000}))
    assert logs(tmp_path)["arms"].state == "silent"
    assert logs(tmp_path)["arms"].progress is None and logs(tmp_path)["arms"].last_lines() == []  # no log yet

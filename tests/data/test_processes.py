"""Rows shared out to forks: each is done once, errors and deaths of a fork are told, and no fork outlives its parent."""

import errno
import os
import signal
import time

import pytest
from forks import in_child

from synthrad.data import processes
from synthrad.data.processes import cores, shared_out
from synthrad.errors import RunError


@pytest.fixture(autouse=True)
def forks_at_once(monkeypatch):
    monkeypatch.setattr(processes, "ALONE_SECONDS", -1.0)


def squared(row):
    time.sleep(0.002)
    return [row, row * row, os.getpid()]


@pytest.mark.parametrize("workers", [1, 3])
def test_every_row_is_done_once(workers):
    found = list(shared_out(squared, range(10, 90), workers))
    assert sorted(f[:2] for f in found) == [[r, r * r] for r in range(10, 90)]
    makers = {f[2] for f in found}
    assert (makers == {os.getpid()}) == (workers == 1) and len(makers) <= workers
    assert list(shared_out(squared, [], workers)) == []


def test_small_work_starts_no_process(monkeypatch):
    monkeypatch.setattr(processes, "ALONE_SECONDS", 60.0)
    assert {f[2] for f in shared_out(squared, range(20), 4)} == {os.getpid()}


def test_the_cores_of_this_process():
    assert 1 <= cores() <= os.cpu_count()


def raising(error):
    def work(row):
        if row == 7:
            raise error
        return row

    return work


def test_errors_of_a_fork_are_those_of_the_parent():
    with pytest.raises(OSError, match="No space left.*x.png") as e:
        list(shared_out(raising(OSError(errno.ENOSPC, "No space left", "x.png")), range(20), 2))
    assert (e.value.errno, e.value.filename) == (errno.ENOSPC, "x.png")
    with pytest.raises(RunError, match="^this way$"):
        list(shared_out(raising(RunError("this way")), range(20), 2))
    with pytest.raises(KeyboardInterrupt):
        list(shared_out(raising(KeyboardInterrupt()), range(20), 2))
    with pytest.raises(RuntimeError, match="ZeroDivisionError in a process(?s:.*)test_processes.py"):
        list(shared_out(lambda row: row // (row - 7), range(20), 2))


def test_a_killed_fork_is_told_with_the_repair():
    def work(row):
        if row == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return row

    with pytest.raises(RunError, match="SIGKILL.*--workers"):
        list(shared_out(work, range(20), 2))


def test_leaving_early_ends_the_forks():
    made = shared_out(squared, range(100_000), 2)
    makers = {next(made)[2] for _ in range(4)}
    made.close()
    for pid in makers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_no_fork_outlives_its_parent(tmp_path):
    def work(row):
        (tmp_path / str(os.getpid())).touch()
        time.sleep(0.05)

    def parent():
        for _ in shared_out(work, range(10_000), 2):
            if len(list(tmp_path.iterdir())) == 2:
                os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(parent) == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while any(alive(int(p.name)) for p in tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:  # an orphan that nobody has waited for is a zombie
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False

"""One writer a folder; a lock across killed parents is tested in test_study_robustness and test_study_killed."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from synthrad.errors import RunError
from synthrad.locking import locked

WAIT = [sys.executable, "-c", "import sys; sys.stdin.read()"]  # until its input is closed


def refusal(path, what="study"):
    with pytest.raises(RunError) as e, locked(path, what):
        pass
    return str(e.value)


def test_a_second_writer_is_told_who_writes_where(tmp_path):
    path = tmp_path / "runs" / "tiny" / ".lock"
    with locked(path, "study"):
        said = refusal(path, "job fit")
    assert said == (f"job fit: another process (pid {os.getpid()}) is writing {path.parent}; wait for it or end it, "
                    "then type the same command")  # fmt: skip


def test_a_lock_ends_with_its_block_also_after_an_error(tmp_path):
    path = tmp_path / ".lock"
    with pytest.raises(ZeroDivisionError), locked(path, "x"):
        1 / 0  # noqa: B018
    for _ in range(2):
        with locked(path, "x"):
            assert refusal(path)
    with locked(tmp_path / "other", "x"), locked(path, "x"):
        pass


def test_a_file_that_was_left_locks_nothing(tmp_path):
    (tmp_path / ".lock").write_text("pid 1234567, of a process that is gone")
    with locked(tmp_path / ".lock", "x"):
        assert (tmp_path / ".lock").read_text() == f"pid {os.getpid()}"


def test_a_holder_without_a_name_is_unknown(tmp_path):
    with locked(tmp_path / ".lock", "x"):
        (tmp_path / ".lock").write_text("")
        assert "another process (unknown) is writing" in refusal(tmp_path / ".lock")


@pytest.mark.parametrize("session", [False, True], ids=["child", "session"])
def test_a_child_holds_the_lock_and_is_named_with_what_ends_it(tmp_path, session):
    path = tmp_path / ".lock"
    with locked(path, "x") as lock:
        child = lock.start(WAIT, stdin=subprocess.PIPE, start_new_session=session)
        end = f"kill -- -{child.pid}" if session else f"kill {child.pid}"
        assert f"(pid {os.getpid()} or its child {child.pid}: `{end}` ends it) is writing" in refusal(path)
    try:
        assert f"its child {child.pid}" in refusal(path)  # our block is over, the child is not
    finally:
        child.communicate()
    with locked(path, "x"):
        assert child.returncode == 0


def test_other_children_hold_no_lock(tmp_path):
    path = tmp_path / ".lock"
    with locked(path, "x"):
        child = subprocess.Popen(WAIT, stdin=subprocess.PIPE)
    try:
        with locked(path, "x"):
            pass
    finally:
        child.communicate()


def test_a_file_system_without_locks_is_told_and_written(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="has no locks"), locked(tmp_path / ".lock", "x"):
        pass

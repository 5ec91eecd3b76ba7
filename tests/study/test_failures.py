import json

import pytest

from synthrad.errors import InputError, InputErrors, RunError
from synthrad.study import failures

BAD = InputError("x", "y", "z")


def test_bad_input_alone_is_told_from_what_went_wrong_as_well(tmp_path):
    failures.note(tmp_path, "pool gan", BAD, "one")
    failures.note(tmp_path, "fit a/b/c", InputErrors("x", ["y"]), "two")
    assert failures.read(tmp_path) == (["two", "one"], True)  # by job
    failures.note(tmp_path, "report", RunError("x"), "three")
    assert failures.read(tmp_path) == (["two", "one", "three"], False)


def test_a_job_that_fails_again_has_one_message_the_newest(tmp_path):
    failures.note(tmp_path, "report", BAD, "old")
    failures.note(tmp_path, "report", RunError("x"), "näw\nof two lines")
    assert failures.read(tmp_path) == (["näw\nof two lines"], False)


def test_a_name_of_a_job_is_one_file_in_the_folder(tmp_path):
    failures.note(tmp_path, "fit a/b/c", BAD, "x")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()] == ["failed/fit-a-b-c.json"]
    assert json.loads((tmp_path / "failed" / "fit-a-b-c.json").read_text()) == {"job": "fit a/b/c", "input": True, "message": "x"}


def test_a_traceback_is_kept_beside_and_is_no_message(tmp_path):
    try:
        raise ValueError("deep inside")
    except ValueError:
        said = failures.keep_traceback(tmp_path, "fit a/b/c")
    path = tmp_path / "failed" / "fit-a-b-c.txt"
    assert said == f"\n  The traceback: {path}"
    assert path.read_text().startswith("Traceback") and "ValueError: deep inside" in path.read_text()
    assert failures.read(tmp_path) == ([], False)


def test_no_failure_is_no_bad_input(tmp_path):
    assert failures.read(tmp_path / "missing") == ([], False)
    failures.forget(tmp_path / "missing")


def test_forgetting_leaves_the_rest_of_the_run(tmp_path):
    (tmp_path / "report.html").write_text("x")
    failures.note(tmp_path, "report", BAD, "x")
    failures.forget(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_disk_that_takes_nothing_hides_no_error(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(failures, "write_durably", full)
    failures.note(tmp_path, "report", BAD, "x")
    assert failures.keep_traceback(tmp_path, "report") == "" and failures.read(tmp_path) == ([], False)
    monkeypatch.setattr(failures, "write_durably", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # any other error is one
        failures.note(tmp_path, "report", BAD, "x")

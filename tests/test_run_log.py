"""A run's own file: all that it says, and no bar drawn over and over."""

import io
import logging
import sys

import pytest

from synthrad import run_log
from synthrad.run_log import kept


def screen_of(monkeypatch):
    made = io.StringIO()
    monkeypatch.setattr(sys, "stdout", made)
    monkeypatch.setattr(sys, "stderr", made)
    return made


def test_what_is_printed_and_logged_is_in_the_file_too(tmp_path, monkeypatch):
    screen = screen_of(monkeypatch)
    with kept(tmp_path / "run" / "fit.log"):
        print("a line", end=" ")
        print("of two words")
        print("to stderr", file=sys.stderr)
        logging.getLogger("lightning.pytorch").warning("said by Lightning")
    print("afterwards")
    lines = (tmp_path / "run" / "fit.log").read_text().splitlines()
    assert lines[0].startswith("begun 20") and "a line of two words" in lines and "to stderr" in lines and "said by Lightning" in lines
    assert "afterwards" not in lines
    assert "a line of two words\nto stderr\n" in screen.getvalue() and sys.stdout is screen


def test_of_a_bar_a_state_now_and_then(tmp_path, monkeypatch):
    screen = screen_of(monkeypatch)
    clock = iter([0.0, 0.0, *range(5, 1000, 5)])
    monkeypatch.setattr(run_log.time, "monotonic", lambda: next(clock))
    with kept(tmp_path / "fit.log"):
        for k in range(40):
            sys.stderr.write(f"\rtraining {k}")
    states = [x for x in (tmp_path / "fit.log").read_text().splitlines() if x.startswith("training")]
    assert 2 <= len(states) <= 10 and screen.getvalue().count("\r") == 40


def test_an_error_is_the_last_line_and_a_second_run_goes_on_in_the_file(tmp_path, monkeypatch):
    screen_of(monkeypatch)
    with pytest.raises(ValueError), kept(tmp_path / "fit.log"):
        raise ValueError("no more")
    with kept(tmp_path / "fit.log"):
        print("again")
    lines = (tmp_path / "fit.log").read_text().splitlines()
    assert lines[1] == "ValueError: no more" and lines[-1] == "again" and sum(x.startswith("begun") for x in lines) == 2

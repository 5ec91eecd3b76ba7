"""Bars on a terminal, lines in a log, and what a line says."""

import io
import re
import sys
import time

from synthrad.progress import Said, progress, said


class Screen(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.isatty = lambda: terminal


def drawn(monkeypatch, terminal, seconds=0.0, pause=0.0, **options):
    monkeypatch.setattr(sys, "stderr", screen := Screen(terminal))
    for _ in progress(range(3), desc="reading", unit="image", every_seconds=seconds, **options):
        time.sleep(pause)
    return screen.getvalue()


def test_a_log_gets_plain_lines_that_can_be_read_back(monkeypatch):
    lines = drawn(monkeypatch, False, pause=0.01).splitlines()
    assert "\r" not in "".join(lines) and not [x for x in lines if not x.strip()]
    last = said(lines[-1])
    assert (last.what, last.done, last.total, last.unit, last.left) == ("reading", 3, 3, "images", "00:00")
    assert re.fullmatch(r"[\d.]+ images/s", last.rate)


def test_short_work_says_nothing_in_a_log_and_hidden_work_nowhere(monkeypatch):
    assert drawn(monkeypatch, False, seconds=60) == ""
    assert drawn(monkeypatch, True, show=False) == drawn(monkeypatch, False, show=False) == ""


def test_a_terminal_gets_a_bar(monkeypatch):
    assert "3/3" in drawn(monkeypatch, True) and "|" in drawn(monkeypatch, True)


def test_what_lines_say():
    assert said("fit a/b seed 0: 900 of 2000 images, 25.43 images/s, 00:43 left, loss=0.1") == Said("fit a/b seed 0", 900, 2000, "images", "25.43 images/s", "00:43")
    assert said("training: 5 of ? images, ? images/s, ? left").total is None
    assert said("study: 3 of 14 jobs done") is None and said("") is None

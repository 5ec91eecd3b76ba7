"""What is seen of a study while it runs: on a terminal a table that is drawn again and again, in a log a line now and then."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from synthrad.study.logs import JobLog, logs
from synthrad.study.status import Row, row_of_running, table

LINES_EVERY = 60.0  # seconds between two lines of progress in a log


@contextmanager
def watched(folder: Path, log: Path, every_seconds: float = 1.0, lines_every: float = LINES_EVERY) -> Iterator[None]:
    """Show how many jobs are done, as Snakemake's log says it, and how far the running ones are, as their own logs do.

    Args:
        folder: of the run. log: that Snakemake writes, there already. every_seconds: between two looks. lines_every: between lines of
            progress where stdout is no terminal.
    """
    over, begun = threading.Event(), time.time()
    follow = _on_terminal if sys.stdout.isatty() else _in_log
    thread = threading.Thread(target=follow, args=(folder, _Counter(log), begun, lambda: over.wait(every_seconds), lines_every), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Counter:
    """How many jobs are done and how many there are, from Snakemake's growing log."""

    def __init__(self, log: Path):
        self._lines = open(log, errors="replace")  # noqa: SIM115 - open as long as the thread that reads it
        self.done, self.total = 0, 0

    def look(self) -> bool:
        """Read on; whether more are done than before."""
        found = re.findall(r"^(\d+) of (\d+) steps", self._lines.read(), re.M)
        before = self.done
        if found:
            steps, self.total = int(found[-1][0]), int(found[-1][1]) - 1  # the rule `all` is a step and no job
            self.done = min(steps, self.total)
        return self.done > before

    @property
    def words(self) -> str:
        return f"study: {self.done} of {self.total} jobs done" if self.total else "study: begun"


def _running(folder: Path, begun: float) -> list[JobLog]:
    """Jobs of this run that have not ended."""
    return [log for log in logs(folder).values() if log.state == "running" and log.begun >= begun]


def _in_log(folder: Path, counter: _Counter, begun: float, wait: Callable[[], bool], lines_every: float) -> None:
    last, over = time.monotonic(), False
    while True:
        if counter.look():
            print(counter.words, flush=True)
        if time.monotonic() - last >= lines_every and (rows := [row_of_running(x) for x in _running(folder, begun)]):
            last = time.monotonic()
            print("\n".join(_sentence(row) for row in rows), flush=True)
        if over:
            return
        over = wait()  # and then one last look


def _sentence(row: Row) -> str:
    return f"  {row.job}: {row.progress}" + (f", {row.speed}, {row.left} left" if row.speed else "")


def _on_terminal(folder: Path, counter: _Counter, begun: float, wait: Callable[[], bool], lines_every: float) -> None:
    from rich.live import Live
    from rich.text import Text

    over = False
    with Live(Text(counter.words), transient=True, refresh_per_second=2) as live:
        while True:
            counter.look()
            rows = [row_of_running(x) for x in _running(folder, begun)]
            live.update(Text("\n".join([counter.words, *([table(rows)] if rows else [])]), no_wrap=True, overflow="ellipsis"))
            if over:
                break
            over = wait()
    print(counter.words, flush=True)

"""What a run says, kept in a file as plain lines, while a terminal shows its bars."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from synthrad.progress import LOG_SECONDS

LOGGERS = ("lightning.pytorch", "lightning.fabric")  # whose handlers hold the stream that was there when they were made


class _Both:
    """A stream that also writes lines to a log; of a bar, which goes back to the start of its line, one state every LOG_SECONDS."""

    def __init__(self, stream: IO[str], log: IO[str]):
        self._stream, self._log = stream, log
        self._line, self._bar_at = "", time.monotonic()

    def write(self, text: str) -> int:
        """To both."""
        written = self._stream.write(text)
        for piece in re.findall(r"[^\n]*\n|[^\n]+", text):  # a line's end is no other character: bars begin with \r
            if piece.startswith("\r") or "\x1b[" in piece:
                self._bar(piece)
                continue
            self._line += piece
            if self._line.endswith("\n"):
                self._say(self._line.strip())
                self._line = ""
        return written

    def _bar(self, piece: str) -> None:
        if time.monotonic() - self._bar_at >= LOG_SECONDS:
            self._bar_at = time.monotonic()
            self._say(piece.strip())

    def _say(self, line: str) -> None:
        if line:
            self._log.write(f"{line}\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def kept(path: Path) -> Iterator[None]:
    """Add what is printed, warned of and logged by Lightning inside to the end of a file, line by line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = sys.stdout, sys.stderr
    with open(path, "a", encoding="utf-8", buffering=1) as log:
        handler = logging.StreamHandler(log)
        sys.stdout, sys.stderr = _Both(before[0], log), _Both(before[1], log)
        for name in LOGGERS:
            logging.getLogger(name).addHandler(handler)
        print(f"begun {time.strftime('%Y-%m-%d %H:%M:%S')}", file=log)
        try:
            yield
        except BaseException as e:
            print(f"{type(e).__name__}: {e}", file=log)
            raise
        finally:
            sys.stdout, sys.stderr = before
            for name in LOGGERS:
                logging.getLogger(name).removeHandler(handler)

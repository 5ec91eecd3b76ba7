"""Rows shared out to all cores: forks of this process take them one by one and send back what they found."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from synthrad.errors import RunError

ALONE_SECONDS = 0.2  # before processes are started: small sets are done by then, and what a row imports is there for all forks
SEND_SECONDS = 0.2  # between two messages of a fork
ROWS, ERROR, END = b"=", b"!", b"."  # first byte of a message


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_out(work: Callable[[int], Any], rows: Sequence[int], workers: int) -> Iterator[Any]:
    """work(row) of all rows, in the order in which they are done; by forks, unless all is done in `ALONE_SECONDS`.

    Forks rather than threads: pydicom and much of NumPy hold the interpreter's lock. `work` may be any closure. What it changes in
    memory is lost, unless it returns it; a fork ends with its parent.

    Args:
        work: returns plain JSON values. rows: numbers. workers: processes; 1 = none but this one.

    Raises:
        RunError: a fork was killed. OSError: as in the fork. RuntimeError: any other error of a fork, with its traceback.
    """
    begun = time.monotonic()
    for done, row in enumerate(rows):
        if workers > 1 and len(rows) - done > 1 and time.monotonic() - begun > ALONE_SECONDS:
            yield from _forked(work, rows[done:], min(workers, len(rows) - done))
            return
        yield work(row)


def _forked(work: Callable[[int], Any], rows: Sequence[int], workers: int) -> Iterator[Any]:
    context = multiprocessing.get_context("fork")
    taken = context.Value("q", 0)  # how many rows have been taken
    ends: dict[Connection, Any] = {}
    try:
        for _ in range(workers):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_take, args=(work, rows, taken, sender, [*ends, receiver], os.getpid()), daemon=True)
            process.start()
            sender.close()
            ends[receiver] = process
        while ends:
            for end in wait(list(ends)):
                try:
                    message = end.recv_bytes()
                except EOFError:
                    ends[end].join()
                    raise _killed(ends[end].exitcode) from None
                if message[:1] == END:
                    ends.pop(end).join()
                elif message[:1] == ERROR:
                    raise _error(*json.loads(message[1:]))
                else:
                    yield from json.loads(message[1:])
    finally:
        for process in ends.values():
            process.kill()
        for process in ends.values():
            process.join()


def _take(work: Callable[[int], Any], rows: Sequence[int], taken: Any, sender: Connection, others: list[Connection], parent: int) -> None:
    """Life of a fork: take the next row until none is left, or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends its forks
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for end in others:
        end.close()
    found, sent = [], time.monotonic()
    try:
        while os.getppid() == parent:
            with taken.get_lock():
                k = taken.value
                taken.value += 1
            if k < len(rows):
                found.append(work(rows[k]))
            if found and (k >= len(rows) or time.monotonic() - sent > SEND_SECONDS):
                sender.send_bytes(ROWS + json.dumps(found).encode())
                found, sent = [], time.monotonic()
            if k >= len(rows):
                sender.send_bytes(END)
                return
    except BrokenPipeError:
        return
    except BaseException as e:
        facts = [e.errno, e.strerror, e.filename] if isinstance(e, OSError) and e.errno is not None else None
        text = str(e) if isinstance(e, RunError | KeyboardInterrupt) else traceback.format_exc()
        sender.send_bytes(ERROR + json.dumps([type(e).__name__, text, facts], default=str).encode())


def _error(name: str, text: str, facts: list[Any] | None) -> BaseException:
    if facts is not None:
        return OSError(*facts)
    if name == "KeyboardInterrupt":
        return KeyboardInterrupt()
    return RunError(text) if name == "RunError" else RuntimeError(f"{name} in a process that read rows\n{text}")


def _killed(code: int) -> RunError:
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return RunError(f"a process that read images ended {how}; where the system was short of memory, give fewer --workers; the same command goes on")

"""Real deaths without the seconds of a fresh interpreter: a fork of the test process runs a function and is killed."""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

# a fork lacks the threads of its parent's OpenMP and would wait for them without end; and the bits of both must agree
torch.set_num_threads(1)
# a fork of a process that has used a GPU cannot use it again
forks = pytest.mark.skipif(torch.cuda.is_available(), reason="forks after CUDA was used: run with CUDA_VISIBLE_DEVICES=")


def in_child(function: Callable[..., Any], *args: Any, seconds: float = 300) -> int:
    """Exit code of a forked child that runs function(*args): its integer result, or minus the signal that killed it."""

    def body():
        os._exit(int(function(*args) or 0))  # without the test runner's exit handlers

    child = multiprocessing.get_context("fork").Process(target=body)
    child.start()
    child.join(seconds)
    if child.is_alive():
        child.kill()
        child.join()
        raise AssertionError(f"still running after {seconds} s")
    return child.exitcode


def killed(function, *args, after: float) -> bool:
    """Run a function in a fork and kill it after so many seconds; whether it came to that."""
    child = multiprocessing.get_context("fork").Process(target=lambda: os._exit(int(function(*args) or 0)))
    child.start()
    child.join(after)
    alive = child.is_alive()
    if alive:
        child.kill()
    child.join()
    assert alive or child.exitcode == 0
    return alive


def in_ranks(function: Callable[..., Any], *args: Any, world: int = 2, seconds: float = 120) -> list[int]:
    """Exit codes of forked children that each run function(*args) as torchrun would start it; one that does not end is killed: -9."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def body(rank):
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0, "MASTER_PORT": port}
        os.environ |= {k: str(v) for k, v in numbers.items()} | {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "test"}
        os._exit(int(function(*args) or 0))

    children = [multiprocessing.get_context("fork").Process(target=body, args=(r,)) for r in range(world)]
    for child in children:
        child.start()
    until = time.monotonic() + seconds
    for child in children:
        child.join(max(0.0, until - time.monotonic()))
        child.kill()
        child.join()
    return [child.exitcode for child in children]


def dying(function: Callable[..., Any], call: int = 1, before: Callable[..., Any] | None = None, number: int = signal.SIGKILL):
    """`function` which sends its own process a signal instead of its call number `call`.

    Args:
        before: called with the arguments just before: to leave half of what the function would have done.
    """
    calls = [0]

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            if before is not None:
                before(*args, **kwargs)
            os.kill(os.getpid(), number)
        return function(*args, **kwargs)

    return wrapped

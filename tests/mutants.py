"""Broken and hostile files by the hundred, and forks with little time and memory in which a command reads them."""

import contextlib
import io
import json
import multiprocessing
import os
import random
import resource
import signal
import struct
import traceback
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import synthrad.data.near_copies  # noqa: F401 - scipy maps half of the memory that a fork may take: it has it from here
from synthrad.__main__ import main

SECONDS, MEGABYTES = 2, 512  # of processor time and of address space beyond what the process had
EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
NASTY = ["", "\0", "../../../etc/passwd", "/etc/passwd", "x" * 100_000, "9" * 5000, "-1", "NaN", "1e999", "0x10", "\ud7ff\uffff", "\u202e", '"', "'",
         "\n", "\r", ",", ";", "=1+1", "{}", "[]", "null", "true", "%s%n", "$(id)", "C:\\x", "a\\b", "\ufeff", "1" + "0" * 400, "~", "*a", "&a", "!!int x"]
VALUES = [None, True, False, -1, 0, 2**63, 10**400, 1e308, float("inf"), "", "x", "\0", "../..", [], {}, [[]], [None], {"": None}, [1, 2, 3], "9" * 4000]


def of_bytes(data: bytes, rng: random.Random) -> bytes:
    """One to three changes of any bytes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at, long = rng.randrange(len(changed) + 1), rng.choice([1, 2, 4, 8, 64, 1024])
        kind = rng.randrange(9)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            changed[at:at] = rng.randbytes(long)
        elif kind == 3:
            del changed[at : at + long]
        elif kind == 4:
            changed[at:at] = changed[at : at + long] * rng.choice([1, 7])
        elif kind == 5:
            changed[at : at + long] = bytes([rng.choice([0, 0xFF, 0x20])]) * len(changed[at : at + long])
        elif kind == 6:
            size, order = rng.choice([1, 2, 4]), rng.choice("<>")
            value = rng.choice(EXTREMES) & (256**size - 1)
            changed[at : at + size] = struct.pack(order + {1: "B", 2: "H", 4: "I"}[size], value)
        elif kind == 7:
            other = rng.randrange(len(changed) + 1)
            changed[at:at] = changed[other : other + long]
        else:
            changed += rng.randbytes(long)
    return bytes(changed)


def of_text(data: bytes, rng: random.Random) -> bytes:
    """Nasty words in place of others, or any bytes."""
    if rng.random() < 0.4:
        return of_bytes(data, rng)
    text = data.decode()
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(NASTY) + text[at + rng.choice([0, 1, 5, 20]) :]
    return text.encode(errors="surrogatepass")


def of_tree(data: bytes, rng: random.Random) -> bytes:
    """JSON (which is YAML too) with another value, a missing or a further key somewhere; or changed text."""
    if rng.random() < 0.4:
        return of_text(data, rng)
    tree = json.loads(data)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(tree))
        if not places:
            break
        owner, key = rng.choice(places)
        if rng.random() < 0.2:
            del owner[key]
        elif isinstance(owner, dict) and rng.random() < 0.2:
            owner[rng.choice(NASTY)] = owner[key]
        else:
            owner[key] = rng.choice(VALUES)
    return json.dumps(tree).encode()


def _places(tree) -> Iterator[tuple]:
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


def of_png(data: bytes, rng: random.Random) -> bytes:
    """A chunk changed, doubled or dropped with a checksum that agrees; or any bytes."""
    if rng.random() < 0.4:
        return of_bytes(data, rng)
    chunks = png_chunks(data)
    for _ in range(rng.randint(1, 2)):
        k = rng.randrange(len(chunks))
        kind, body = chunks[k]
        what = rng.randrange(5)
        if what == 0 and body:
            chunks[k] = kind, of_bytes(body, rng)
        elif what == 1:
            chunks.insert(k, chunks[rng.randrange(len(chunks))])
        elif what == 2 and len(chunks) > 1:
            del chunks[k]
        elif what == 3:
            chunks[k] = bytes(rng.choice(b"IDATEPLTtRNSzTXtiCCPacTL") for _ in range(4)), body
        elif len(body) >= 4:
            at = rng.randrange(0, len(body) - 3, 4)
            chunks[k] = kind, body[:at] + struct.pack(">I", rng.choice(EXTREMES)) + body[at + 4 :]
    return data[:8] + b"".join(map(png_chunk, *zip(*chunks, strict=True)))


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """(kind, body) of each chunk of a PNG."""
    found, at = [], 8
    while at + 8 <= len(data):
        long = struct.unpack(">I", data[at : at + 4])[0]
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + long]))
        at += long + 12
    return found


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def told(argv: list[str], name: str) -> str:
    """What is wrong with how a command took its input; "" where it read it, or named `name` and a reason."""
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
        code = main(argv)
    message = err.getvalue()
    if code == 0:
        return ""
    if code != 2:
        return f"exit code {code}: {message[:200]}"
    wrong = "Traceback" in message or name not in message or "found" not in message and "fault" not in message
    return f"a refusal without file or reason: {message[:300]}" if wrong else ""


def judged(cases: list, take: Callable[..., str]) -> list[str]:
    """What is wrong with each case, by take(case) in a fork with little time and memory; a fork that dies is followed by another."""
    found: list[str] = []
    while len(found) < len(cases):
        here, there = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(target=_work, args=(cases[len(found) :], take, there))
        child.start()
        there.close()
        with contextlib.suppress(EOFError):
            while len(found) < len(cases):
                if not here.poll(60):
                    break
                found.append(here.recv())
        child.join(1)
        if child.is_alive():
            child.kill()
        child.join()
        if len(found) < len(cases):
            found.append("over 2 s" if child.exitcode in (-signal.SIGPROF, -signal.SIGKILL) else f"the process died ({child.exitcode})")
    return found


def _work(cases: list, take: Callable[..., str], there) -> None:
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + MEGABYTES * 2**20,) * 2)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # of one core, no rows are shared out to forks, whose time and files nobody would see here
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for case in cases:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            wrong = take(case)
        except MemoryError:
            wrong = f"over {MEGABYTES} MB"
        except BaseException as e:
            wrong = f"{type(e).__name__}: {e} at {traceback.extract_tb(e.__traceback__)[-1]}"[:400]
        signal.setitimer(signal.ITIMER_PROF, 0)
        there.send(wrong)
    os._exit(0)


def mutants(sound: bytes, mutate: Callable[[bytes, random.Random], bytes], number: int, seed: str) -> list[bytes]:
    """`number` different files that differ from the sound one; the same for the same seed."""
    rng, made = random.Random(seed), {}
    while len(made) < number:
        if (data := mutate(sound, rng)) != sound:
            made[data] = None
    return list(made)


def in_place(path: Path, argv: list[str]) -> Callable[[bytes], str]:
    """take(data): put data at `path` and run a command that reads it."""

    def take(data: bytes) -> str:
        path.write_bytes(data)
        return told(argv, path.name)

    return take

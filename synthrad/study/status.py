"""`synthrad study status`: job, state, progress, speed, time left, and where its log is."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from synthrad.study import failures
from synthrad.study.logs import JobLog, logs
from synthrad.study.standing import (
    crossed_state,
    fit_state,
    generator_state,
    pool_state,
    report_state,
    seeds_of,
)

HEAD = ("job", "state", "progress", "speed", "left", "log")


@dataclass(frozen=True)
class Row:
    """One job as a reader sees it; "" = nothing is known."""

    job: str
    state: str
    progress: str = ""
    speed: str = ""
    left: str = ""
    log: str = ""


def rows_of(folder: Path, graph: Mapping[str, Any]) -> list[Row]:
    """All jobs of a graph: done, stale (made under other settings), open, running, stopped (by a signal), failed or killed."""
    known, rows = {job: (log, failures.noted(folder, job)) for job, log in logs(folder).items()}, []
    for source, spec in graph["sources"].items():
        if spec["trained"]:
            rows.append(_row(f"generator {source}", generator_state(folder, source, spec), known))
        if "pool" in spec:
            rows.append(_row(f"pool {source}", pool_state(folder, source, spec["pool"]), known))
    for key, spec in graph["fits"].items():
        seeds, stale = seeds_of(folder / key, spec["identity"], spec["seeds"])
        told = f"{seeds}/{spec['seeds']} seeds{f', {stale} stale' if stale else ''}"
        rows.append(_row(f"fit {key}", fit_state(folder, key, spec), known, told))
    rows += [_row(f"crossed {key}", crossed_state(folder, key, identity), known) for key, identity in graph.get("crossed", {}).items()]
    return [*rows, _row("report", report_state(folder, graph), known)]


def _row(job: str, state: str, known: Mapping[str, tuple[JobLog, bool]], told: str = "") -> Row:
    log, failed = known.get(job, (None, False))
    if log is None or (state == "done" and log.state != "running"):
        return Row(job, state, told, log="" if log is None else _short(log))
    if log.state == "done":  # and yet not under these settings
        return Row(job, state, told, log=_short(log))
    if log.state != "running":
        return Row(job, "stopped" if log.state == "failed" and not failed else log.state, told, log=_short(log))
    return row_of_running(log, told)


def row_of_running(log: JobLog, told: str = "") -> Row:
    """What the log says of progress, or for how long it has run; `told`: stands before."""
    if (said := log.progress) is None:
        return Row(log.job, "running", told or f"for {_clock(time.time() - log.begun)}", log=_short(log))
    number = f"{said.done:,}" + ("" if said.total is None else f" of {said.total:,}")
    return Row(log.job, "running", f"{told}{', ' if told else ''}{number} {said.unit}", said.rate, said.left, _short(log))


def _short(log: JobLog) -> str:
    return f"{log.log.parent.name}/{log.log.name}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes:02}:{seconds:02}"


def table(rows: Sequence[Row]) -> str:
    """Aligned columns; columns of which nothing is known are left out."""
    cells = [HEAD, *(astuple(r) for r in rows)]
    kept = [k for k in range(len(HEAD)) if any(c[k] for c in cells[1:])]
    wide = [max(len(c[k]) for c in cells) for k in kept]
    return "\n".join(_line((c[k] for k in kept), wide) for c in cells)


def _line(cells: Iterable[str], wide: Sequence[int]) -> str:
    return "  ".join(f"{c:<{w}}" for c, w in zip(cells, wide, strict=True)).rstrip()

"""What of a study is done, and done under the settings that its file has now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthrad.errors import InputError
from synthrad.study.crossed import MARK
from synthrad.study.pools import checkpoint_of, pools_of

IMPORTS = "outside/*/*/*/seed*/outside.json"  # in a run folder: written last of what `study import-cases` keeps


def seeds_of(home: Path, identity: str, seeds: int) -> tuple[int, int]:
    """How many seeds of a fit are finished under this identity, and how many under another one."""
    found = [(home / f"seed{s}" / "fit.json") for s in range(seeds)]
    ids = [json.loads(p.read_text()).get("identity") for p in found if p.is_file() and (p.parent / "cases.parquet").is_file()]
    return ids.count(identity), len(ids) - ids.count(identity)


def source_state(folder: Path, source: str, spec: Mapping[str, Any]) -> str:
    """done, stale (made under other settings) or open; of one that only others start from, its generator's state."""
    return pool_state(folder, source, spec["pool"]) if "pool" in spec else generator_state(folder, source, spec)


def generator_state(folder: Path, source: str, spec: Mapping[str, Any]) -> str:
    """done, stale (trained under other settings) or open."""
    if not (folder / "sources" / source / "generator.json").is_file():
        return "open"
    return "done" if checkpoint_of(folder, source).parents[1].name == f"generator-{spec['generator']}" else "stale"


def pool_state(folder: Path, source: str, identity: str) -> str:
    """done, stale (made under other settings) or open."""
    if not (folder / "sources" / source / "pool.json").is_file():
        return "open"
    return "done" if all(p.parent.name == f"pool-{identity}" for p in pools_of(folder, source)) else "stale"


def fit_state(folder: Path, key: str, spec: Mapping[str, Any]) -> str:
    """done (all seeds, cases and done.json), stale (a seed is of other settings) or open."""
    done, stale = seeds_of(folder / key, spec["identity"], spec["seeds"])
    if stale:
        return "stale"
    marks = folder / key / "done.json"
    rows = json.loads(marks.read_text()) if marks.is_file() else []
    told = {row["seed"] for row in rows if row.get("identity") == spec["identity"]}
    return "done" if done == spec["seeds"] and told >= set(range(spec["seeds"])) else "open"


def crossed_state(folder: Path, key: str, identity: str) -> str:
    """Of the reference net on synthetic images: done, stale (other weights or other images) or open."""
    mark = folder / key / MARK
    if not mark.is_file():
        return "open"
    return "done" if json.loads(mark.read_text())["identity"] == identity else "stale"


def report_state(folder: Path, graph: Mapping[str, Any]) -> str:
    """done, stale (a fit or an import is newer than it, or not of these settings) or open."""
    report = folder / "report.html"
    if not report.is_file():
        return "open"
    if any(fit_state(folder, key, spec) != "done" for key, spec in graph["fits"].items()):
        return "stale"
    if any(crossed_state(folder, key, identity) != "done" for key, identity in graph.get("crossed", {}).items()):
        return "stale"
    fits = [folder / key / f"seed{s}" / "fit.json" for key, spec in graph["fits"].items() for s in range(spec["seeds"])]
    newest = max(p.stat().st_mtime_ns for p in [*fits, *folder.glob(IMPORTS)])
    return "done" if report.stat().st_mtime_ns >= newest else "stale"


def check_whole(folder: Path, graph: Mapping[str, Any]) -> None:
    """Refuse a report of what is not there, or was made under other settings.

    Raises:
        InputError: names fits and sources and the command that does them.
    """
    repair = f"`synthrad study run {graph['study_file']}` does what is missing, and nothing else"
    for what, states in (("sources", {n: source_state(folder, n, s) for n, s in graph["sources"].items()}),
                         ("fits", {k: fit_state(folder, k, s) for k, s in graph["fits"].items()})):
        for state, words in (("stale", "are of another configuration"), ("open", "are not finished")):
            if names := [name for name, found in states.items() if found == state]:
                shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
                raise InputError(str(folder), f"{len(names)} of {len(states)} {what} that {words} ({shown})",
                                 "all of them, made as the study file says now", repair)
    if not (folder / "arms.json").is_file():
        raise InputError(str(folder), "no arms.json", "the arms, fused once", repair)

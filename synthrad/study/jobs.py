"""The jobs of a study's graph, each idempotent; Snakemake calls `python -m synthrad.study.jobs JOB ...` in the run folder."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from synthrad import fusion
from synthrad.data.conditions import ask_less, with_known_masks
from synthrad.errors import InputError, RunError, Stopped, told
from synthrad.files import file_digest, write_durably
from synthrad.locking import locked
from synthrad.records import Manifest
from synthrad.study import cluster, failures
from synthrad.study.description import Source, Study
from synthrad.study.logs import logged
from synthrad.study.planning import Plan, fuse_arm, make_plan, planned_fits, steps_of, strategy_of
from synthrad.study.pools import checkpoint_of, pools_of
from synthrad.study.settling import settled
from synthrad.study.study_file import load_study

PILOT = 128  # images that estimate the accept rate of a filter
TOP_UPS = 3  # rounds after the planned one


def open_run(folder: Path) -> tuple[Study, Manifest, Plan, dict[str, Any]]:
    """Study, real manifest, plan and graph of a run folder; the working folder becomes the one the study was started in."""
    graph = json.loads((folder / "graph.json").read_text())
    os.chdir(graph["working_folder"])
    study = settled(load_study(folder / "study.yaml"), folder)
    manifest = Manifest.read(study.manifest)
    return study, manifest, make_plan(study, manifest.where(split="train", source="real")), graph


def _write_json(path: Path, data: Any) -> None:
    write_durably(path, json.dumps(data, indent=1).encode())


def generator(folder: Path, name: str) -> Path:
    """Fit the generator of one source by the command that a user would type, resuming from its newest checkpoint.

    A source whose generator another one trains takes that one's checkpoint, its last or its best.
    """
    from synthrad.callbacks.durable_checkpoint import newest_valid

    study, _, _, graph = open_run(folder)
    source, identity, owner = study.sources[name], graph["sources"][name]["generator"], graph["sources"][name].get("owner")
    if owner is not None:
        known = json.loads((folder / "sources" / owner / "generator.json").read_text())
        home = (folder / known["checkpoint"]).parents[1]
        return _note_generator(folder, name, home, {"command": known["command"], "seconds": 0.0, "owner": owner})
    begun = sorted((folder / "sources").glob(f"*/generator-{identity}"), key=lambda h: h.parent.name != name)
    home = begun[0] if begun else folder / "sources" / name / f"generator-{identity}"  # a source may have been renamed or moved
    with locked(home / ".lock", f"generator {name}") as lock, _clock(home / "seconds"):
        place = cluster.read_cluster(folder)
        before, after = cluster.generator_options(place, name, source) if place else ([], [])
        nodes, per_node = place["processes"][name] if place else (1, 1)
        cluster.check_processes(name, home, nodes * per_node)
        argv = ["fit", *before, "--config", source.generator, f"--data.manifest={study.manifest}",
                f"--data.size={list(source.size or study.size)}".replace(" ", ""), f"--trainer.default_root_dir={home}", *source.overrides,
                *after, *(f"--{option}={checkpoint_of(folder, other)}" for option, other in source.starts.items())]
        found = newest_valid(home)
        if found is not None:
            argv.append(f"--ckpt_path={found}")
        srun = place["srun"].get(name, []) if place else []
        process = lock.start([*(srun or [sys.executable]), "-m", "synthrad", *argv])  # it may outlive us: then it is the one writer
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGUSR1 if srun else signal.SIGTERM)  # on SIGTERM srun kills its tasks at once
            process.wait()  # until it has saved
            raise
        if code:
            raise RunError(f"the fit of generator {name!r} failed. {failures.last_words(folder, f'generator {name}') or 'Its message stands above.'}")
    return _note_generator(folder, name, home, {"command": "synthrad " + " ".join(argv).replace(f"{Path.cwd()}/", ""),
                                                "seconds": _spent(home / "seconds")})


@contextmanager
def _clock(path: Path) -> Iterator[None]:
    """Add the seconds spent inside to those in a file: a killed job goes on where it was."""
    before, start = _spent(path), time.monotonic()
    try:
        yield
    finally:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, f"{before + time.monotonic() - start:.3f}".encode())


def _spent(path: Path) -> float:
    return float(path.read_text()) if path.exists() else 0.0


def _note_generator(folder: Path, name: str, home: Path, facts: dict[str, Any]) -> Path:
    """Write which checkpoint of a fit a source draws from; returns it."""
    from synthrad.callbacks.durable_checkpoint import newest_valid

    which = open_run(folder)[0].sources[name].checkpoint
    found = newest_valid(home, which)
    if found is None:
        raise RunError(f"{home}: the fit of generator {name!r} ended without a valid checkpoint ({which})")
    _write_json(folder / "sources" / name / "generator.json",
                {"checkpoint": os.path.relpath(found, folder), "digest": file_digest(found), **facts})
    return found


def pool(folder: Path, name: str) -> list[Manifest]:
    """Make the synthetic pool of one source, one a draw: sample what the arms need, score, filter, top up."""
    study, manifest, plan, graph = open_run(folder)
    source = study.sources[name]
    home = folder / "sources" / name / f"pool-{graph['sources'][name]['pool']}"
    pools, logs, images = [], [], 0
    with locked(home / ".lock", f"pool {name}"):
        for draw in range(source.draws):
            with _clock(home / "seconds"):
                made, log, number = _draw(study, manifest, plan, folder, name, home / f"draw{draw}", draw)
            images += number
            made.write(home / f"draw{draw}")  # it holds the pool's files: paths are relative, a run folder can be moved
            pools.append(made)
            logs.append(log)
        _write_json(folder / "sources" / name / "filter_log.json", logs)
        _write_json(folder / "sources" / name / "pool.json",
                    {"manifests": [os.path.relpath(home / f"draw{d}", folder) for d in range(source.draws)],
                     "rows": [len(p) for p in pools], "seconds": _spent(home / "seconds"),
                     "drawn": images, "drawing_seconds": _spent(home / "drawing_seconds")})
    return pools


def _draw(study: Study, real: Manifest, plan: Plan, folder: Path, name: str, home: Path, draw: int
          ) -> tuple[Manifest, list[dict[str, Any]], int]:
    """One synthetic pool, the log of its rounds, and how many images were drawn for it."""
    source, wanted = study.sources[name], plan.wanted[name]
    if source.generator is None:
        return *_judge(study, real, Manifest.read(source.manifest_of(draw)), source, folder, name, home / "imported"), 0
    train = real.where(split="train", source="real")
    kept: Manifest | None = None
    logs: list[dict[str, Any]] = []
    missing, rate, images = Counter(wanted), 1.0, 0
    layers, absent = _generator_facts(folder, name)
    if source.prompts != "none":
        train = _drawable(train, absent, wanted, name)
    for round_ in range(TOP_UPS + 2):
        pilot = round_ == 0 and source.filter is not None
        number = {c: int(np.ceil(n * (1 + source.margin) / rate)) for c, n in missing.items()}
        if pilot:
            share = min(1.0, PILOT / sum(number.values()))
            number = {c: max(1, round(n * share)) for c, n in number.items()}
        rng = np.random.default_rng([source.seed, draw, round_])
        conditions = _conditions(number, train, rng, layers, name)
        if source.prompts is not None:
            conditions = ask_less(conditions, source.prompts, source.unnamed, rng)
        seed = 1_000_000 * (source.seed + 1) + 200_000 * draw + 40_000 * round_
        with _clock(home.parent / "drawing_seconds"):
            drawn = _sample(folder, name, study, conditions, seed, home / f"round{round_}", real)
        images += len(drawn)
        passed, log = _judge(study, real, drawn, source, folder, name, home / f"round{round_}")
        logs += log
        rate = max(0.02, len(passed) / len(drawn))
        kept = passed if kept is None else kept + passed
        have = fusion.count(kept, wanted)
        missing = Counter({c: n - have[c] for c, n in wanted.items() if have[c] < n})
        if not missing:
            return kept, logs, images
    lacking = ", ".join(f"{c}: {n}" for c, n in missing.items())
    why = "loosen the filter, train the generator longer" if source.filter else "its images do not show what was asked for: look at them"
    raise RunError(f"source {name!r}: after {TOP_UPS} top-ups rows are still wanting ({lacking}); {why}, or lower the arms' demand")


def _generator_facts(folder: Path, name: str) -> tuple[list[str], list[str]]:
    """The mask layers that a source's generator draws from (none for one that draws its own), and the classes that no image it was trained on had."""
    from synthrad.generators.loading import load_generator, wanted_layers

    generator, _, _, spec = load_generator(checkpoint_of(folder, name))
    return wanted_layers(generator, spec), list(spec.get("absent", []))


def _drawable(train: Manifest, absent: list[str], wanted: Mapping[tuple[str, ...], int], name: str) -> Manifest:
    """Training rows without findings that the generator never saw: a row that it could not train on, for want of masks, may have one.

    Raises:
        InputError: a cell of which no row is left.
    """
    strange = np.any([train.column(f"label:{c}") == 1 for c in absent], axis=0) if absent else np.zeros(len(train), bool)
    if not strange.any():
        return train
    rest = train.take(np.flatnonzero(~strange))
    had, have = fusion.count(train, wanted), fusion.count(rest, wanted)
    if lacking := sorted(c for c in wanted if had[c] and not have[c]):
        raise InputError(f"sources.{name}: cell {', '.join(lacking[0])}", f"only rows with {', '.join(absent)}, which no image that its generator "
                         "was trained on had", "a row without", "leave the cell out of the arms, or train the generator on images that have it")
    print(f"sources.{name}: {strange.sum()} of {len(train)} training rows are not asked for: they have {', '.join(absent)}, which no image that its "
          "generator was trained on had")
    return rest


def _conditions(number: dict[tuple[str, ...], int], train: Manifest, rng: np.random.Generator, layers: list[str], name: str
                ) -> Any:
    """What to draw of each cell; for a generator that draws from masks, each condition with the masks of its own row.

    Raises:
        InputError: a cell of which no training row has a mask: there is nothing to draw it from.
    """
    if not layers:
        return fusion.conditions(number, train, rng)
    masked = with_known_masks(train, layers)
    have = fusion.count(masked, number)
    if lacking := sorted(c for c in number if not have[c]):
        raise InputError(f"sources.{name}: cell {', '.join(lacking[0])}", "no real training row of it with a mask",
                         "at least one: this generator draws from masks", "leave the cell out of the arms, or draw them from "
                         "a source whose generator draws masks itself")
    # as attributes the files come along with the rows that are chosen
    carried = masked.with_columns({f"attribute:mask:{x}": masked.column(f"mask:{x}") for x in layers})
    chosen = fusion.conditions(number, carried, rng)
    return chosen.rename(columns={f"attribute:mask:{x}": f"mask:{x}" for x in layers})


def _sample(folder: Path, name: str, study: Study, conditions: Any, seed: int, home: Path, real: Manifest) -> Manifest:
    from synthrad.sampling.from_checkpoint import sample_from_checkpoint

    return sample_from_checkpoint(checkpoint_of(folder, name), conditions, seed, home / "synthetic",
                                  truncation=study.sources[name].truncation, real=real, mask_transform=study.sources[name].mask_transform)


def _judge(study: Study, real: Manifest, drawn: Manifest, source: Source, folder: Path, name: str, home: Path
           ) -> tuple[Manifest, list[dict[str, Any]]]:
    """Score and filter a synthetic set as its source says."""
    if source.score is not None:
        from synthrad.score import score

        judges = folder / "sources" / name / "judges"
        drawn = score(drawn, real, home / "scored", judges=judges, size=source.size or study.size, **source.score.model_dump())
    if source.filter is None:
        return drawn, []
    from synthrad.filter import apply_filter, load_filter

    kept, log = apply_filter(load_filter(source.filter), drawn)
    return kept, [log]


def arms(folder: Path) -> None:
    """Fuse every arm once (draw 0) and write what it adds: arms/<arm>.json and arms.json."""
    study, manifest, plan, _ = open_run(folder)
    train = manifest.where(split="train", source="real")
    facts = []
    for arm in plan.arms:
        row = {**asdict(arm), "rows_real": len(train), "cells": {}, "log": []}
        if arm.same_as is None:
            strategy = strategy_of(study, arm)
            fused = fuse_arm(strategy, arm, train, _pool_of(folder, arm.source, 0))
            row["rows_real"] = int((fused.column("source") == "real").sum())
            row["rows_added"] = len(fused) - (0 if arm.role == "replacing" else len(train))
            if arm.role == "control":
                row["rows_real"], row["source"] = len(train), None  # it repeats real rows; the pool only sets how many
            needs = strategy.needs(train) if arm.role != "control" else Counter()
            row["cells"] = {", ".join(c) or "(all rows)": n for c, n in needs.items()}
            row["log"] = list(strategy.log)
        facts.append(row)
        _write_json(folder / "arms" / f"{arm.name}.json", row)
    _write_json(folder / "arms.json", facts)


def _pool_of(folder: Path, source: str | None, draw: int) -> Manifest | None:
    if source is None:
        return None
    pools = pools_of(folder, source)
    return Manifest.read(pools[draw % len(pools)])


def fit(folder: Path, key: str) -> None:
    """Fit and test all seeds of one task, net and arm in one process; each finished seed is kept."""
    from synthrad.study.one_fit import fit_seed

    study, manifest, plan, graph = open_run(folder)
    task_name, net_name, _ = key.split("/")
    home, arm = folder / key, planned_fits(study, plan)[key]
    with locked(home / ".lock", f"fit {key}"):
        train_rows = len(manifest.where(split="train", source="real"))
        steps = steps_of(study, study.tasks[task_name], arm, train_rows)
        pools = pools_of(folder, arm.source) if arm.source else []
        rows = []
        for seed in range(study.seeds):
            print(f"fit {key} seed {seed + 1}/{study.seeds}", flush=True)
            pool_path = str(pools[seed % len(pools)]) if pools else None
            rows.append(fit_seed(study, task_name, net_name, arm, strategy_of(study, arm), pool_path, steps, seed,
                                 home / f"seed{seed}", graph["fits"][key]["identity"]))
        _write_json(home / "done.json", rows)


def crossed(folder: Path, key: str) -> None:
    """Ask the reference's nets about every pool (its first draw)."""
    from synthrad.study.crossed import answer

    study, manifest, _, graph = open_run(folder)
    task_name, net_name, arm = key.split("/")
    pools = {n: Manifest.read(pools_of(folder, n)[0]) for n, source in graph["sources"].items() if "pool" in source}
    with locked(folder / key / ".lock", f"crossed {key}"):
        answer(study, manifest, task_name, net_name, folder / key, arm, pools, graph["crossed"][key])


def report(folder: Path, opened: tuple[Study, Manifest, Plan, dict[str, Any]] | None = None, pictures: bool = True) -> Path:
    """Gather the cases of every fit, compare, write report.html, summary.jsonl and what TensorBoard shows.

    Args:
        opened: as `open_run` returns it, where the study file may have changed since graph.json was written.
        pictures: False = report_shareable.html alone, without an image.
    """
    from synthrad.study.board import write_board
    from synthrad.study.gathering import gather
    from synthrad.study.report import write_report
    from synthrad.study.summary import write_summary

    study, manifest, plan, graph = opened or open_run(folder)
    facts = gather(folder, study, manifest, plan, graph)
    if not pictures:
        return write_report(folder, facts, pictures=False)
    write_board(folder, facts, study, manifest, [name for name, source in graph["sources"].items() if "pool" in source])
    write_summary(folder, facts)
    return write_report(folder, facts)


def main(argv: list[str]) -> int:
    """Run one job in the current folder; one clear line on stderr if it fails."""
    folder = Path.cwd()
    jobs = {"generator": generator, "pool": pool, "arms": arms, "fit": fit, "crossed": crossed, "report": report}
    job = " ".join(argv)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        jobs[argv[0]](folder, *argv[1:])
    except (InputError, RunError, OSError) as e:
        if isinstance(e, RunError) and _requeued(folder, job):
            return 1
        if isinstance(e, Stopped):  # no failure: it goes on from here
            print(f"synthrad study, job {job}: {e}", file=sys.stderr)
            return 1
        message = f"job {job}: {told(e) if isinstance(e, OSError) else e}"
        print(f"synthrad study, {message}", file=sys.stderr)
        failures.note(folder, job, e, message)
        return 2 if isinstance(e, InputError) else 1
    except Exception as e:  # a fault of ours or of a library: one line, and the pages in a file
        message = f"job {job}: {type(e).__name__}: {' '.join(str(e).split())[:300]}{failures.keep_traceback(folder, job)}"
        print(f"synthrad study, {message}", file=sys.stderr)
        failures.note(folder, job, e, message)
        return 1
    except KeyboardInterrupt:
        if not _requeued(folder, job):
            print(f"synthrad study, job {job}: interrupted", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _requeued(folder: Path, job: str) -> bool:
    """Put a cluster job that met its time limit back into the queue; says so."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # requeueing ends this process, too
    if not cluster.requeued(folder):
        return False
    print(f"synthrad study, job {job}: its time limit is near; it goes back into the queue and goes on from there", file=sys.stderr)
    return True


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt  # the study's way to say stop; inside a fit Preemption takes it and saves


if __name__ == "__main__":
    sys.exit(logged(Path.cwd(), sys.argv[1:], main))

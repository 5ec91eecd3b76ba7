"""`synthrad study run|status|report|board`: the verbs of a whole comparison."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthrad.errors import InputError, RunError
from synthrad.study import failures
from synthrad.study.locking import Lock, locked

if TYPE_CHECKING:
    from synthrad.study.description import Study
    from synthrad.study.planning import Plan


def parser() -> argparse.ArgumentParser:
    """The command line of `synthrad study`."""
    top = argparse.ArgumentParser(
        prog="synthrad study", description="Run, watch and report a comparison of fusion strategies.",
        epilog="A killed or interrupted study resumes with the same command; a changed arm re-runs only itself.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="run|status|report|board")
    texts = {
        "run": "do every job that is not done: generators, synthetic sets, fits and tests of all arms, report",
        "status": "print what is done and what is not",
        "report": "write report.html again from the finished fits",
        "board": "open TensorBoard on the fits and the study-level scalars",
    }
    for verb, text in texts.items():
        sub = verbs.add_parser(verb, help=text, description=text)
        sub.add_argument("study", type=Path, help="study file, e.g. configs/studies/quickstart.yaml")
        sub.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
        if verb == "run":
            sub.add_argument("--dry-run", action="store_true", help="print the jobs and the arms; do nothing")
            sub.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="default: %(default)s")
        if verb == "board":
            sub.add_argument("--port", type=int, default=6006)
    return top


def run(argv: list[str]) -> int:
    """Entry point of the verb."""
    args = parser().parse_args(argv)
    from synthrad.study.description import load_study

    study = load_study(args.study)
    folder = (args.runs / study.name).resolve()
    if args.verb == "status":
        return _status(study, folder)
    if args.verb == "board":
        return subprocess.call([sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(args.port)])
    if args.verb == "run" and args.dry_run:
        return _dry_run(study)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", f"study {study.name}") as lock:
        plan = _write_graph(study, args.study, folder)
        if args.verb == "report":
            from synthrad.study.jobs import report

            print(report(folder))
            return 0
        _print_plan(plan)
        return _snakemake(folder, args.cores, lock)


def _plan(study: Study) -> tuple[Any, Plan]:
    from synthrad.records import Manifest
    from synthrad.study.planning import make_plan

    manifest = Manifest.read(study.manifest)
    train = manifest.where(split="train", source="real")
    for split in ("train", "val", "test"):
        if not len(manifest.where(split=split)):
            raise InputError(study.manifest, f"no row in split {split!r}", "train, val and test rows",
                             "prepare it again with --fractions")
    return manifest, make_plan(study, train)


def _write_graph(study: Study, path: Path, folder: Path) -> Plan:
    """Write study.yaml, the endpoint's hash and graph.json, from which the Snakefile works."""
    import yaml

    from synthrad.records import write_durably
    from synthrad.study.description import digest_of
    from synthrad.study.planning import identities

    manifest, plan = _plan(study)
    declared = digest_of(study.endpoint.model_dump())
    seal = folder / "endpoint.sha256"
    if seal.exists() and seal.read_text().strip() != declared and list(folder.glob("*/*/*/done.json")):
        raise InputError(f"{path}: endpoint", "another endpoint than the one declared before the first fit",
                         f"the endpoint sealed in {seal}", "give the study a new name, or take the old endpoint back")
    write_durably(seal, f"{declared}\n".encode())
    write_durably(folder / "study.yaml", yaml.safe_dump(json.loads(study.model_dump_json()), sort_keys=False).encode())
    ids = identities(study, plan, manifest)
    sources = {n: {"generator": ids["generator"][n], "pool": ids["pool"][n], "trained": s.generator is not None}
               for n, s in study.sources.items() if sum(plan.wanted[n].values())}
    fits = {key: {"identity": value, "source": plan[key.split("/")[2]].source, "seeds": study.seeds}
            for key, value in ids["fit"].items()}
    graph = {"sources": sources, "fits": fits, "arms": digest_of(sources, sorted(fits)),
             "identity": digest_of(fits, declared, study.model_dump()), "working_folder": str(Path.cwd()),
             "study_file": str(path)}
    write_durably(folder / "graph.json", json.dumps(graph, indent=1).encode())
    return plan


def _print_plan(plan: Plan) -> None:
    print("arms:")
    for arm in plan.arms:
        note = f"adds no row: same as {arm.same_as}, not fitted" if arm.same_as else f"{arm.rows_added} rows"
        print(f"  {arm.name:<32} {arm.strategy:<16} {arm.role:<10} {note}")


def _dry_run(study: Study) -> int:
    _, plan = _plan(study)
    _print_plan(plan)
    fits = [f"{t}/{n}/{a.name}" for t, task in study.tasks.items() for n in task.nets for a in plan.fitted()]
    for name, source in study.sources.items():
        print(f"source {name}: {'fit ' + source.generator if source.generator else 'imported'}, "
              f"{sum(plan.wanted[name].values())} rows wanted, {source.draws} draw(s)")
    print(f"{len(fits)} fits x {study.seeds} seeds:\n  " + "\n  ".join(fits))
    return 0


def _snakemake(folder: Path, cores: int, lock: Lock) -> int:
    """Run the graph. SIGTERM and Ctrl-C go on to Snakemake and its jobs, which save and stop; the next call resumes.

    Snakemake holds the study's lock as well: if only this process is killed, it stays the one writer.
    """
    base = [sys.executable, "-m", "snakemake", "--snakefile", str(Path(__file__).with_name("Snakefile")),
            "--directory", str(folder), "--configfile", str(folder / "graph.json"), "--cores", str(cores)]
    if list((folder / ".snakemake" / "locks").glob("*")):  # ours is held, so Snakemake's is a dead run's
        subprocess.run([*base, "--unlock"], check=False, capture_output=True)
    call = [*base, "--rerun-triggers", "params", "input", "--rerun-incomplete", "--quiet", "rules", "host", "reason"]
    failures.forget(folder)
    code, stopped = _wait(lock.start(call, start_new_session=True))  # a session: a signal must reach the jobs too
    if code and stopped:
        raise RunError(f"stopped by {signal.Signals(stopped).name}; what is finished or saved is kept: the same command "
                       f"resumes ({folder})")
    if code:
        messages, bad_input = failures.read(folder)
        said = "\n".join(messages) or "a job failed; its message stands above"
        if bad_input:
            print(f"synthrad study: {said}", file=sys.stderr)
            return 2
        raise RunError(f"{said}\n  What is finished is kept: the same command resumes ({folder})")
    print(f"report: {folder / 'report.html'}")
    return 0


def _wait(process: subprocess.Popen) -> tuple[int, int]:
    """Wait for Snakemake; returns its code and the signal that was passed on, 0 for none."""
    stopped = 0

    def forward(number: int, _: object) -> None:
        nonlocal stopped
        at_once = number == stopped == signal.SIGINT  # a second Ctrl-C: all that is saved outlives a kill
        stopped = number
        if number == signal.SIGINT and not at_once:
            print("\nstopping: running jobs save and end; Ctrl-C again ends them at once", file=sys.stderr, flush=True)
        os.killpg(process.pid, signal.SIGKILL if at_once else signal.SIGTERM)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return process.wait(), stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _status(study: Study, folder: Path) -> int:
    graph_file = folder / "graph.json"
    if not graph_file.exists():
        print(f"{study.name}: not started (synthrad study run ...)")
        return 0
    graph = json.loads(graph_file.read_text())
    for source in graph["sources"]:
        done = (folder / "sources" / source / "pool.json").exists()
        print(f"source {source:<28} {'done' if done else 'open'}")
    for fit, spec in graph["fits"].items():
        seeds = sum((folder / fit / f"seed{s}" / "cases.parquet").exists() for s in range(spec["seeds"]))
        print(f"fit    {fit:<48} {seeds}/{spec['seeds']} seeds")
    print("report", "done" if (folder / "report.html").exists() else "open")
    return 0

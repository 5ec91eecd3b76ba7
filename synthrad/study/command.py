"""`synthrad study run|status|report|board|replicate|pool|export|import-cases`: the verbs of a whole comparison."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthrad.errors import InputError, RunError
from synthrad.locking import Lock, locked
from synthrad.study import failures, outside_command
from synthrad.study.watching import watched

LOG = "snakemake.log"  # in the run folder: pages that nobody needs while all goes well

if TYPE_CHECKING:
    from synthrad.records import Manifest
    from synthrad.study.cluster import Profile
    from synthrad.study.description import Study
    from synthrad.study.planning import Plan


def parser() -> argparse.ArgumentParser:
    """The command line of `synthrad study`."""
    top = argparse.ArgumentParser(
        prog="synthrad study", description="Run, watch and report a comparison of fusion strategies.",
        epilog="A killed or interrupted study resumes with the same command; a changed arm re-runs only itself.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="run|status|report|board|replicate|pool|export|import-cases")
    texts = {
        "run": "do every job that is not done: generators, synthetic sets, fits and tests of all arms, report",
        "status": "print a table of all jobs: state, progress, speed, time left, log",
        "report": "write report.html again from the finished fits",
        "board": "open TensorBoard on the fits and the study-level scalars",
    }
    for verb, text in texts.items():
        sub = verbs.add_parser(verb, help=text, description=text)
        sub.add_argument("study", type=Path, help="study file, e.g. configs/studies/quickstart.yaml")
        sub.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs (default: %(default)s)")
        if verb == "run":
            sub.add_argument("--dry-run", action="store_true", help="print the jobs and the arms; do nothing")
            sub.add_argument("--keep-going", action="store_true", help="where a job fails, do those that don't need it")
            sub.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="of this machine, without --profile (default: %(default)s)")
            sub.add_argument("--profile", metavar="NAME|FILE", help="run the jobs on a SLURM cluster: slurm, or a copy of "
                             "configs/profiles/slurm.yaml that says what yours wants")
        if verb == "report":
            sub.add_argument("--without-pictures", action="store_true",
                             help="write report_shareable.html instead: every figure and table, no image of a patient and no synthetic one")
        if verb == "board":
            sub.add_argument("--port", type=int, default=6006)
    _replicate_parsers(verbs)
    outside_command.add_parsers(verbs)
    return top


def _replicate_parsers(verbs: argparse._SubParsersAction) -> None:
    """The verbs on several studies of one design."""
    text = "write the same study for other splits, generator seeds and draws; `run` each of them, then `pool`"
    sub = verbs.add_parser("replicate", help=text, description=text)
    sub.add_argument("study", type=Path, help="study file, e.g. configs/studies/mine.yaml")
    sub.add_argument("--number", type=int, default=5, help="replicates (default: %(default)s, the fewest for a p-value)")
    sub.add_argument("--out", type=Path, help="folder of the study files (default: that of the study)")
    sub.add_argument("--data", type=Path, default=Path("data"), help="folder of the manifests of the other splits (default: %(default)s)")
    text = "compare the arms over finished replicates: an interval over splits, generators and draws (Nadeau-Bengio)"
    sub = verbs.add_parser("pool", help=text, description=text)
    sub.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders of replicates, e.g. runs/mine_r1 runs/mine_r2")
    sub.add_argument("--out", type=Path, required=True, help="folder that gets pooled.json and by_replicate.csv")


def run(argv: list[str]) -> int:
    """Entry point of the verb."""
    args = parser().parse_args(argv)
    if args.verb == "pool":
        return _pool(args.runs, args.out)
    if args.verb == "replicate":
        return _replicate(args.study, args.number, args.out or args.study.parent, args.data)
    from synthrad.study.settling import settled, told
    from synthrad.study.study_file import load_study

    asked = load_study(args.study)
    folder = (args.runs / asked.name).resolve()
    study = settled(asked, folder, on_cluster=getattr(args, "profile", None) is not None)
    if args.verb == "status":
        return _status(study, args.study, folder)
    if args.verb == "board":
        return _board(folder, args.port)
    if args.verb == "report":
        return _report(study, args.study, folder, not args.without_pictures)
    if args.verb in outside_command.VERBS:
        return _outside(args, study, folder)
    if args.dry_run:
        print("".join(f"{line}\n" for line in told(asked, study)), end="")
        return _dry_run(study, args.study)
    profile = _profile(args.profile)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", f"study {study.name}") as lock:
        _wait_for_orphans(folder, profile)
        plan = _write_graph(study, args.study, folder)
        print("".join(f"{line}\n" for line in told(asked, study)), end="")
        _compare_sets(study, args.study, folder)
        _print_plan(plan)
        place = _place(folder, study, profile) or ["--configfile", str(folder / "graph.json"), "--cores", str(args.cores)]
        return _snakemake(folder, [*place, *(["--keep-going"] if args.keep_going else [])], lock, on_cluster=profile is not None)


def _board(folder: Path, port: int) -> int:
    """TensorBoard, which names a run by its path below the folder that it is given: study/task/net/arm/seed below one that holds a link to the study alone."""
    with tempfile.TemporaryDirectory(prefix="synthrad_board_") as above:
        (Path(above) / folder.name).symlink_to(folder, target_is_directory=True)
        return subprocess.call([sys.executable, "-m", "tensorboard.main", "--logdir", above, "--port", str(port)])


def _profile(name: str | None) -> Profile | None:
    """The profile of a cluster, checked together with this machine; None = run here."""
    if name is None:
        return None
    from synthrad.study.cluster import check_tools, load_profile

    profile = load_profile(name)
    check_tools()
    return profile


def _wait_for_orphans(folder: Path, profile: Profile | None) -> None:
    """Let cluster jobs end that an earlier run, killed before it could cancel them, left in the queue."""
    from synthrad.study.cluster import FILE, wait_for_orphans

    if (folder / FILE).exists():
        wait_for_orphans(folder, profile.status_seconds if profile else 10, lambda said: print(said, flush=True))


def _place(folder: Path, study: Study, profile: Profile | None) -> list[str]:
    """Snakemake's options for a cluster; [] where the study runs here."""
    from synthrad.study.cluster import FILE, arguments, write_cluster

    if profile is None:
        (folder / FILE).unlink(missing_ok=True)
        return []
    return ["--configfile", str(folder / "graph.json"), str(write_cluster(folder, study, profile)), *arguments(folder, profile)]


def _replicate(path: Path, number: int, out: Path, data: Path) -> int:
    from synthrad.study.replicating import write_replicates

    files = write_replicates(path, number, out, data)
    print("\n".join(f"synthrad study run {f}" for f in files))
    print(f"synthrad study pool {' '.join(f'runs/{f.stem}' for f in files)} --out runs/{path.stem}_pooled")
    return 0


def _pool(runs: list[Path], out: Path) -> int:
    """Verdicts over the pipeline, on paper and on the screen."""
    from synthrad.study.pooling import pool, write_pooled

    pooled = pool(runs)
    path = write_pooled(out, pooled)
    print(f"{len(pooled.replicates)} replicates, each with its own split; intervals over test subjects and the whole pipeline")
    print("\n".join([*pooled.comparisons.words, *pooled.extremes, *([pooled.largest.words] if pooled.largest else []), *pooled.notes,
                     *pooled.comparisons.notes]))
    print(path)
    return 0


def _real(study: Study) -> Manifest:
    from synthrad.records import Manifest

    manifest = Manifest.read(study.manifest)
    for split in ("train", "val", "test"):
        if not len(manifest.where(split=split)):
            raise InputError(study.manifest, f"no row in split {split!r}", "train, val and test rows",
                             "prepare it again with --fractions")
    return manifest


def _checked(study: Study, path: Path) -> tuple[Manifest, Plan]:
    """The real manifest and the plan, of a study file that was checked against all that it names."""
    from synthrad.study.checking import check_pools, check_study
    from synthrad.study.planning import make_plan

    manifest = _real(study)
    check_study(study, manifest, str(path))
    plan = make_plan(study, manifest.where(split="train", source="real"))
    check_pools(study, manifest, plan, str(path))
    return manifest, plan


def _graph(study: Study, path: Path, manifest: Manifest, plan: Plan) -> dict[str, Any]:
    """All jobs with their identities: what the Snakefile works from, and what tells finished work from stale."""
    from synthrad.study.crossed import identity_of
    from synthrad.study.description import digest_of
    from synthrad.study.planning import identities, planned_fits

    ids, arms = identities(study, plan, manifest), planned_fits(study, plan)
    drawn = [n for n in study.sources if sum(plan.wanted[n].values())]
    used = {n: study.sources[n] for n in dict.fromkeys(n for d in drawn for n in (*study.trained_before(d), d))}
    owners: dict[str, str] = {}  # of two sources with one training, the first fits the generator
    for n in used:
        owners.setdefault(ids["generator"][n], n)
    sources = {n: {"generator": ids["generator"][n], "trained": s.generator is not None, "checkpoint": s.checkpoint}
               for n, s in used.items()}
    for n, s in used.items():  # keys that few have
        if n in drawn:
            sources[n]["pool"] = ids["pool"][n]
        if s.starts:
            sources[n]["starts"] = sorted(set(s.starts.values()))
        if s.generator and owners[ids["generator"][n]] != n:
            sources[n]["owner"] = owners[ids["generator"][n]]
    fits = {key: {"identity": value, "source": arms[key].source, "seeds": study.seeds}
            for key, value in ids["fit"].items()}
    pools = {n: ids["pool"][n] for n in drawn}
    crossed = {key: identity_of(value, pools) for key, value in ids["fit"].items() if pools and arms[key].role == "reference"}
    return {"sources": sources, "fits": fits, "crossed": crossed, "arms": digest_of(sources, sorted(fits)),
            "identity": digest_of(fits, digest_of(study.endpoint.model_dump()), study.said()),
            "working_folder": str(Path.cwd()), "study_file": str(path)}


def _seal(study: Study, path: Path, folder: Path) -> tuple[Path, str]:
    """File and hash of the declared endpoint; refuses another one than that of the first fit."""
    from synthrad.study.description import digest_of

    declared, seal = digest_of(study.endpoint.model_dump()), folder / "endpoint.sha256"
    if seal.exists() and seal.read_text().strip() != declared and list(folder.glob("*/*/*/done.json")):
        raise InputError(f"{path}: endpoint", "another endpoint than the one declared before the first fit",
                         f"the endpoint sealed in {seal}", "give the study a new name, or take the old endpoint back")
    return seal, declared


def _write_graph(study: Study, path: Path, folder: Path) -> Plan:
    """Write study.yaml, the endpoint's hash and graph.json, from which the Snakefile works."""
    import yaml

    from synthrad.files import write_durably

    said = yaml.safe_dump(json.loads(study.model_dump_json()), sort_keys=False)
    if (plan := _plan_checked_before(study, path, folder, said)) is not None:
        return plan
    manifest, plan = _checked(study, path)  # before the seal: a misspelt endpoint must not be the declared one
    graph = _graph(study, path, manifest, plan)
    seal, declared = _seal(study, path, folder)
    write_durably(seal, f"{declared}\n".encode())
    write_durably(folder / "study.yaml", said.encode())
    write_durably(folder / "graph.json", json.dumps(graph, indent=1).encode())
    return plan


def _plan_checked_before(study: Study, path: Path, folder: Path, said: str) -> Plan | None:
    """The plan, where study.yaml and graph.json, which are written after the checks, already say all of this; nets are built in those checks."""
    from synthrad.study.planning import make_plan

    known = [folder / "study.yaml", folder / "graph.json"]
    if not all(p.is_file() for p in known) or known[0].read_text() != said:
        return None
    manifest = _real(study)
    plan = make_plan(study, manifest.where(split="train", source="real"))
    graph = _graph(study, path, manifest, plan)
    seal, declared = _seal(study, path, folder)
    sealed = seal.is_file() and seal.read_text().strip() == declared
    return plan if sealed and known[1].read_text() == json.dumps(graph, indent=1) else None


def _report(study: Study, path: Path, folder: Path, pictures: bool) -> int:
    """The report of finished fits; says what is missing, and then writes nothing."""
    from synthrad.study.jobs import report
    from synthrad.study.planning import make_plan
    from synthrad.study.standing import check_whole

    manifest = _real(study)
    plan = make_plan(study, manifest.where(split="train", source="real"))
    graph = _graph(study, path, manifest, plan)
    _seal(study, path, folder)
    check_whole(folder, graph)
    with locked(folder / ".lock", f"study {study.name}"):
        print(report(folder, (study, manifest, plan, graph), pictures))
    return 0


def _compare_sets(study: Study, path: Path, folder: Path | None) -> None:
    """Refuse a study whose held-out images other sets of it show, by pixels; say what was compared and what is unknown."""
    from synthrad.study.other_sets import check_other_sets

    if found := check_other_sets(study, _real(study), str(path), folder):
        print("other sets:", *(f"  {f.words}" for f in found), sep="\n")


def _outside(args: argparse.Namespace, study: Study, folder: Path) -> int:
    """An arm for another trainer, or its predictions back."""
    from synthrad.study.planning import make_plan

    manifest = _real(study)
    plan = make_plan(study, manifest.where(split="train", source="real"))
    return outside_command.run(args, folder, study, manifest, plan, _graph(study, args.study, manifest, plan))


def _print_plan(plan: Plan) -> None:
    print("arms:")
    for arm in plan.arms:
        note = f"adds no row: same as {arm.same_as}, not fitted" if arm.same_as else f"{arm.rows_added} rows"
        print(f"  {arm.name:<32} {arm.strategy:<16} {arm.role:<10} {note}")


def _dry_run(study: Study, path: Path) -> int:
    from synthrad.study.planning import planned_fits

    manifest, plan = _checked(study, path)
    _compare_sets(study, path, None)
    _print_plan(plan)
    fits, graph = planned_fits(study, plan), _graph(study, path, manifest, plan)["sources"]
    for name, source in study.sources.items():
        owner = graph.get(name, {}).get("owner")
        origin = f"the generator of {owner}" if owner else f"fit {source.generator}" if source.generator else "imported"
        begun = "".join(f", {option} of {other}" for option, other in source.starts.items())
        print(f"source {name}: {origin}{begun}, "
              f"{sum(plan.wanted[name].values())} rows wanted, {source.draws} draw(s)")
    print(f"{len(fits)} fits x {study.seeds} seeds:\n  " + "\n  ".join(fits))
    return 0


def _snakemake(folder: Path, place: list[str], lock: Lock, on_cluster: bool) -> int:
    """Run the graph. SIGTERM and Ctrl-C go on to Snakemake and its jobs, which save and stop; the next call resumes.

    Snakemake holds the study's lock as well: if only this process is killed, it stays the one writer.
    """
    base = [sys.executable, "-m", "snakemake", "--snakefile", str(Path(__file__).with_name("Snakefile")),
            "--directory", str(folder), *place]
    if list((folder / ".snakemake" / "locks").glob("*")):  # ours is held, so Snakemake's is a dead run's
        subprocess.run([*base, "--unlock"], check=False, capture_output=True)
    call = [*base, "--rerun-triggers", "params", "input", "--rerun-incomplete", "--quiet", "rules", "host", "reason"]
    failures.forget(folder)
    begun = time.time()
    with open(folder / LOG, "wb") as log, watched(folder, folder / LOG):  # a session: a signal must reach the jobs too
        code, stopped = _wait(lock.start(call, start_new_session=True, stderr=log), on_cluster)
    if code and stopped:
        raise RunError(f"stopped by {signal.Signals(stopped).name}; what is finished or saved is kept: the same command "
                       f"resumes ({folder})")
    if code:
        messages, bad_input = failures.read(folder, begun)
        said = "\n".join(messages) or f"a job failed without a word; what Snakemake says: {folder / LOG}"
        if on_cluster:
            said += _cluster_logs(folder)
        if bad_input:
            print(f"synthrad study: {said}", file=sys.stderr)
            return 2
        raise RunError(f"{said}\n  What is finished is kept: the same command resumes ({folder})")
    print(f"report: {folder / 'report.html'}")
    return 0


def _cluster_logs(folder: Path) -> str:
    """Where the logs are of the cluster jobs that did not go well, with the last that SLURM and the job itself say there."""
    told = ""
    for path in map(Path, re.findall(r"\(log: (.+?\.log)\)", (folder / LOG).read_text(errors="replace"))):
        if path.is_file():  # that of a job that went well is removed
            lines = [line for line in path.read_text(errors="replace").splitlines() if re.match(r"synthrad|slurmstepd|srun: error", line)]
            told += "".join(f"\n  {line}" for line in [f"log: {path}", *(f"  {line}" for line in lines[-6:])])
    return told


def _wait(process: subprocess.Popen, on_cluster: bool) -> tuple[int, int]:
    """Wait for Snakemake; returns its code and the signal that came, 0 for none."""
    stopped, words = 0, "running jobs save and end; Ctrl-C again ends them at once"
    stop = signal.SIGTERM
    if on_cluster:  # there Snakemake cancels its jobs on SIGINT; on SIGTERM it would wait until they have finished
        stop, words = signal.SIGINT, "cluster jobs are cancelled, which lets them save; Ctrl-C again does not wait for that"

    def forward(number: int, _: object) -> None:
        nonlocal stopped
        at_once = number == stopped == signal.SIGINT  # a second Ctrl-C: all that is saved outlives a kill
        stopped = number
        if number == signal.SIGINT and not at_once:
            print(f"\nstopping: {words}", file=sys.stderr, flush=True)
        os.killpg(process.pid, signal.SIGKILL if at_once else stop)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return process.wait(), stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _status(study: Study, path: Path, folder: Path) -> int:
    """Print how each job stands under the settings that the file has now."""
    from synthrad.study.planning import make_plan
    from synthrad.study.status import rows_of, table

    if not (folder / "graph.json").exists():
        print(f"{study.name}: not started (synthrad study run {path})")
        return 0
    manifest = _real(study)
    graph = _graph(study, path, manifest, make_plan(study, manifest.where(split="train", source="real")))
    rows = rows_of(folder, graph)
    print(table(rows))
    if any("stale" in f"{row.state} {row.progress}" for row in rows):
        print(f"stale: made under other settings than {path} has now; `synthrad study run {path}` does it again")
    return 0

"""A study on a SLURM cluster: what its profile asks for, the job that a generator's processes are started from, and requeueing.

Snakemake's SLURM plugin submits one job for each job of the graph. flock does not hold across the nodes of every file
system (NFS with local_lock, BeeGFS and Lustre without an option), so that locks alone do not keep a job from being
doubled there: a run first waits for cluster jobs of an earlier run that are still queued or running, as SLURM counts them.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from synthrad.documents import read_yaml
from synthrad.errors import InputError, InputErrors, RunError, near
from synthrad.files import write_durably
from synthrad.study.description import Part, Source, Study
from synthrad.study.study_file import fault_of

FILE = "cluster.json"  # in the run folder: the last run was one on a cluster
LOGS = "slurm_logs"  # in the run folder: one a job; those of jobs that went well are removed
STRATEGY = "ddp_find_unused_parameters_true"  # generator and discriminator of a GAN are trained in turn
FOLDERS = (Path("configs/profiles"), Path(__file__).parents[2] / "configs" / "profiles")  # of profiles that are given by name
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "PREEMPTED")


class Job(Part):
    """What one kind of job gets.

    Args:
        gpus: of a process: 1, or 0 for CPUs. cpus: of a process. memory_gb: of a node. hours: the time limit.
    """

    gpus: Literal[0, 1] = 1
    cpus: int = Field(8, ge=1)
    memory_gb: float = Field(32, gt=0)
    hours: float = Field(8, gt=0)


class GeneratorJob(Job):
    """What the fit of a generator gets, on each node; nodes x tasks_per_node processes, each with a device."""

    nodes: int = Field(1, ge=1)
    tasks_per_node: int = Field(1, ge=1)
    memory_gb: float = Field(64, gt=0)
    hours: float = Field(24, gt=0)


class Profile(Part):
    """A profile file, see configs/profiles/slurm.yaml, which explains every key."""

    partition: str | None = None
    account: str | None = None
    gpu_type: str | None = None
    extra: str = ""
    setup: tuple[str, ...] = ()
    container: str = ""
    jobs: int = Field(50, ge=1)
    save_seconds: int = Field(180, ge=10)
    requeues: int = Field(50, ge=0)
    status_command: Literal["sacct", "squeue"] | None = None
    status_seconds: int = Field(40, ge=1)
    latency_seconds: int = Field(60, ge=0)
    generator: GeneratorJob = GeneratorJob()
    pool: Job = Job()
    fit: Job = Job(hours=12)
    arms: Job = Job(gpus=0, cpus=1, memory_gb=8, hours=1)
    report: Job = Job(gpus=0, cpus=4, memory_gb=16, hours=4)

    @field_validator("extra", "container")
    @classmethod
    def _can_be_split(cls, text: str) -> str:
        try:
            shlex.split(text)
        except ValueError as e:
            raise ValueError(f"found {text!r} ({e}), expected words as a shell takes them") from e
        return text


def load_profile(name: str) -> Profile:
    """Read and check a profile: a path, or the name of a file in configs/profiles.

    Raises:
        InputError: there is none. InputErrors: all faults at once, each with its key.
    """
    path = next((p for p in (Path(name), *(place / f"{name}.yaml" for place in FOLDERS)) if p.is_file()), None)
    if path is None:
        known = sorted({p.stem for place in FOLDERS for p in place.glob("*.yaml")})
        raise InputError(f"--profile {name}", "no such file", f"a profile file, or one of {', '.join(known)}", near(name, known))
    data = read_yaml(path, "a profile")
    if not isinstance(data, dict):
        raise InputError(str(path), "an empty file" if data is None else f"a {type(data).__name__}", "a mapping with the keys of a profile",
                         "start from configs/profiles/slurm.yaml")
    try:
        return Profile.model_validate(data)
    except ValidationError as e:
        raise InputErrors(str(path), [fault_of(error, Profile) for error in e.errors()]) from e


def check_tools() -> None:
    """Refuse to begin where the plugin or SLURM itself is missing.

    Raises:
        InputError: names what, and how to get it.
    """
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        raise InputError("--profile", "no Snakemake plugin for SLURM", "snakemake-executor-plugin-slurm", "pip install 'synthrad[slurm]'")
    if missing := [tool for tool in ("sbatch", "squeue", "scancel", "srun") if shutil.which(tool) is None]:
        raise InputError("--profile", f"no {', '.join(missing)} on this machine", "a login node of a SLURM cluster",
                         "go to one, or leave --profile out to run here")


def write_cluster(folder: Path, study: Study, profile: Profile) -> Path:
    """Write cluster.json, from which the Snakefile and the generators' jobs know what to ask for; returns its path."""
    wide = {name: _generator_job(profile, source) for name, source in study.sources.items()}
    spread = any(job.nodes * job.tasks_per_node > 1 for job in wide.values())
    jobs = {rule: _resources(profile, getattr(profile, rule)) for rule in ("pool", "fit", "arms", "report")}
    said = {
        "requeues": profile.requeues, "save_seconds": profile.save_seconds,
        "before": _shell(profile.setup), "python": f"{profile.container} python" if profile.container else "",
        "threads": {rule: getattr(profile, rule).cpus for rule in ("generator", *jobs)},
        "jobs": jobs,
        "generators": {name: _wide_resources(profile, job, spread) for name, job in wide.items()},
        "srun": {name: _srun(profile, job) for name, job in wide.items()} if spread else {},
        "processes": {name: [job.nodes, job.tasks_per_node] for name, job in wide.items()},
    }  # fmt: skip
    path = folder / FILE
    write_durably(path, json.dumps({"cluster": said}, indent=1).encode())
    return path


def _generator_job(profile: Profile, source: Source) -> GeneratorJob:
    own = {k: v for k, v in (("nodes", source.nodes), ("tasks_per_node", source.tasks_per_node)) if v is not None}
    return profile.generator.model_copy(update=own)


def _shell(setup: Sequence[str]) -> str:
    """The setup lines as the beginning of a shell line; module and conda scripts do not bear `set -u`, which Snakemake sets."""
    return f"set +u; {'; '.join(setup)}; set -u; " if setup else ""


def _resources(profile: Profile, job: Job) -> dict[str, Any]:
    """Resources as the SLURM plugin of Snakemake names them."""
    extra = f"--signal=TERM@{profile.save_seconds} {profile.extra}".strip()
    found = {"runtime": math.ceil(60 * job.hours), "mem_mb": math.ceil(1000 * job.memory_gb), "slurm_extra": extra}
    if profile.partition:
        found["slurm_partition"] = profile.partition
    if profile.account:
        found["slurm_account"] = profile.account
    if job.gpus:
        found |= {"gres": _gres(profile, 1), "tasks_per_gpu": 0}  # 0: else the plugin adds --ntasks-per-gpu
    return found


def _gres(profile: Profile, number: int) -> str:
    return ":".join(["gpu", *([profile.gpu_type] if profile.gpu_type else []), str(number)])


def _wide_resources(profile: Profile, job: GeneratorJob, spread: bool) -> dict[str, Any]:
    """Those of a generator's job. `spread`: a generator of the study has several processes; all are then started by srun."""
    found = _resources(profile, job)
    if job.gpus:
        found["gres"] = _gres(profile, job.tasks_per_node)
    if spread:  # `mpi` lets the plugin start the job outside of a step, so that it can start one with srun itself
        tasks = job.nodes * job.tasks_per_node
        found |= {"mpi": "srun" if tasks > 1 else "", "nodes": job.nodes, "tasks": tasks}
        found["slurm_extra"] += f" --ntasks-per-node={job.tasks_per_node}"
    return found


def _srun(profile: Profile, job: GeneratorJob) -> list[str]:
    """The start of the command line that starts a generator's processes, up to the interpreter.

    The plugin strips SLURM's variables, so that srun is told everything. Where a process dies, the others, which would wait for
    it without end, are ended after 300 s.
    """
    tasks = job.nodes * job.tasks_per_node
    return ["srun", f"--nodes={job.nodes}", f"--ntasks={tasks}", f"--ntasks-per-node={job.tasks_per_node}", f"--cpus-per-task={job.cpus}",
            "--wait=300", *(shlex.split(profile.container) + ["python"] if profile.container else [sys.executable])]


def read_cluster(folder: Path) -> dict[str, Any] | None:
    """What `write_cluster` wrote, None where the last run was a local one."""
    path = folder / FILE
    return json.loads(path.read_text())["cluster"] if path.is_file() else None


def arguments(folder: Path, profile: Profile) -> list[str]:
    """Snakemake's options for the cluster."""
    status = ["--slurm-status-command", profile.status_command] if profile.status_command else []
    return ["--executor", "slurm", "--jobs", str(profile.jobs), "--latency-wait", str(profile.latency_seconds), "--slurm-requeue",
            "--slurm-init-seconds-before-status-checks", str(profile.status_seconds), "--slurm-logdir", str(folder / LOGS), *status]


def generator_options(cluster: Mapping[str, Any], name: str, source: Source) -> tuple[list[str], list[str]]:
    """Options of `synthrad fit` for a generator on the cluster: those before its config, which may say otherwise, and those after.

    The batch of the config is divided among the processes: what is trained does not depend on where.

    Raises:
        InputError: the batch cannot be divided so.
    """
    nodes, per_node = cluster["processes"][name]
    world, batch = nodes * per_node, _batch_size(source)
    if batch % world:
        raise InputError(f"sources.{name}", f"{nodes} node(s) x {per_node} process(es) for a batch_size of {batch}",
                         "a number of processes that divides it", f"change nodes or tasks_per_node, or batch_size in {source.generator}")
    after = [f"--trainer.num_nodes={nodes}", f"--trainer.devices={per_node}", f"--data.batch_size={batch // world}"]
    return ([f"--trainer.strategy={STRATEGY}"], after) if world > 1 else ([], after[:2])


def check_processes(name: str, home: Path, world: int) -> None:
    """Refuse to go on with another number of processes than the fit of a generator was begun with: each has its place in the data.

    Raises:
        InputError: names both numbers.
    """
    mark = home / "processes"
    begun = mark.read_text() if mark.is_file() else "1"
    if begun != str(world) and any(home.glob("checkpoints/*.ckpt")):
        raise InputError(f"sources.{name}", f"{world} process(es), a fit begun with {begun}", "as many as it was begun with",
                         f"run it where it was begun, change nodes or tasks_per_node back, or begin again: remove {home}")
    write_durably(mark, str(world).encode())


def _batch_size(source: Source) -> int:
    """The batch that a generator's config and overrides ask for."""
    from synthrad.datamodules.generation import GenerationDataModule

    data = (read_yaml(Path(source.generator), "a config") or {}).get("data") or {}
    said = (data.get("init_args") or {}) if isinstance(data, dict) else {}
    found = said.get("batch_size", inspect.signature(GenerationDataModule.__init__).parameters["batch_size"].default)
    for override in source.overrides:
        key, _, value = override.partition("=")
        if key in ("--data.batch_size", "--data.init_args.batch_size"):
            found = int(value)
    return int(found)


def orphans(folder: Path) -> list[str]:
    """Ids of cluster jobs that work in a run folder and have not ended; [] where there is no squeue."""
    if shutil.which("squeue") is None:
        return []
    asked = subprocess.run(["squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%Z"], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise RunError(f"SLURM does not say whether jobs of an earlier run still run: {asked.stderr.strip()[:300]}")
    rows = [line.split("|", 2) for line in asked.stdout.splitlines()]
    return [number for number, state, place in rows if state not in ENDED and Path(place) == folder]


def wait_for_orphans(folder: Path, every_seconds: float, tell: Callable[[str], None]) -> None:
    """Wait until no cluster job of an earlier run is left: what one did is kept, and nothing is done twice."""
    told: list[str] = []
    while found := orphans(folder):
        if found != told:
            tell(f"waiting for {len(found)} cluster job(s) of an earlier run ({', '.join(found)}); `scancel {' '.join(found)}` ends them, "
                 "and what they have saved is kept")
            told = found
        time.sleep(every_seconds)


def requeued(folder: Path) -> bool:
    """Whether this job, which could not finish, met its time limit and was put back into the queue.

    A job that somebody cancelled is not put back; one of a failed node SLURM puts back by itself.
    """
    cluster, number = read_cluster(folder), os.environ.get("SLURM_JOB_ID")
    if cluster is None or number is None or int(os.environ.get("SLURM_RESTART_COUNT") or _restarts(number)) >= cluster["requeues"]:
        return False
    asked = subprocess.run(["squeue", "--noheader", "--jobs", number, "--format=%T|%L"], capture_output=True, text=True, check=False)
    state, _, left = asked.stdout.strip().partition("|")
    if state != "RUNNING" or seconds_of(left) > cluster["save_seconds"] + 60:  # SLURM's signal comes up to a minute early
        return False
    return subprocess.run(["scontrol", "requeue", number], check=False).returncode == 0


def _restarts(number: str) -> int:
    """How often SLURM has started a job again (the variable is stripped inside of steps)."""
    shown = subprocess.run(["scontrol", "show", "job", number], capture_output=True, text=True, check=False).stdout
    return next((int(word.partition("=")[2]) for word in shown.split() if word.startswith("Restarts=")), 0)


def seconds_of(left: str) -> float:
    """Seconds of a time as squeue prints it ([days-][[hours:]minutes:]seconds); infinite for UNLIMITED and the like."""
    days, _, clock = left.rpartition("-")
    try:
        total = 0
        for part in clock.split(":"):
            total = 60 * total + int(part)
        return float(total + 86400 * int(days or 0))
    except ValueError:
        return math.inf

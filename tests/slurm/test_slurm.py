"""A real SLURM of two nodes on this machine (scripts/slurm-testbed): fits on both, a whole study, drained nodes, requeued jobs."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tiny_generator import fit_command
from tiny_set import make

from synthrad.callbacks import newest_valid
from synthrad.callbacks.durable_checkpoint import step_of

pytest.importorskip("snakemake_executor_plugin_slurm", reason="no Snakemake plugin for SLURM: pip install 'synthrad[slurm]'")
ROOT = Path(__file__).parents[2]
TESTBED = ROOT / "scripts" / "slurm-testbed"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("slurmctld") is None and "SLURM_TESTBED" not in os.environ,
                       reason="no slurmctld: scripts/slurm-testbed install, or SLURM_TESTBED=FOLDER where it was unpacked"),
]  # fmt: skip
SECONDS = 300  # for one wait on a machine that does other work


class Cluster:
    """The testbed: its environment, and calls in it."""

    def __init__(self, folder: Path, work: Path):
        self.folder = folder
        text = subprocess.run(["bash", "-c", f"source {folder}/env; env -0"], capture_output=True, text=True, check=True).stdout
        self.env = dict(line.split("=", 1) for line in text.split("\0") if "=" in line)
        self.env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SYNTHRAD_PROJECT": str(work), "SYNTHRAD_SCRIPTS": str(ROOT / "scripts")}
        self.env["PATH"] = f"{work / 'bin'}:{Path(sys.executable).parent}:{self.env['PATH']}"
        (work / "bin").mkdir()
        (work / "bin" / "synthrad").write_text(f'#!/bin/sh\nexec {sys.executable} -m synthrad "$@"\n')
        (work / "bin" / "synthrad").chmod(0o755)

    def __call__(self, *call, code=0, **options):
        """What a command printed."""
        done = subprocess.run([str(c) for c in call], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=SECONDS, check=False, **options)
        assert code is None or done.returncode == code, done.stdout
        return done.stdout

    def state(self, job):
        return self("squeue", "-h", "-j", job, "--states=all", "-o", "%T").strip()

    def wait(self, found, said=lambda: ""):
        deadline = time.monotonic() + SECONDS
        while not (it := found()):
            assert time.monotonic() < deadline, said()
            time.sleep(0.3)
        return it


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder, work = Path(os.environ.get("SLURM_TESTBED") or tmp_path_factory.mktemp("bed")), tmp_path_factory.mktemp("work")
    port = 20000 + os.getpid() % 10000
    subprocess.run([TESTBED, "start", folder], env={**os.environ, "SLURM_TESTBED_PORT": str(port)}, check=True, timeout=60)
    try:
        yield Cluster(folder, work)
    finally:
        subprocess.run([TESTBED, "stop", folder], check=True, timeout=60)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "real"
    make(folder)
    return folder


def options_of(real, run, images):
    """Of a tiny generator's fit, for a recipe: without the word fit, which the recipe says, and with rarer checkpoints."""
    rare = {"--trainer.callbacks.every_steps=1": "--trainer.callbacks.every_steps=10"}
    return [rare.get(option, option) for option in fit_command(real, run, images=images)[1:]]


def follows_steps(run, most):
    last = newest_valid(run)
    return last is not None and 0 < step_of(last) < most and last


@pytest.mark.parametrize("recipe", ["slurm_fit", "torchrun_fit"])
def test_a_fit_on_two_nodes_is_stopped_saves_is_requeued_and_goes_on(cluster, real, tmp_path, recipe):
    run, out = tmp_path / "run", tmp_path / "out.txt"
    job = cluster("sbatch", "--parsable", f"--output={out}", "--cpus-per-task=1", "--time=20", ROOT / f"scripts/{recipe}.sbatch",
                  *options_of(real, run, 800)).strip()
    first = cluster.wait(lambda: follows_steps(run, 100), lambda: out.read_text())
    cluster("scancel", "--batch", "--signal=USR1", job)  # as SLURM does before the time limit
    cluster.wait(lambda: cluster.state(job) == "COMPLETED" or "FAILED" in cluster.state(job), lambda: out.read_text())
    said = out.read_text()
    assert cluster.state(job) == "COMPLETED" and "Restarts=1 " in cluster("scontrol", "show", "job", job), said
    assert "goes back into the queue" in said and "Traceback" not in said
    stopped = int(re.search(r"stopped by SIG(?:USR1|TERM) at step (\d+)", said).group(1))
    assert step_of(first) <= stopped < 100
    assert re.findall(r"GLOBAL_RANK: (\d), MEMBER: \d/(\d)", said).count(("1", "2")) == 2  # two processes, both times
    assert re.search(r"Restored all states from the checkpoint at .*last-0*(\d+)\.ckpt", said).group(1) == str(stopped)
    assert "synthrad fit: finished" in said and step_of(newest_valid(run)) > stopped


def test_a_wrong_number_of_nodes_is_caught(cluster, real, tmp_path):
    fit = ["synthrad", *fit_command(real, tmp_path / "run"), "--trainer.strategy=ddp_find_unused_parameters_true", "--trainer.devices=1"]
    said = cluster("srun", "--nodes=1", "--ntasks=1", *fit, "--trainer.num_nodes=2", code=2)
    assert "found 1 process(es); expected 2 node(s) x 1 device(s)" in said and "srun --nodes=2" in said
    said = cluster("srun", "--nodes=2", "--ntasks-per-node=1", *fit, "--trainer.num_nodes=1", code=2)
    assert "found 2 process(es); expected 1 node(s) x 1 device(s)" in said
    assert not (tmp_path / "run" / "checkpoints").exists()


def write_profile(folder):
    small = {"cpus": 1, "memory_gb": 4, "hours": 0.5}
    profile = {"status_seconds": 2, "latency_seconds": 10, "status_command": "squeue", "save_seconds": 30, "container": "",
               "setup": ["export FROM_THE_PROFILE=yes", "echo prepared on $SLURM_JOB_ID > setup.txt"],
               "generator": {"nodes": 2, **small}, "pool": small, "fit": small, "arms": {**small, "gpus": 0}, "report": {**small, "gpus": 0}}
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile))
    return folder / "profile.yaml"


def write_tiny_study(folder, real):
    generator = {
        "model": {"class_path": "synthrad.generators.gan.StyleGAN2",
                  "init_args": {"channel_base": 64, "channel_max": 8, "z_dim": 8, "w_dim": 8, "mapping_depth": 2, "max_images": 400}},
        "data": {"class_path": "synthrad.datamodules.generation.GenerationDataModule",
                 "init_args": {"manifest": str(real), "size": [32, 32], "batch_size": 4}},
        "trainer": {"callbacks": [{"class_path": "synthrad.callbacks.DurableCheckpoint", "init_args": {"every_steps": 5}}]},
    }  # fmt: skip
    (folder / "generator.yaml").write_text(yaml.safe_dump(generator))
    study = {
        "name": "bed", "mechanics": True, "manifest": str(real), "size": [32, 32], "seeds": 2, "cells": {"classes": ["caries"]},
        "sources": {"made": {"generator": str(folder / "generator.yaml")}},
        "arms": {"real_only": {"strategy": "RealOnly"}, "only": {"strategy": "SyntheticOnly", "source": "made"}},
        "tasks": {"find": {"kind": "classification", "classes": ["caries"], "steps": 200, "batch_size": 4, "validations": 2,
                           "nets": {"tiny": {"class_path": "TimmNet", "init_args": {"name": "test_resnet"}}}}},
        "endpoint": {"task": "find", "net": "tiny", "metric": "auroc", "classes": ["caries"]},
    }  # fmt: skip
    (folder / "bed.yaml").write_text(yaml.safe_dump(study))
    return folder / "bed.yaml"


def jobs_of(cluster, run):
    """(id, what, state, node list) of the cluster jobs of a run folder, ended ones too."""
    rows = [line.split("|") for line in cluster("squeue", "-h", "--states=all", "-o", "%i|%k|%T|%N|%Z").splitlines()]
    return [(number, what, state, nodes) for number, what, state, nodes, place in rows if place == str(run)]


def test_a_study_survives_a_killed_command_a_drained_node_and_a_requeued_job(cluster, real, tmp_path):
    study, run, profile = write_tiny_study(tmp_path, real), tmp_path / "runs" / "bed", write_profile(tmp_path)
    call = [sys.executable, "-m", "synthrad", "study", "run", study, "--runs", tmp_path / "runs", "--profile", profile]

    def start(name):
        with open(tmp_path / name, "w") as out:
            return subprocess.Popen(call, env=cluster.env, stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path, start_new_session=True)

    def running(what):
        return next((number for number, comment, state, _ in jobs_of(cluster, run) if comment.startswith(what) and state == "RUNNING"), None)

    first = start("first.txt")
    said = lambda: (tmp_path / "first.txt").read_text()  # noqa: E731
    generator = cluster.wait(lambda: running("rule_generator"), said)
    assert cluster("squeue", "-h", "-j", generator, "-o", "%D %b").split() == ["2", "gres:gpu:1"]
    cluster.wait(lambda: any(newest_valid(home) for home in run.glob("sources/made/generator-*")), said)
    # kill -9 of the command and of its Snakemake, as when a login node goes down: the cluster's jobs live on
    holder = int(re.search(r"its child (\d+)", (run / ".lock").read_text()).group(1))
    os.killpg(holder, signal.SIGKILL)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    cluster("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
    before = {number for number, *_ in jobs_of(cluster, run)}
    assert running("rule_generator") == generator  # a drained node lets what runs there finish

    second = start("second.txt")
    said = lambda: (tmp_path / "second.txt").read_text()  # noqa: E731
    cluster.wait(lambda: "cluster job(s) of an earlier run" in said(), said)
    assert generator in said() and {number for number, *_ in jobs_of(cluster, run)} == before  # nothing is submitted meanwhile
    cluster.wait(lambda: not running("rule_generator"), said)
    cluster("scontrol", "update", "nodename=n1", "state=resume")  # or a job on two nodes would wait for it
    fit = cluster.wait(lambda: running("rule_fit_wildcards_find_tiny_only") or second.poll() is not None, said)
    cluster("scontrol", "requeue", fit)
    assert second.wait(SECONDS) == 0, said()
    check_whole(cluster, run, fit)


def check_whole(cluster, run, requeued):
    assert (run / "report.html").is_file() and len(list(run.glob("find/tiny/*/seed*/cases.parquet"))) == 4
    assert "Restarts=1 " in cluster("scontrol", "show", "job", requeued)
    assert (run / "setup.txt").read_text().startswith("prepared")
    command = (run / "sources/made/generator.json").read_text()
    assert "--trainer.num_nodes=2" in command and "--data.batch_size=2" in command
    times = [line.split("|") for line in cluster("squeue", "-h", "--states=all", "-o", "%k|%S|%e|%Z|%i").splitlines()]
    seen = {}
    for what, start, end, place, number in sorted(times, key=lambda row: row[1]):
        if place == str(run):
            assert what not in seen or seen[what] <= start, f"{what}: job {number} began before the one before it had ended"
            seen[what] = end
    assert cluster("squeue", "-h") == ""


def test_ctrl_c_cancels_the_jobs_and_a_job_at_its_time_limit_goes_back_into_the_queue(cluster, real, tmp_path):
    """The time limit is set anew while the generator runs: SLURM's own signal comes then, and the job is requeued by itself."""
    study, run = write_tiny_study(tmp_path, real), tmp_path / "runs" / "bed"
    text = (tmp_path / "generator.yaml").read_text().replace("max_images: 400", "max_images: 100000")
    (tmp_path / "generator.yaml").write_text(text)
    call = [sys.executable, "-m", "synthrad", "study", "run", study, "--runs", tmp_path / "runs", "--profile", write_profile(tmp_path)]
    with open(tmp_path / "out.txt", "w") as out:
        process = subprocess.Popen(call, env=cluster.env, stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path, start_new_session=True)
    said = lambda: (tmp_path / "out.txt").read_text()  # noqa: E731
    [home] = cluster.wait(lambda: [h for h in run.glob("sources/made/generator-*") if newest_valid(h)], said)
    [generator] = [number for number, what, *_ in jobs_of(cluster, run) if what.startswith("rule_generator")]
    minutes, _, seconds = cluster("squeue", "-h", "-j", generator, "-o", "%M").strip().rpartition(":")
    cluster("scontrol", "update", f"jobid={generator}", f"timelimit={int(minutes) + 1 + (int(seconds) > 10)}")  # in 50 to 110 s
    cluster.wait(lambda: "Restarts=1 " in cluster("scontrol", "show", "job", generator), said)
    saved = step_of(newest_valid(home))
    cluster.wait(lambda: cluster.state(generator) == "RUNNING" and step_of(newest_valid(home)) > saved, said)
    assert process.poll() is None  # Snakemake waits for a requeued job
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) == 1 and "stopped by SIGINT" in said() and "Traceback" not in said(), said()
    cluster.wait(lambda: not cluster("squeue", "-h"), lambda: cluster("squeue"))
    assert step_of(newest_valid(home)) > saved and cluster.state(generator) == "CANCELLED"

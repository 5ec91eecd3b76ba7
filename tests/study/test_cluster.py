"""Profiles and what becomes of them; SLURM is played by small scripts here, the real one is in tests/slurm."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from test_study_robustness import write_study
from tiny_set import make

from synthrad.__main__ import main
from synthrad.errors import InputError, InputErrors, RunError
from synthrad.records import Manifest
from synthrad.study import cluster, jobs
from synthrad.study.cluster import (
    Profile,
    check_processes,
    check_tools,
    generator_options,
    load_profile,
    orphans,
    read_cluster,
    requeued,
    seconds_of,
    wait_for_orphans,
    write_cluster,
)
from synthrad.study.description import Part, Source
from synthrad.study.planning import identities, make_plan
from synthrad.study.study_file import load_study

SHIPPED = Path(__file__).parents[2] / "configs" / "profiles" / "slurm.yaml"


def profile(tmp_path, **keys):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(keys))
    return load_profile(str(path))


def study(tmp_path, **sources):
    (tmp_path / "generator.yaml").write_text(yaml.safe_dump({"data": {"class_path": "GenerationDataModule", "init_args": {"batch_size": 16}}}))
    made = {name: {"generator": str(tmp_path / "generator.yaml"), **keys} for name, keys in sources.items()}
    return load_study(write_study(tmp_path, "tiny", sources=made))


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Scripts in place of SLURM's tools; each call is noted."""
    folder, calls = tmp_path / "tools", tmp_path / "calls.txt"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def put(name, text):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {calls}\n{text}\n')
        (folder / name).chmod(0o755)

    put.calls = lambda: calls.read_text().splitlines() if calls.exists() else []
    return put


def test_the_shipped_profile_says_every_key_and_the_defaults():
    written, known = yaml.safe_load(SHIPPED.read_text()), Profile.model_fields
    assert set(written) == set(known) and load_profile("slurm") == Profile()
    for key, field in known.items():
        if isinstance(field.default, Part):
            assert set(written[key]) == set(type(field.default).model_fields), key


def test_all_mistakes_of_a_profile_are_told_with_what_was_meant(tmp_path):
    with pytest.raises(InputErrors) as e:
        profile(tmp_path, partion="gpu", generator={"node": 2, "gpus": 4}, fit={"nodes": 2, "hours": 0}, container="apptainer 'x")
    said = str(e.value)
    for words in ("partion: unknown key; did you mean partition?", "generator.node: unknown key; did you mean nodes?", "generator.gpus",
                  "fit.nodes: unknown key", "fit.hours", "container: found"):  # fmt: skip
        assert words in said, said


def test_no_profile_of_that_name_and_no_mapping(tmp_path):
    with pytest.raises(InputError, match=r"--profile slurn: found no such file.*\n.*did you mean slurm\?"):
        load_profile("slurn")
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(InputError, match="empty file.*\n.*start from configs/profiles/slurm.yaml"):
        load_profile(str(tmp_path / "empty.yaml"))


def test_where_slurm_or_its_plugin_is_missing_nothing_begins(tmp_path, tools, monkeypatch, capsys):
    make(tmp_path / "real")
    path = write_study(tmp_path, "tiny", sources={"made": {"manifest": str(tmp_path / "real")}})
    for tool in ("sbatch", "scancel", "srun"):
        tools(tool, "")
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("PATH", str(tmp_path / "tools"))
    assert main(["study", "run", str(path), "--runs", str(tmp_path / "runs"), "--profile", "slurm"]) == 2
    assert "found no squeue on this machine; expected a login node" in capsys.readouterr().err and not (tmp_path / "runs").exists()
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'synthrad\[slurm\]'"):
        check_tools()


def test_jobs_ask_for_what_the_profile_says(tmp_path):
    made = profile(tmp_path, partition="gpu", account="lab", gpu_type="a100", extra="--constraint=ib", save_seconds=60,
                   generator={"nodes": 2, "tasks_per_node": 4, "hours": 1.5}, fit={"gpus": 0, "memory_gb": 4}, container="apptainer exec a.sif")
    write_cluster(tmp_path, study(tmp_path, made={}, one={"nodes": 1, "tasks_per_node": 1}), made)
    said = read_cluster(tmp_path)
    wide, one = said["generators"]["made"], said["generators"]["one"]
    assert wide == {"runtime": 90, "mem_mb": 64000, "slurm_extra": "--signal=TERM@60 --constraint=ib --ntasks-per-node=4", "slurm_partition": "gpu",
                    "slurm_account": "lab", "gres": "gpu:a100:4", "tasks_per_gpu": 0, "mpi": "srun", "nodes": 2, "tasks": 8}
    assert (one["gres"], one["mpi"], one["nodes"], one["tasks"]) == ("gpu:a100:1", "", 1, 1)  # a source's own numbers
    assert "gres" not in said["jobs"]["fit"] and said["jobs"]["fit"]["mem_mb"] == 4000 and said["jobs"]["pool"]["gres"] == "gpu:a100:1"
    assert said["srun"]["made"] == ["srun", "--nodes=2", "--ntasks=8", "--ntasks-per-node=4", "--cpus-per-task=8", "--wait=300", "apptainer", "exec",
                                    "a.sif", "python"]
    write_cluster(tmp_path, study(tmp_path, made={}), profile(tmp_path))
    said = read_cluster(tmp_path)
    assert said["srun"] == {} and "mpi" not in said["generators"]["made"]  # one process: no srun of our own


def test_the_snakefile_takes_threads_setup_and_container_from_the_profile(tmp_path):
    graph = {"sources": {"made": {"generator": "g", "trained": True, "checkpoint": "last", "pool": "p"}},
             "fits": {"t/n/a": {"identity": "i", "source": "made", "seeds": 1}}, "crossed": {"t/n/a": "x"}, "arms": "a", "identity": "i"}
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    made = profile(tmp_path, setup=["module load {cuda}"], container="apptainer exec a.sif", generator={"nodes": 2, "cpus": 3}, fit={"cpus": 2})
    place = write_cluster(tmp_path, study(tmp_path, made={}), made)
    snakefile = Path(cluster.__file__).with_name("Snakefile")

    def lines(*files):
        call = [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--directory", tmp_path, "--dry-run", "--printshellcmds", "--cores", "8"]
        done = subprocess.run([str(c) for c in (*call, "--configfile", *files)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        text = done.stdout + done.stderr
        return {what: line.strip().removeprefix("Shell command: ") for line in text.splitlines() for what in ("generator made", "pool made", "fit t/n/a", "crossed t/n/a", "report", "arms")
                if "synthrad.study.jobs" in line and line.strip().endswith(what)}, text

    said, text = lines(tmp_path / "graph.json", place)
    before = "set +u; module load {cuda}; set -u; "
    assert said["fit t/n/a"] == f"{before}OMP_NUM_THREADS=2 exec apptainer exec a.sif python -m synthrad.study.jobs 2>&1 fit t/n/a"
    assert said["crossed t/n/a"] == said["fit t/n/a"].replace("fit", "crossed")
    assert said["generator made"] == f"{before}OMP_NUM_THREADS=3 exec {sys.executable} -m synthrad.study.jobs 2>&1 generator made"
    assert "mpi=srun" in text and "gres=gpu:1" in text and "runtime=240" in text
    said, text = lines(tmp_path / "graph.json")
    assert said["fit t/n/a"] == f"OMP_NUM_THREADS=1 exec {sys.executable} -m synthrad.study.jobs 2>&1 fit t/n/a"
    assert said["generator made"].startswith("OMP_NUM_THREADS=8 exec") and "gres" not in text
    assert said["report"] == f"exec {sys.executable} -m synthrad.study.jobs 2>&1 report"


def test_a_fit_goes_on_with_as_many_processes_as_it_was_begun_with(tmp_path):
    home = tmp_path / "home"
    check_processes("made", home, 8)
    check_processes("made", home, 4)  # nothing was saved yet
    (home / "checkpoints").mkdir()
    (home / "checkpoints" / "last-000000005.ckpt").write_bytes(b"")
    check_processes("made", home, 4)
    for world in (1, 2):
        with pytest.raises(InputError, match=rf"found {world} process\(es\), a fit begun with 4.*\n.*remove .*home"):
            check_processes("made", home, world)
    (home / "processes").unlink()
    check_processes("made", home, 1)  # an earlier version, on one machine


def test_the_batch_is_divided_among_the_processes(tmp_path):
    made = study(tmp_path, made={}, five={"overrides": ["--data.batch_size=15"], "nodes": 5})
    write_cluster(tmp_path, made, profile(tmp_path, generator={"nodes": 2, "tasks_per_node": 4}))
    place = read_cluster(tmp_path)
    before, after = generator_options(place, "made", made.sources["made"])
    assert before == ["--trainer.strategy=ddp_find_unused_parameters_true"]
    assert after == ["--trainer.num_nodes=2", "--trainer.devices=4", "--data.batch_size=2"]
    with pytest.raises(InputError, match=r"sources.five: found 5 node\(s\) x 4 process\(es\) for a batch_size of 15"):
        generator_options(place, "five", made.sources["five"])
    write_cluster(tmp_path, made, profile(tmp_path))
    alone = generator_options(read_cluster(tmp_path), "made", made.sources["made"])
    assert alone == ([], ["--trainer.num_nodes=1", "--trainer.devices=1"])


def test_where_a_generator_is_trained_is_no_part_of_what_it_is(tmp_path):
    make(tmp_path / "real")
    real = Manifest.read(tmp_path / "real")

    def ids(**keys):
        made = study(tmp_path, made=keys)
        return identities(made, make_plan(made, real.where(split="train", source="real")), real), made.said()

    assert ids() == ids(nodes=4, tasks_per_node=8) != ids(size=[64, 64])
    with pytest.raises(ValueError, match="are for a `generator`"):
        Source(manifest="x", nodes=2)


def test_jobs_of_an_earlier_run_are_found_by_their_folder_and_waited_for(tmp_path, tools):
    tools("squeue", f"cat {tmp_path}/rows.txt")
    rows = [f"7|RUNNING|{tmp_path}", f"8|PENDING|{tmp_path}", f"9|COMPLETED|{tmp_path}", f"10|RUNNING|{tmp_path}/other", f"11|COMPLETING|{tmp_path}"]
    (tmp_path / "rows.txt").write_text("\n".join(rows) + "\n")
    assert orphans(tmp_path) == ["7", "8", "11"] and "--me" in tools.calls()[0]
    told = []

    def tell(text):
        told.append(text)
        (tmp_path / "rows.txt").write_text(rows[0] if len(told) == 1 else rows[2])

    wait_for_orphans(tmp_path, 0.01, tell)
    assert len(told) == 2 and "waiting for 3 cluster job(s) of an earlier run (7, 8, 11); `scancel 7 8 11` ends them" in told[0]
    assert "waiting for 1" in told[1]
    tools("squeue", "echo down >&2; exit 1")
    with pytest.raises(RunError, match="SLURM does not say.*down"):  # rather than that nothing runs
        orphans(tmp_path)


@pytest.mark.parametrize(("state", "left", "restarts", "goes"), [
    ("RUNNING", "0:40", 0, True), ("RUNNING", "2:01:00", 0, False), ("COMPLETING", "0:40", 0, False), ("RUNNING", "0:40", 3, False),
    ("RUNNING", "UNLIMITED", 0, False),
])  # fmt: skip
def test_a_job_at_its_time_limit_goes_back_into_the_queue(tmp_path, tools, monkeypatch, capsys, state, left, restarts, goes):
    tools("squeue", f"echo '{state}|{left}'")
    tools("scontrol", f"echo 'JobId=5 Requeue=1 Restarts={restarts} BatchFlag=1'")
    write_cluster(tmp_path, study(tmp_path, made={}), profile(tmp_path, save_seconds=30, requeues=3))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert not requeued(tmp_path) and not tools.calls()  # on this machine
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setattr(jobs, "report", lambda folder: (_ for _ in ()).throw(RunError("stopped by SIGTERM")))
    assert jobs.main(["report"]) == 1
    assert ("scontrol requeue 5" in tools.calls()) == goes
    assert (tmp_path / "failed").exists() != goes and ("goes back into the queue" in capsys.readouterr().err) == goes


@pytest.mark.parametrize(("left", "seconds"), [("0:05", 5), ("59:59", 3599), ("1:00:00", 3600), ("2-01:00:00", 176400), ("UNLIMITED", math.inf),
                                               ("", math.inf), ("INVALID", math.inf)])  # fmt: skip
def test_times_as_squeue_prints_them(left, seconds):
    assert seconds_of(left) == seconds


def test_a_run_on_this_machine_forgets_the_cluster(tmp_path, monkeypatch):
    from synthrad.study import command

    made = study(tmp_path, made={})
    options = command._place(tmp_path, made, profile(tmp_path, status_command="squeue", jobs=7))
    assert options[options.index("--jobs") + 1] == "7" and options[-2:] == ["--slurm-status-command", "squeue"]
    assert read_cluster(tmp_path) is not None
    assert command._place(tmp_path, made, None) == [] and read_cluster(tmp_path) is None


def test_a_failed_cluster_job_is_told_with_its_log_and_last_words(tmp_path):
    from synthrad.study import command

    log = tmp_path / "slurm_logs" / "rule_fit" / "7.log"
    log.parent.mkdir(parents=True)
    log.write_text("Building DAG of jobs...\nslurmstepd-n0: error: *** JOB 7 ON n0 CANCELLED DUE TO TIME LIMIT ***\nElapsed time: 0:01\n")
    (tmp_path / command.LOG).write_text(f"Job 1 has been submitted with SLURM jobid 7 (log: {log}).\nJob 2 ... jobid 8 (log: {tmp_path}/8.log).\n")
    assert command._cluster_logs(tmp_path) == f"\n  log: {log}\n    slurmstepd-n0: error: *** JOB 7 ON n0 CANCELLED DUE TO TIME LIMIT ***"

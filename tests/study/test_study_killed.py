"""A whole study with a generator, killed and interrupted as a user or a machine would: slow, real processes throughout."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from forks import forks
from test_study_robustness import write_study
from tiny_set import make

from synthrad.callbacks.durable_checkpoint import newest_valid, step_of
from synthrad.errors import RunError
from synthrad.locking import locked

pytestmark = [pytest.mark.slow, forks]
GENERATOR = {
    "model": {"class_path": "synthrad.generators.gan.StyleGAN2",
              "init_args": {"channel_base": 64, "channel_max": 8, "z_dim": 8, "w_dim": 8, "mapping_depth": 2, "max_images": 600}},
    "data": {"class_path": "synthrad.datamodules.generation.GenerationDataModule",
             "init_args": {"manifest": "real", "size": [32, 32], "batch_size": 4}},
    "trainer": {"accelerator": "cpu", "callbacks": [{"class_path": "synthrad.callbacks.DurableCheckpoint",
                                                     "init_args": {"every_steps": 3}}]},
}  # fmt: skip
SECONDS = 1500  # for one wait on a machine that does other work


def start(study: Path, runs: Path) -> subprocess.Popen:
    call = [sys.executable, "-m", "synthrad", "study", "run", str(study), "--runs", str(runs), "--cores", "2"]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def wait_for(found, process: subprocess.Popen):
    deadline = time.monotonic() + SECONDS
    while not (it := found()):
        assert process.poll() is None and time.monotonic() < deadline, process.stdout.read()
        time.sleep(0.05)
    return it


def wait_until_free(lock: Path):
    deadline = time.monotonic() + 60
    while True:
        try:
            with locked(lock, "study"):
                return
        except RunError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def cases(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in run.glob("find/*/*/seed*/cases.parquet")}


@pytest.mark.timeout(4 * SECONDS)
def test_a_killed_study_finishes_as_if_nothing_had_been(tmp_path):
    make(tmp_path / "real")
    (tmp_path / "generator.yaml").write_text(yaml.safe_dump(GENERATOR))
    study = write_study(tmp_path, "killed", sources={"made": {"generator": str(tmp_path / "generator.yaml")}}, seeds=3)
    whole = start(study, tmp_path / "whole")
    said, _ = whole.communicate(timeout=SECONDS)
    assert whole.returncode == 0, said
    wanted = cases(tmp_path / "whole" / "killed")
    assert len(wanted) == 6
    run = tmp_path / "runs" / "killed"

    # kill -9 of the command alone, in the middle of the generator's fit: Snakemake and its jobs live on
    first = start(study, tmp_path / "runs")
    wait_for(lambda: [h for h in run.glob("sources/made/generator-*") if newest_valid(h)], first)
    first.kill()
    first.wait()
    second = start(study, tmp_path / "runs")
    said, _ = second.communicate(timeout=SECONDS)
    assert second.returncode == 1 and "Traceback" not in said, said
    group = int(re.search(r"`kill -- -(\d+)` ends it", said).group(1))
    os.killpg(group, signal.SIGKILL)
    wait_until_free(run / ".lock")
    assert not (run / "sources" / "made" / "generator.json").exists()
    [home] = run.glob("sources/made/generator-*")
    wait_until_free(home / ".lock")
    assert 0 < step_of(newest_valid(home))

    # Ctrl-C in the middle of a fit
    third = start(study, tmp_path / "runs")
    wait_for(lambda: list(run.glob("find/tiny/*/seed0/checkpoints")), third)
    third.send_signal(signal.SIGINT)
    said, _ = third.communicate(timeout=SECONDS)
    assert third.returncode == 1 and "stopped by SIGINT" in said and "Traceback" not in said, said
    assert not (run / "report.html").exists() and len(cases(run)) < 6

    last = start(study, tmp_path / "runs")
    said, _ = last.communicate(timeout=SECONDS)
    assert last.returncode == 0 and (run / "report.html").is_file(), said
    assert cases(run) == wanted

"""The loader benchmark: its widths are those of the shipped configs, and a whole run ends with measured goals."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))
import bench_loader  # noqa: E402


@pytest.mark.parametrize("size", list(bench_loader.CONFIGS))
def test_widths_come_from_the_configs(size):
    width, batch = bench_loader.config(size)
    assert batch >= 4 and set(width) <= {"channel_base", "channel_max", "z_dim", "w_dim", "mapping_depth"}


@pytest.mark.slow
def test_a_short_run_measures_every_goal():
    made = subprocess.run([sys.executable, FOLDER / "bench_loader.py", "--sizes", "64", "--rounds", "1", "--steps", "2", "--batch", "4",
                           "--batches", "20", "--dry-run"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    found = dict(re.findall(r"^loader_64_(\w+) ([\d.]+) [<>]=[\d.]+ (?:met|short)", made.stdout, re.MULTILINE))
    assert found.keys() == {f"{how}_{what}" for how in ("held", "mapped") for what in ("share_waited", "over_step")}
    assert 0 < float(found["held_share_waited"]) < 1 < float(found["held_over_step"])

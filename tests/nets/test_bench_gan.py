"""The GAN benchmark: its oracle agrees with our nets, sees a wrong one, and a whole run ends with measured goals."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))
import bench_gan  # noqa: E402


@pytest.fixture(autouse=True)
def nothing_remembered():
    bench_gan.agreement.cache_clear()
    yield
    bench_gan.agreement.cache_clear()


def test_ours_agrees_with_the_oracle():
    errors = bench_gan.agreement(16, 128, "cpu")
    assert errors["float64_error"] < 1e-11
    assert 1e-9 < errors["float32_error"] < 1e-3  # float32 was computed, in float32
    assert 1e-9 < errors["plain_float32_error"] < 1e-3


def test_a_wrong_formula_is_seen(monkeypatch):
    right = bench_gan.ours.demodulation
    monkeypatch.setattr(bench_gan.ours, "demodulation", lambda weight, style: right(weight, style) * (1 + 1e-6))
    assert bench_gan.agreement(16, 128, "cpu")["float64_error"] > 1e-9


@pytest.mark.slow
def test_a_tiny_run_measures_every_goal():
    made = subprocess.run([sys.executable, FOLDER / "bench_gan.py", "--sizes", "16", "--channel-base", "512", "--rounds", "1",
                           "--batch", "2", "--dry-run"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    found = dict(re.findall(r"^gan_16_(\w+) ([\d.e+-]+) <=[\d.e-]+ (?:met|short)", made.stdout, re.MULTILINE))
    assert found.keys() == {"float32_error", "iteration_fp32", "iteration_bf16", "path_fp32", "sample_fp32", "memory_fp32", "memory_bf16"}
    assert all(float(v) > 0 for v in found.values()), found
    assert float(re.search(r"error in float64 (\S+),", made.stdout)[1]) < 1e-9

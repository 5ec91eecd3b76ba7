"""The loader benchmark: its widths are those of the shipped configs, and a whole run ends with measured goals."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))
import bench_loader  # noqa: E402


@pytest.mark.parametrize("size", list(bench_loader.CONFIGS))
def test_widths_come_from_the_configs(size):
    width, batch = bench_loader.config(size)
    assert batch >= 4 and set(width) <= {"channel_base", "channel_max", "z_dim", "w_dim", "mapping_depth"}


def test_the_plain_loader_gives_what_the_cache_gives(tmp_path, monkeypatch):
    assert bench_loader.synthrad(["prepare", "phantom", str(tmp_path / "set"), "--number", "8", "--size", "32", "32", "--fractions", "1", "0", "0", "0"]) == 0
    data = bench_loader.module(tmp_path / "set", 32, 4, True)
    files = bench_loader.Files(data.train, 32)
    for row in range(8):
        (image, masks), case = files[row], data.case(row)
        assert torch.allclose(image, case.image, atol=1e-6) and torch.equal(masks, case.masks)
    assert bench_loader.by_files(tmp_path / "set", 32, 4, 0, "cpu") > 0
    monkeypatch.setattr(bench_loader, "speed", lambda loader, batch, batches, use, device: use(next(iter(loader))))
    stored, seen = (bench_loader.alone(data, 1, "cpu", seen) for seen in (False, True))
    assert stored.image.dtype == stored.masks.dtype == torch.uint8 and torch.equal(stored.case().image, seen.image)


@pytest.mark.slow
def test_a_short_run_measures_every_goal():
    made = subprocess.run([sys.executable, FOLDER / "bench_loader.py", "--sizes", "64", "--rounds", "1", "--steps", "2", "--batch", "4",
                           "--batches", "20", "--files", "8", "--dry-run"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    found = dict(re.findall(r"^loader_64_(\w+) ([\d.]+) [<>]=[\d.]+ (?:met|short)", made.stdout, re.MULTILINE))
    assert found.keys() == {f"{how}_{what}" for how in ("held", "mapped")
                            for what in ("share_waited", "over_step", *(f"{seen}_over_files_of_{side}" for seen in ("stored", "on_cpu") for side in (64, 128)))}
    assert 0 < float(found["held_share_waited"]) < 1 < float(found["held_over_step"])

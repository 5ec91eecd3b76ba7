"""The benchmark of prepare: its files are distinct and hold what they should, and a small run measures its goals."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))
import bench_prepare  # noqa: E402


def test_files_are_distinct_and_read_as_drawn(tmp_path):
    for kind in bench_prepare.ENDINGS:
        bench_prepare.draw(tmp_path / kind, kind, 3, 32, 1)
        digests = {bench_prepare.decode_and_hash(p, kind) for p in sorted((tmp_path / kind).iterdir())}
        assert len(digests) == 3
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "png" / "000001.png")), bench_prepare.picture(1, 32) >> 4)
    drawn = {bench_prepare.picture(k, 32).tobytes() for k in (0, 1, 32, 64, 32 * 32, 4096 * 32, 9999)}
    assert len(drawn) == 7


@pytest.mark.slow
def test_a_small_run_measures_its_goals():
    made = subprocess.run([sys.executable, FOLDER / "bench_prepare.py", "--images", "64", "--size", "128", "--kinds", "png", "--rounds", "1", "--workers", "2",
                           "--dry-run"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    found = dict(re.findall(r"^prepare_png_(\w+) ([\d.]+) [<>]=[\d.]+ (?:met|short)", made.stdout, re.MULTILINE))
    assert found.keys() == {"over_decoding", "resumed_same_bytes"}
    assert float(found["over_decoding"]) > 0.5 and found["resumed_same_bytes"] == "1"

"""The diffusion benchmark compares nets of equal work."""

import argparse
import sys
from pathlib import Path

import pytest

pytest.importorskip("diffusers", reason="the benchmark's other side: pip install -e '.[bench]'")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import bench_diffusion as bench  # noqa: E402


def test_both_unets_do_the_same_work():
    ours, theirs = (bench.Work(v, 8, 1, "cpu", (64, 64, 128)) for v in ("flash", "diffusers"))
    assert bench.parameters(ours.net) == pytest.approx(bench.parameters(theirs.net), rel=1e-6)
    assert ours.gflop()["unet"] == pytest.approx(theirs.gflop()["unet"], rel=0.02)


def test_lines_and_goals(monkeypatch, capsys):
    monkeypatch.setattr(bench, "Work", lambda *a: real(*a, channels=(64, 64, 64)))
    monkeypatch.setattr(bench, "VARIANTS", ("diffusers", "plain", "flash", "plain_bf16", "flash_bf16"))
    lines = bench.time_all(argparse.Namespace(side=8, batch=1, device="cpu", rounds=1))
    assert {(x["variant"], x["phase"]) for x in lines} >= {(v, p) for v in bench.VARIANTS for p in bench.PHASES}
    assert all(x["ratio"] == 1 for x in lines if x["variant"] == "diffusers" and "ratio" in x)
    bench.goals([*lines, *({"variant": v, "phase": "memory", "ratio": 0.9} for v in bench.VARIANTS)])
    said = capsys.readouterr().out
    assert "diffusion_step_fp32" in said and "diffusion_memory_bf16 0.90 <=1.00 met" in said and "VOID" not in said


real = bench.Work

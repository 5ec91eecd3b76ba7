"""Gate: kill -9 at random moments of a prepare changes no byte of the set that the same command then makes. Short form: tests/test_prepare_killed.py."""

import time

import numpy as np
import pandas as pd
import pytest
from forks import forks
from PIL import Image
from test_gate_kills import killed, seconds, tidy

from synthrad.__main__ import main
from synthrad.data import processes

pytestmark = [pytest.mark.gate, forks]
KILLS, ROWS = 30, 120


def everything(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".synthrad-prepare"}


def test_preparing(tmp_path, monkeypatch, tally):
    monkeypatch.setattr(processes, "ALONE_SECONDS", 0.0)
    rng = np.random.default_rng(0)
    for k in range(ROWS):
        Image.fromarray(rng.integers(0, 255, (128, 128), np.uint8)).save(tmp_path / f"{k}.png")
    pd.DataFrame({"image": [f"{k}.png" for k in range(ROWS)], "patient": range(ROWS)}).to_csv(tmp_path / "t.csv", index=False)
    command = lambda out: ["prepare", "table", str(tmp_path / "t.csv"), str(tmp_path / out), "--subject", "patient", "--mask", "image",  # noqa: E731
                           "--mask-classes", "any:1-255=x", "--copy", "--workers", "2", "--skip-near-copies"]
    long, lost, kills, number = seconds(main, command("whole")), [], 0, 0
    while kills < KILLS:
        out = f"set{number}"
        while kills < KILLS and killed(main, command(out), after=float(rng.uniform(0.1, 0.9) * long)):
            kills += 1
            if not tidy(tmp_path / out) or len(list((tmp_path / out).glob(".draft-*"))) > 1:
                lost.append(f"kill {kills}: what is left is taken for a whole set, or lies in several drafts")
            time.sleep(0.3)  # the forks of the killed one see that it is gone, and let go of the folder
        for _ in range(100):
            if (code := main(command(out))) != 1:
                break
            time.sleep(0.1)
        if code or everything(tmp_path / out) != everything(tmp_path / "whole"):
            lost.append(f"set {number}: other bytes")
        number += 1
    tally("Preparing, kill -9", kills, lost)

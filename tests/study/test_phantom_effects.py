"""The shipped study on sets with a dialled effect, by the commands in its header: is each called what it is? More than an hour."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[2] / "configs" / "studies" / "phantom_effects.yaml"
CALLS = {"good": {"gain"}, "biased": {"harm"}, "label_noise": {"harm"}, "useless": {"harm"},
         "copies": {"no gain shown", "no relevant gain"}}


def header_commands():
    """The lines below `Prepare first:`, as a shell takes them."""
    lines = CONFIG.read_text().split("# Prepare first:\n")[1].splitlines()
    script = []
    for line in lines:
        if not line.startswith("#"):
            break
        script.append(line.removeprefix("#").strip())
    return "\n".join(script)


def test_the_header_prepares_every_set_that_the_study_names():
    script = header_commands()
    named = set(re.findall(r"data/[a-z_]+", CONFIG.read_text().split(script.splitlines()[-1])[-1]))
    effects = re.search(r"for e in ([a-z_ ]+);", script)[1].split()
    assert named == {"data/effects", *(f"data/effects_{e}" for e in effects)} and set(effects) == set(CALLS)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_every_dialled_effect_is_called_what_it_is(tmp_path):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["bash", "-euc", header_commands()], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True)
    subprocess.run([sys.executable, "-m", "synthrad", "study", "run", str(CONFIG)], cwd=tmp_path, check=True)
    run = tmp_path / "runs" / "phantom_effects"
    verdicts = {v["arm"]: v for v in json.loads((run / "verdicts.json").read_text())}
    assert {arm: v["call"] for arm, v in verdicts.items() if v["call"] not in CALLS[arm]} == {}
    assert set(verdicts) == set(CALLS)
    told = (run / "report.html").read_text()
    assert re.findall(r"Source &#39;(\w+)&#39; holds near copies", told) == ["copies"]

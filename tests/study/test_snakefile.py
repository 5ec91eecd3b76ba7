"""The graph itself, by a dry run of Snakemake: what is missing is made again, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

from synthrad.study import cluster

GRAPH = {"sources": {"made": {"generator": "g", "trained": False, "checkpoint": "last", "pool": "p"}}, "arms": "a", "identity": "i",
         "fits": {"t/n/a": {"identity": "i", "source": "made", "seeds": 1}, "t/n/real_only": {"identity": "j", "source": None, "seeds": 1}},
         "crossed": {"t/n/real_only": "x"}}
MADE = ("sources/made/pool.json", "arms.json", "t/n/a/done.json", "t/n/real_only/done.json", "t/n/real_only/on_synthetic.json", "report.html")


def missing_jobs(folder: Path) -> set[str]:
    """The jobs that a run would do."""
    call = [sys.executable, "-m", "snakemake", "--snakefile", str(Path(cluster.__file__).with_name("Snakefile")), "--directory", str(folder),
            "--configfile", str(folder / "graph.json"), "--dry-run", "--printshellcmds", "--cores", "1", "--rerun-triggers", "input"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    return {line.strip().split("2>&1 ")[1] for line in lines if "synthrad.study.jobs" in line}


def test_a_fit_removed_from_a_finished_study_is_made_again(tmp_path):
    (tmp_path / "graph.json").write_text(json.dumps(GRAPH))
    for age, name in enumerate(MADE):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1000 + age, 1000 + age))
    assert missing_jobs(tmp_path) == set()
    (tmp_path / "t/n/a/done.json").unlink()
    assert missing_jobs(tmp_path) == {"fit t/n/a", "report"}

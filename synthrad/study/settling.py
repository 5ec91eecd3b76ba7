"""What `auto` of a study file stands for in a run: settled once, when the run begins, and kept by its folder.

All arms of a task compute alike, on whatever machine the study is continued: study.yaml in the run folder names the precision, and every identity holds it. A run
that began before there was `auto` said 32-true there, and keeps it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthrad.documents import read_yaml
from synthrad.study.description import Study

FULL = "32-true"


def settled(study: Study, folder: Path | None = None, on_cluster: bool = False) -> Study:
    """The study with a precision for every task that says auto.

    Args:
        folder: of the run; what its study.yaml says holds. None: of no run.
        on_cluster: jobs run on other machines than this, of which nothing is known: 32-true.
    """
    if all(task.precision != "auto" for task in study.tasks.values()):
        return study
    before = {} if folder is None else precisions_of(folder / "study.yaml")
    tasks = {}
    for name, task in study.tasks.items():
        if task.precision == "auto":
            task = task.model_copy(update={"precision": before.get(name) or (FULL if on_cluster else _paying())})
        tasks[name] = task
    return study.model_copy(update={"tasks": tasks})


def told(asked: Study, study: Study) -> list[str]:
    """A line for every task whose precision was settled."""
    return [f"task {name}: precision {task.precision} (precision: auto)" for name, task in study.tasks.items() if asked.tasks[name].precision == "auto"]


def precisions_of(path: Path) -> dict[str, Any]:
    """Task -> its precision, of those that a study file says; none where there is no such file."""
    said = read_yaml(path, "the file as synthrad wrote it") if path.is_file() else None
    tasks = said.get("tasks") or {} if isinstance(said, dict) else {}
    return {name: task.get("precision") for name, task in tasks.items() if task.get("precision") in ("32-true", "bf16-mixed", "16-mixed")}


def _paying() -> str:
    from synthrad.callbacks.precision import paying_precision  # torch: only where a run begins

    return paying_precision()

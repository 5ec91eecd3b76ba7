"""What TensorBoard shows of a study beside the training curves of its fits; `synthrad study board` opens it.

In each fit's run, study/task/net/arm/seed: its row of the hparams table, final test metrics and precision-recall curves. In the run study/tensorboard: means and
bands over seeds, differences, answers and audits as text, images in feature space. The fits themselves draw the same validation
images in the same slots (`val/image, target, prediction`; tasks.training.show).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthrad.records import Manifest
from synthrad.study.board_events import write_events
from synthrad.study.board_fits import FIT, write_fits
from synthrad.study.board_projector import write_projector
from synthrad.study.board_texts import texts
from synthrad.study.description import Study
from synthrad.study.pools import pools_of
from synthrad.study.report import ReportFacts
from synthrad.study.tensorboard import write_study_scalars


def write_board(run: Path, facts: ReportFacts, study: Study, manifest: Manifest, sources: Sequence[str]) -> Path:
    """Write all of it, in place of what an earlier call wrote.

    Args:
        run: folder of a study whose fits are done. manifest: its real images. sources: those that have a pool.

    Returns:
        The folder of the run `tensorboard`.
    """
    from torch.utils.tensorboard.summary import text

    folder = write_study_scalars(run, facts.measurements, facts.explore)
    fewest = {name: task.fewest_positive for name, task in study.tasks.items()}
    notes = [f"precision and recall of {n}" for n in write_fits(run, facts.fits, facts.arms, facts.measurements, facts.endpoint, fewest)]
    sets = {"real, train": manifest.where(split="train", source="real"), "real, test": manifest.where(split="test", source="real")}
    sets |= {name: Manifest.read(pools_of(run, name)[0]) for name in sources}
    if why := write_projector(folder, sets, _arms_of(facts.arms, sources), study.size):
        notes.append(why)
    rows = [(0, text(tag, said)) for tag, said in texts(facts, notes).items()]
    write_events(folder, rows, max((p.stat().st_mtime for p in run.glob(f"{FIT}/fit.json")), default=0.0))
    return folder


def _arms_of(arms: Sequence[Mapping[str, Any]], sources: Sequence[str]) -> dict[str, list[str]]:
    """Set -> arms that train on it."""
    fitted = [a for a in arms if a.get("same_as") is None]
    found = {"real, train": [a["name"] for a in fitted if a.get("role") != "replacing"]}
    return found | {s: [a["name"] for a in fitted if a.get("source") == s] for s in sources}

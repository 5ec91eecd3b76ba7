"""What each net of a study costs, beside what it reaches on real images alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from synthrad.measurements import Measurement
from synthrad.metrics.segmentation import MACRO
from synthrad.study.description import REFERENCE
from synthrad.study.tables import Table

SCORES = ("dice", "auroc")  # of either kind of task
COLUMNS = ("task", "net", "metric", "score", "parameters", "of them trained", "GFLOP an image", "seconds a fit", "peak memory, MB", "precision")


def net_costs(fits: Sequence[Mapping[str, Any]], measurements: Sequence[Measurement]) -> Table:
    """A row a task and net.

    The score is macro Dice or AUROC of the reference, mean over seeds. GFLOP: of one forward pass of one picture. Seconds and memory: median over
    the reference's fits, memory of the GPU, on a CPU of the whole process. None where a fit of an earlier version did not note it.

    Args:
        fits: fit.json mappings with task, net, arm and seed.
    """
    rows = []
    for task, net in dict.fromkeys((f["task"], f["net"]) for f in fits):
        own = [f for f in fits if (f["task"], f["net"], f["arm"]) == (task, net, REFERENCE)]
        if not own:
            continue
        scores = [m for m in measurements if (m.task, m.net, m.arm, m.class_name, m.subgroup) == (task, net, REFERENCE, MACRO, "") and m.metric in SCORES
                  and m.seed is not None and m.value is not None]
        score = statistics.mean(m.value for m in scores) if scores else None
        flops, memory = _middle(own, "flops"), _middle(own, "memory_bytes")
        rows.append((task, net, scores[0].metric if scores else "", score, own[0]["parameters"], own[0].get("trained"), None if flops is None else flops / 1e9,
                     _middle(own, "seconds"), None if memory is None else memory / 1e6, own[0].get("precision")))
    return Table("nets", "Nets: what each costs, and what it reaches on real images alone", COLUMNS, rows)


def _middle(fits: Sequence[Mapping[str, Any]], key: str) -> float | None:
    known = [f[key] for f in fits if f.get(key) is not None]
    return float(statistics.median(known)) if known else None

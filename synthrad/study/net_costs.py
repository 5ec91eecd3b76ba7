"""What each net of a study costs, beside what it reaches on real images alone."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from synthrad.class_paths import arguments_of
from synthrad.measurements import Measurement
from synthrad.metrics.segmentation import MACRO
from synthrad.study.contamination import NO_WEIGHTS
from synthrad.study.description import REFERENCE, Net
from synthrad.study.tables import Table

SCORES = ("dice", "auroc")  # of either kind of task
COLUMNS = ("task", "net", "weights", "metric", "score", "parameters", "of them trained", "GFLOP an image", "seconds a fit", "peak memory, MB", "precision")


def weights_of(net: Net) -> str:
    """What a net of a study begins with and what of it learns: "random" or the name of its weights, and its `tuning` where not all of it does.

    Of a local path, which is all that is no hub id, the last part alone is told: reports are shared.
    """
    import synthrad.nets
    from synthrad.nets.loading import HUB_ID, SUFFIXES

    given = net.init_args.get("weights")
    text = str(given)
    on_hub = HUB_ID.match(text) and not text.startswith(".") and not text.endswith(SUFFIXES) and not Path(text).exists()
    begins = "random" if given in NO_WEIGHTS else text if on_hub else PureWindowsPath(text).name  # which knows either slash
    tuning = {"tuning": "full", **arguments_of(getattr(synthrad.nets, net.class_path.rsplit(".", 1)[-1])), **net.init_args}["tuning"]
    return begins if tuning == "full" else f"{begins}, {tuning}"


def net_costs(fits: Sequence[Mapping[str, Any]], measurements: Sequence[Measurement]) -> Table:
    """A row a task and net.

    The score is macro Dice or AUROC of the reference, mean over seeds. GFLOP: of one forward pass of one picture. Seconds and memory: median over
    the reference's fits, memory of the GPU, on a CPU of the whole process. None where a fit of an earlier version did not note it, and of nets trained
    outside, which have a row without a score where their reference was not imported.

    Args:
        fits: fit.json mappings with task, net, arm and seed, and `weights` (`weights_of`); with `outside` where another program trained.
    """
    rows = []
    for task, net in dict.fromkeys((f["task"], f["net"]) for f in fits):
        of_net = [f for f in fits if (f["task"], f["net"]) == (task, net)]
        own = [f for f in of_net if f["arm"] == REFERENCE]
        outside = any(f.get("outside") for f in of_net)
        if not own and not outside:
            continue
        first = own[0] if own else {}
        weights = "trained outside" if outside else first.get("weights")
        scores = [m for m in measurements if (m.task, m.net, m.arm, m.class_name, m.subgroup) == (task, net, REFERENCE, MACRO, "") and m.metric in SCORES
                  and m.seed is not None and m.value is not None]
        score = statistics.mean(m.value for m in scores) if scores else None
        flops, memory = _middle(own, "flops"), _middle(own, "memory_bytes")
        rows.append((task, net, weights, scores[0].metric if scores else "", score, first.get("parameters"), first.get("trained"),
                     None if flops is None else flops / 1e9, _middle(own, "seconds"), None if memory is None else memory / 1e6, first.get("precision")))
    return Table("nets", "Nets: what each costs, and what it reaches on real images alone", COLUMNS, rows)


def _middle(fits: Sequence[Mapping[str, Any]], key: str) -> float | None:
    known = [f[key] for f in fits if f.get(key) is not None]
    return float(statistics.median(known)) if known else None

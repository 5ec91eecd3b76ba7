"""The same arms under every net side by side: whether what one net says of a strategy holds for another kind of net."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from synthrad.measurements import Measurement
from synthrad.metrics.segmentation import MACRO
from synthrad.study.plots import Effect
from synthrad.study.tables import Table
from synthrad.study.verdicts import METRIC_NAMES, Comparison

METRICS = ("dice", "auroc")  # of either kind of task, as in the table of nets
COLUMNS = ("task", "metric", "net", "weights", "arm", "mean", "SD over seeds", "seeds", "minus reference", "low", "high")


@dataclass(frozen=True)
class Cell:
    """An arm under a net: mean and SD (None for one seed) over seeds on the own test set, and what it has over the reference (None where that was not compared)."""

    mean: float
    deviation: float | None
    seeds: int
    over: Comparison | None


@dataclass(frozen=True)
class NetsOfTask:
    """One task under two or more nets.

    Args:
        nets: name -> what it began with (`net_costs.weights_of`), "" where that is not known.
        cells: arm -> a cell for each net, in order; None for an arm that the net has not seen.
    """

    task: str
    metric: str
    nets: Mapping[str, str]
    cells: Mapping[str, Sequence[Cell | None]]

    def effects(self) -> list[Effect]:
        """A line an arm and net for the plot; `against` is the net."""
        return [Effect(arm, net, c.over.difference, c.over.low, c.over.high)
                for arm, row in self.cells.items() for net, c in zip(self.nets, row, strict=True) if c is not None and c.over is not None]


def by_net(measurements: Sequence[Measurement], explored: Sequence[Comparison], arms: Sequence[str], weights: Mapping[tuple[str, str], str]) -> list[NetsOfTask]:
    """Tasks that two or more nets learned.

    Args:
        measurements: of the tests. explored: differences to the reference, see `comparisons.explore`.
        arms: in the order of the rows. weights: (task, net) -> what it began with.
    """
    values: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = {}
    for m in measurements:
        if m.metric in METRICS and (m.class_name, m.subgroup) == (MACRO, "") and m.seed is not None and m.value is not None:
            values.setdefault((m.task, m.metric), {}).setdefault((m.arm, m.net), []).append(m.value)
    over = {(c.task, c.metric, c.arm, c.net): c for c in explored if (c.class_name, c.external) == (MACRO, "")}
    found = []
    for (task, metric), seen in values.items():
        nets = list(dict.fromkeys(net for _, net in seen))
        rows = {arm: [_cell(seen.get((arm, net), []), over.get((task, metric, arm, net))) for net in nets] for arm in arms}
        if len(nets) > 1:
            found.append(NetsOfTask(task, metric, {n: weights.get((task, n), "") for n in nets}, {a: row for a, row in rows.items() if any(row)}))
    return found


def _cell(values: Sequence[float], over: Comparison | None) -> Cell | None:
    if not values:
        return None
    return Cell(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, len(values), over)


def table(tasks: Sequence[NetsOfTask]) -> Table:
    """A row a task, net and arm, with all digits."""
    rows = [(t.task, METRIC_NAMES[t.metric], net, weights, arm, c.mean, c.deviation, c.seeds, *((c.over.difference, c.over.low, c.over.high) if c.over else (None,) * 3))
            for t in tasks for place, (net, weights) in enumerate(t.nets.items()) for arm, row in t.cells.items() if (c := row[place]) is not None]
    return Table("by_net", "The same arms under every net", COLUMNS, rows)

"""ROC, precision-recall and reliability curves of a classification endpoint, arm by arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synthrad.metrics import classification
from synthrad.metrics.curves import Curve, precision_recall, reliability, roc
from synthrad.study.figures import Drawing, drawing
from synthrad.study.plots import COLOURS, INK, SOFT, STYLE, WIDTH
from synthrad.study.tables import Table
from synthrad.study.verdicts import Endpoint

LINES = ("-", "--", "-.", ":")
MOST_ARMS = 6  # in one panel: more lie on top of each other; files hold all
MOST_CLASSES = 6  # rows of the figure
KINDS = {"ROC": ("1 − specificity", "sensitivity"), "precision and recall": ("recall (sensitivity)", "precision"),
         "reliability": ("mean predicted probability", "share that is positive")}


@dataclass(frozen=True)
class ClassCurves:
    """The curves of one arm for one class; kind (a key of KINDS) -> Curve, without those that are undefined."""

    arm: str
    class_name: str
    curves: dict[str, Curve]
    positive: int
    images: int
    seeds: int


def endpoint_curves(cases: pd.DataFrame, endpoint: Endpoint, arms: Sequence[str], fewest: int) -> list[ClassCurves]:
    """Curves of the arms on the own test images, class by class; [] for a segmentation endpoint.

    Classes with, or without, which fewer than `fewest` test subjects are have none: such a curve is a few steps.
    """
    rows = cases[(cases["kind"] == "classification") & (cases["task"] == endpoint.task) & (cases["net"] == endpoint.net)
                 & (cases["external"] == "") & cases["arm"].isin(list(arms))]
    if not len(rows) or endpoint.metric not in classification.METRICS:
        return []
    scores, _, seeds = classification.class_scores(rows, endpoint.classes or ())
    found = []
    for arm in arms:
        for name, mine in scores.get(arm, {}).items():
            if min(mine.subjects_with) < fewest:
                continue
            made = {"ROC": roc(mine.probability, mine.target), "precision and recall": precision_recall(mine.probability, mine.target),
                    "reliability": reliability(mine.probability, mine.target)}
            found.append(ClassCurves(arm, name, {k: c for k, c in made.items() if c is not None}, int(mine.target.sum()), len(mine.target),
                                     len(seeds)))
    return found


def draw_curves(found: Sequence[ClassCurves]) -> Drawing | None:
    """A row of three panels a class, a line an arm; None where there is no curve."""
    if not found:
        return None
    classes = list(dict.fromkeys(c.class_name for c in found))
    arms = list(dict.fromkeys(c.arm for c in found))
    shown = classes[:MOST_CLASSES]
    with rc_context({**STYLE, "axes.grid.axis": "both", "axes.spines.left": True}):
        figure = Figure(figsize=(WIDTH, 0.5 + 2.75 * len(shown)), layout="constrained")
        panels = figure.subplots(len(shown), 3, squeeze=False)
        for line, name in zip(panels, shown, strict=True):
            mine = [c for c in found if c.class_name == name and c.arm in arms[:MOST_ARMS]]
            for axes, kind in zip(line, KINDS, strict=True):
                _panel(axes, kind, mine, arms)
            line[0].set_title(f"{name}: {mine[0].positive} of {mine[0].images} images", loc="left", fontsize=9)
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    rows = [(c.class_name, c.arm, kind, *map(float, point)) for c in found for kind, curve in c.curves.items()
            for point in zip(curve.x, curve.mean, curve.low, curve.high, strict=True)]
    table = Table("curves", "ROC, precision-recall and reliability curves", ("class", "arm", "curve", "x", "mean", "low", "high"), rows)
    left = f" Of {len(classes)} classes the first {len(shown)} and of {len(arms)} arms the first {len(arms[:MOST_ARMS])} are drawn; the CSV has all." if (
        len(classes) > len(shown) or len(arms) > MOST_ARMS) else ""
    said = "" if found[0].seeds == 1 else f" The line is the mean over {found[0].seeds} downstream seeds, the band their range."
    return drawing(figure, table, f"ROC, precision-recall and reliability curves of {len(arms)} arms for {', '.join(shown)}",
                   "Discrimination and calibration on the real test images. Grey: what a classifier without knowledge reaches, and perfect "
                   f"calibration (10 bins of equal mass).{said} The band says nothing of other patients: for that see the intervals above.{left}")


def _panel(axes: Axes, kind: str, found: Sequence[ClassCurves], arms: Sequence[str]) -> None:
    if kind == "precision and recall":
        axes.axhline(found[0].positive / found[0].images, color=SOFT, linewidth=1, linestyle=(0, (2, 2)))
    else:
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=1, linestyle=(0, (2, 2)))
    for c in found:
        k = arms.index(c.arm)
        curve = c.curves.get(kind)
        if curve is None:
            continue
        known = ~np.isnan(curve.mean)
        colour = INK if k == 0 else COLOURS[(k - 1) % 7]
        axes.fill_between(curve.x[known], curve.low[known], curve.high[known], color=colour, alpha=0.13, linewidth=0)
        axes.plot(curve.x[known], curve.mean[known], color=colour, linestyle=LINES[k % 4], linewidth=1.5, label=c.arm,
                  marker="o" if kind == "reliability" else None, markersize=3)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.set_xlabel(KINDS[kind][0], fontsize=8)
    axes.set_ylabel(KINDS[kind][1], fontsize=8)

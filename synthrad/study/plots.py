"""Figures of the report: each function takes plain numbers and returns a matplotlib figure (None: nothing to draw).

Colours are the Okabe-Ito set (told apart under the common colour blindnesses); every colour is doubled by a marker or a word.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, SOFT, RULE = "#1d2733", "#5c6b7a", "#d5dce3"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "text.parse_math": False,  # a class called "$x$" is a name, not a formula
    "xtick.color": SOFT,
    "ytick.color": INK,
    "ytick.left": False,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "grid.color": "#e9edf1",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
}
WIDTH = 7.6  # inches: the width of the text on A4


@dataclass(frozen=True)
class Effect:
    """One line of the forest: arm - against, with its interval (None: not given)."""

    arm: str
    against: str
    difference: float
    low: float | None
    high: float | None


def as_uri(figure: Figure, dpi: int = 160) -> str:
    """A figure as `data:image/png;base64,...`; no date inside, so that the same numbers give the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white", metadata={"Software": None}
    )
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def forest(effects: Sequence[Effect], metric: str, relevant: float, interval: str = "95 % interval", by_net: bool = False) -> Figure:
    """Effect plot: one block an arm, one line a control (by_net: a net, against the reference); the dashed line is the smallest relevant difference."""
    arms = list(dict.fromkeys(e.arm for e in effects))
    against = list(dict.fromkeys(e.against for e in effects))
    spread = np.linspace(-0.24, 0.24, len(against)) if len(against) > 1 else np.zeros(1)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.12 * len(against) + 0.62 * len(arms)), layout="constrained")
        axes = figure.subplots()
        for i in range(0, len(arms), 2):
            axes.axhspan(i - 0.5, i + 0.5, color="#f6f8fa", zorder=0)
        axes.axvline(0, color=INK, linewidth=1)
        if relevant > 0:
            axes.axvline(relevant, color=SOFT, linewidth=1.2, linestyle=(0, (4, 3)))
        for k, name in enumerate(against):
            mine = [e for e in effects if e.against == name]
            y = [arms.index(e.arm) + spread[k] for e in mine]
            for e, at in zip(mine, y, strict=True):
                if e.low is not None and e.high is not None:
                    axes.plot(
                        [e.low, e.high], [at, at], color=COLOURS[k % 7], linewidth=2, solid_capstyle="butt"
                    )
            axes.scatter(
                [e.difference for e in mine],
                y,
                s=34,
                marker=MARKERS[k % 7],
                color=COLOURS[k % 7],
                label=name if by_net else f"against {name}",
                zorder=3,
                edgecolor="white",
                linewidth=0.6,
            )
        _name_rows(axes, arms)
        axes.set_xlabel(f"difference in {metric}: arm minus {'reference' if by_net else 'control'} ({interval}; right of 0 favours the arm)")
        _legend(axes, len(against))
        return figure


def seed_dots(values: Mapping[str, Mapping[int, float]], metric: str) -> Figure:
    """One dot a downstream seed, a tick at the mean; arms from top to bottom."""
    arms = list(values)
    seeds = sorted({s for row in values.values() for s in row})
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.36 * len(arms)), layout="constrained")
        axes = figure.subplots()
        for k, seed in enumerate(seeds):
            at = 0.22 * (2 * k / max(len(seeds) - 1, 1) - 1) if len(seeds) > 1 else 0.0
            mine = [(row[seed], i + at) for i, row in enumerate(values.values()) if seed in row]
            axes.scatter(
                *zip(*mine, strict=True),
                s=20,
                color=COLOURS[k % 7],
                marker=MARKERS[k % 7],
                label=f"seed {seed}",
                linewidth=0,
                alpha=0.9,
            )
        for i, row in enumerate(values.values()):
            mean = float(np.mean(list(row.values())))
            axes.plot([mean, mean], [i - 0.34, i + 0.34], color=INK, linewidth=2)
        _name_rows(axes, arms)
        axes.set_xlabel(f"{metric} on the real test images (bar: mean over seeds)")
        if len(seeds) <= 7:
            _legend(axes, len(seeds))
        return figure


def best_steps(rows: Sequence[tuple[str, int, int, int]]) -> Figure:
    """Step of the best validation score as a share of all steps; rows of (arm, seed, best_step, steps)."""
    arms = list(dict.fromkeys(r[0] for r in rows))
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.3 * len(arms)), layout="constrained")
        axes = figure.subplots()
        shares = [best / max(total, 1) for _, _, best, total in rows]
        axes.scatter(shares, [arms.index(r[0]) for r in rows], s=28, color=COLOURS[0], linewidth=0, alpha=0.85)
        _name_rows(axes, arms)
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("best step / all steps")
        return figure


def histogram(values: Mapping[str, Sequence[float]], label: str) -> Figure | None:
    """Overlaid step histograms (shares of each set), e.g. synthetic images beside held-out real ones."""
    sets = {k: np.asarray(v, dtype=float) for k, v in values.items()}
    sets = {k: v[np.isfinite(v)] for k, v in sets.items()}
    sets = {k: v for k, v in sets.items() if v.size}
    if not sets:
        return None
    low, high = min(v.min() for v in sets.values()), max(v.max() for v in sets.values())
    edges = np.linspace(low, high if high > low else low + 1e-3, 31)
    with rc_context({**STYLE, "axes.grid.axis": "y", "axes.spines.left": True}):
        figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
        axes = figure.subplots()
        for k, (name, v) in enumerate(sets.items()):
            axes.hist(
                v,
                edges,
                weights=np.full(v.size, 1 / v.size),
                histtype="step",
                linewidth=2,
                linestyle=("-", "--", "-.", ":")[k % 4],
                color=COLOURS[k % 7],
                label=f"{name} (n = {v.size})",
            )
        axes.set_xlabel(label)
        axes.set_ylabel("share of the set")
        _legend(axes, 2)
        return figure


def dose(points: Mapping[str, Sequence[tuple[float, float, float]]], base: float | None, metric: str) -> Figure:
    """Metric against dose; points: strategy and source -> (rows added / rows real, mean, SD over seeds)."""
    with rc_context({**STYLE, "axes.grid.axis": "y", "axes.spines.left": True}):
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        axes = figure.subplots()
        if base is not None:
            axes.axhline(base, color=INK, linewidth=1, linestyle=(0, (4, 3)), label="no added rows")
        for k, (name, rows) in enumerate(points.items()):
            x, mean, sd = np.array(sorted(rows), dtype=float).T
            axes.errorbar(
                x,
                mean,
                yerr=np.nan_to_num(sd),
                color=COLOURS[k % 7],
                marker=MARKERS[k % 7],
                linewidth=1.6,
                capsize=3,
                label=name,
            )
        axes.set_xlim(left=0)
        axes.set_xlabel("rows added per real training row")
        axes.set_ylabel(metric)
        _legend(axes, 3)
        return figure


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [n if len(n) <= 34 else n[:33] + "…" for n in names])
    axes.set_ylim(len(names) - 0.5, -0.5)


def _legend(axes: Axes, columns: int) -> None:
    longest = max((len(t) for t in axes.get_legend_handles_labels()[1]), default=1)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=max(1, min(columns, 7, 100 // (longest + 6))),
        frameon=False,
        borderaxespad=0.2,
        handletextpad=0.4,
        columnspacing=1.4,
    )

"""Pictures of an audit: who resembles the set how much, what the audit would have seen, and the pairs that are most alike."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synthrad.audit.copying import Search
from synthrad.audit.leaks import BEYOND
from synthrad.audit.rungs import ENOUGH_POWER, Rung
from synthrad.audit.sides import Sides
from synthrad.data.images import fit
from synthrad.data.sheets import Block, Panel, png, sheet, to_grey

STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False}
MEMBER, OTHER = "#d55e00", "#0072b2"
SIDE = 128  # pixels: the shorter side of a picture of a pair
PAIRS = 9


def _scale(rung: Rung) -> str:
    """What is printed as similarity."""
    return "distance in standard deviations" if rung.name.startswith("copies/features") else "correlation"


def draw_audit(rungs: Sequence[Rung], searches: Mapping[str, Search]) -> bytes:
    """PNG: for each search the scores of members and non-members, beside the power of its self-test."""
    shown = [r for r in rungs if r.name in searches]
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 3.2 * len(shown)), layout="constrained")
        axes = figure.subplots(len(shown), 2, squeeze=False, width_ratios=(1, 1.15))
        for (left, right), rung in zip(axes, shown, strict=True):
            _scores(left, rung, searches[rung.name])
            _power(right, rung)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def _scores(axes: Axes, rung: Rung, found: Search) -> None:
    values = found.similarity
    bins = np.histogram_bin_edges(values, 30)
    for member, name, colour in ((True, "training patients (members)", MEMBER), (False, "test patients (non-members)", OTHER)):
        mine = values[found.member == member]
        axes.hist(mine, bins, weights=np.full(len(mine), 1 / len(mine)), histtype="stepfilled", alpha=0.35, color=colour, label=f"{name}, {len(mine)}")
    axes.set_title(f"{rung.name}: {rung.verdict}", fontsize=10, fontweight="bold")
    axes.set(ylabel="share of patients", xlabel=f"nearest synthetic image: {_scale(rung)}")
    axes.legend(frameon=False, fontsize=8)


def _power(axes: Axes, rung: Rung) -> None:
    leaks = list(rung.power)
    counts = list(rung.power[leaks[0]])
    table = np.array([[rung.power[leak][k] for k in counts] for leak in leaks])
    axes.imshow(table, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(table):
        axes.text(j, i, f"{value:.0%}", ha="center", va="center", color="black" if value > 0.6 else "white", fontsize=8)
    names = [f"{leak}{' (needed)' if leak in rung.claims else ''}{' (beyond the search)' if leak in BEYOND else ''}" for leak in leaks]
    axes.set_title(f"Planted leaks that it sees; for a pass {ENOUGH_POWER:.0%} of those needed, last column", fontsize=9)
    axes.set(xlabel="planted patients", xticks=range(len(counts)), xticklabels=counts, yticks=range(len(leaks)), yticklabels=names)
    axes.spines[:].set_visible(False)


def draw_pairs(sides: Sides, rungs: Sequence[Rung], searches: Mapping[str, Search]) -> bytes:
    """PNG: training images beside the synthetic image most like each, the most alike first, for a reader to judge."""
    blocks = []
    for rung in (r for r in rungs if r.name in searches and not r.name.startswith("copies/masks")):
        panels = []
        for match in rung.facts["matches"][:PAIRS]:
            panels.append(Panel(_pixels(sides.real[match["real_row"], 0].numpy()), f"training patient {match['subject']}"))
            panels.append(Panel(_pixels(sides.synthetic[match["synthetic_row"], 0].numpy()),
                                f"{match['synthetic']}: {match['similarity']:.3f}"))
        blocks.append(Block(f"{rung.name}: nearest pairs ({_scale(rung)})", panels))
    return png(sheet("Training images (left) and the synthetic image most like each (right)", blocks, 6, {}))


def _pixels(image: np.ndarray) -> np.ndarray:
    grey = to_grey(image)
    scale = SIDE / min(grey.shape)
    size = tuple(max(1, round(s * scale)) for s in grey.shape)
    return np.repeat(fit(grey, size, "squeeze", nearest=scale > 1)[..., None], 3, -1)

"""check.html: one offline file on a dataset: what it holds, in pictures and tables, and what it speaks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib import rc_context
from matplotlib.figure import Figure

from synthrad.data.sheets import Block, Panel, panel, png, sheet
from synthrad.dataset.against import Against
from synthrad.dataset.integrity import LETTERS_IN, Inspection, kinds
from synthrad.dataset.recommend import Recommendation
from synthrad.files import write_durably
from synthrad.manifest_table import SPLITS
from synthrad.records import Manifest
from synthrad.study import plots
from synthrad.study.figures import as_svg
from synthrad.study.tables import as_link, printed

COLUMNS = 4  # pictures in a row
EACH = 4  # pictures of a finding or of a split
MOST_FINDINGS = 10  # with pictures of their own
MOST_PAIRS = 24  # findings in the matrix


def write_page(path: Path, manifest: Manifest, seen: Inspection, found: Mapping[str, Any], advice: Recommendation | None,
               against: Sequence[Against] = ()) -> Path:
    """Write the page; returns its path.

    Args:
        path: of the HTML file. manifest, seen, found, advice: as `check.run` has them; advice None for a synthetic set. against: what other sets share with it.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=ChoiceLoader([PackageLoader("synthrad.dataset", "template"), PackageLoader("synthrad.study", "page")]),
                              autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["printed"] = printed
    environment.filters["percent"] = lambda share: "–" if share is None else f"{100 * share:.1f} %"
    study = None
    if advice and advice.study["tasks"]:
        study = yaml.safe_dump(dict(advice.study), sort_keys=False, width=100, default_flow_style=None)
    text = environment.get_template("check.html.j2").render(
        found=found, advice=advice, study=study, splits=[s for s in SPLITS if found["splits"][s]["images"]],
        sheets=[as_link(png(s), "image/png") for s in _sheets(manifest, seen)],
        intensities=_link(_intensities(seen, found)), matrix=_link(_matrix(found)), areas=_link(_areas(manifest, found)),
        doubts=kinds(seen.doubts, 40), synthetic=advice is None, masked=bool(manifest.info.layers), others=[(a, a.counts(), _pairs(a)) for a in against],
    )
    write_durably(path, text.encode())
    return path


def _link(figure: Figure | None) -> str | None:
    return None if figure is None else as_link(as_svg(figure), "image/svg+xml")


def _sheets(manifest: Manifest, seen: Inspection) -> list[Any]:
    """One sheet of each split's pictures, one of each finding's, one of the extremes."""
    splits = [(s, np.flatnonzero(manifest.column("split") == s)) for s in SPLITS]
    labels = dict(zip(manifest.info.classes, manifest.labels.T, strict=True))
    findings = [(f"{name}: {int((v == 1).sum())} images", np.flatnonzero(v == 1)) for name, v in list(labels.items())[:MOST_FINDINGS]]
    dark, spread = np.argsort(seen.means[:, 0], kind="stable"), np.argsort(seen.deviations[:, 0], kind="stable")
    lettered = np.array(seen.lettered, dtype=int)
    extremes = [(f"what looks like text: {len(lettered)} of {min(LETTERS_IN, len(manifest))} looked at", lettered), ("darkest", dark[:EACH]), ("brightest", dark[::-1][:EACH]), ("least contrast", spread[:EACH]), ("most contrast", spread[::-1][:EACH])]
    made = []
    for heading, groups in (("Evenly spread over each split", splits), ("Positive findings", findings), ("The extremes: are they what you expect?", extremes)):
        blocks = [_block(manifest, title, rows) for title, rows in groups if len(rows)]
        if blocks:
            made.append(sheet(heading, _of_one_size(blocks), COLUMNS, manifest.info.layers))
    return made


def _pairs(against: Against) -> str | None:
    blocks = against.blocks()
    return as_link(png(sheet(f"{against.ours.info.name} on the left, {against.name} on the right", _of_one_size(blocks), 2, {})), "image/png") if blocks else None


def _of_one_size(blocks: Sequence[Block]) -> list[Block]:
    """The same with white beside and below the smaller panels: a sheet has one grid."""
    shapes = [p.pixels.shape for b in blocks for p in b.panels]
    height, width = max(s[0] for s in shapes), max(s[1] for s in shapes)

    def padded(p: Panel) -> Panel:
        rest = (height - p.pixels.shape[0], width - p.pixels.shape[1])
        return Panel(np.pad(p.pixels, ((0, rest[0]), (0, rest[1]), (0, 0)), constant_values=255), p.caption)

    return [Block(b.title, [padded(p) for p in b.panels]) for b in blocks]


def _block(manifest: Manifest, title: str, rows: np.ndarray) -> Block:
    if len(rows) > EACH:
        rows = rows[np.linspace(0, len(rows) - 1, EACH).round().astype(int)]
    return Block(title, [panel(manifest, int(i), f"row {i + 2}") for i in rows])


def _intensities(seen: Inspection, found: Mapping[str, Any]) -> Figure | None:
    """Shares of stored values, channel by channel; the tails beyond 99.9 % are left out."""
    positions = (np.arange(4000) + 0.5) / 4000
    values = {}
    for counts, name in zip(seen.counts, found["intensities"], strict=True):
        if counts.sum():
            running = np.cumsum(counts)
            values[name] = np.searchsorted(running, (0.0005 + 0.999 * positions) * running[-1]).astype(float)
    return plots.histogram(values, "stored value (4,000 quantiles of all pixels)")


def _matrix(found: Mapping[str, Any]) -> Figure | None:
    """How much more often than by chance two findings are in one subject: log2 of observed over expected."""
    pairs = found["together"]
    names = list(dict.fromkeys(n for p in pairs for n in (p["a"], p["b"])))[:MOST_PAIRS]
    if len(names) < 2:
        return None
    table = np.full((len(names), len(names)), np.nan)
    for p in pairs:
        if p["a"] in names and p["b"] in names:
            i, j = names.index(p["a"]), names.index(p["b"])
            table[i, j] = table[j, i] = np.log2((p["subjects"] + 0.5) / (p["expected"] + 0.5))
    side = 1.6 + 0.3 * len(names)
    with rc_context({**plots.STYLE, "axes.grid": False}):
        figure = Figure(figsize=(min(plots.WIDTH, side + 1.6), side), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(table, cmap="RdBu_r", vmin=-2, vmax=2)
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
        axes.set_yticks(range(len(names)), names)
        bar = figure.colorbar(image, ax=axes, shrink=0.7, ticks=[-2, -1, 0, 1, 2])
        bar.set_ticklabels(["1/4", "1/2", "as chance", "2 times", "4 times"])
        return figure


def _areas(manifest: Manifest, found: Mapping[str, Any]) -> Figure | None:
    names = [n for n, f in found["findings"].items() if f.get("area")][:7]
    shares = {n: manifest.column(f"area:{n}") for n in names}
    figure = plots.histogram({n: np.log10(a[np.nan_to_num(a) > 0]) for n, a in shares.items()}, "share of the picture that a structure covers, where it is (log scale)")
    if figure is not None:
        figure.axes[0].xaxis.set_major_formatter(lambda exponent, _: f"{100 * 10**exponent:.2g} %")
    return figure


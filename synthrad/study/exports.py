"""The tables of a report as files, and all of its files beside it: figures as SVG and CSV, tables as LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthrad.files import write_durably
from synthrad.measurements import Measurement
from synthrad.study.class_tables import metric_name
from synthrad.study.figures import Drawing
from synthrad.study.tables import Table, as_link
from synthrad.study.verdicts import Comparison, Comparisons
from synthrad.study.views import DIFFERENCE, ArmRow

FIGURES, TABLES = "figures", "tables"
INLINE = 64_000  # bytes of a file up to which the report carries it itself; a larger one lies beside it only


def arms_table(arms: Sequence[ArmRow], metric: str) -> Table:
    """Every arm: what it was made of, its metric over seeds."""
    rows = [(a.name, a.strategy, a.source, a.role, a.rows_real, a.rows_added, a.same_as or "", a.seeds, a.mean, a.sd, a.detectable) for a in arms]
    return Table("arms", f"Arms: {metric} over downstream seeds",
                 ("arm", "strategy", "source", "role", "rows real", "rows added", "same as", "seeds", "mean", "SD", "detectable with 90 % power"), rows)


def differences_table(comparisons: Comparisons, mechanics: bool) -> Table:
    """Every comparison on the endpoint; without p-values and verdicts under `mechanics`."""
    rows = [(v.arm, c.reference, c.difference, c.low, c.high, *([] if mechanics else [c.p_gain, v.p_holm]), "no verdict" if mechanics else v.call, c.seeds, c.subjects)
            for v in comparisons.verdicts for c in v.comparisons]
    return Table("differences", "Differences on the primary endpoint, arm minus reference",
                 ("arm", "reference", "difference", "low", "high", *([] if mechanics else ["p (one-sided)", "Holm p of the arm"]), "verdict", "seeds", "subjects"), rows)


def metrics_table(measurements: Sequence[Measurement]) -> Table:
    """Test metrics of every seed, differences left out."""
    rows = [(m.task, m.net, m.subgroup, m.class_name, metric_name(m.metric), m.arm, m.seed, m.value, m.low, m.high, m.n, m.note) for m in measurements
            if not m.subject and not m.metric.endswith(DIFFERENCE)]
    return Table("metrics", "Test metrics of every seed", ("task", "net", "subgroup", "class", "metric", "arm", "seed", "value", "low", "high", "n", "note"), rows)


def explored_table(differences: Sequence[Comparison]) -> Table:
    """Exploratory differences with all digits."""
    rows = [(c.task, c.net, c.external or "own", metric_name(c.metric), c.class_name, c.arm, c.difference, c.low, c.high, c.subjects) for c in differences]
    return Table("exploratory", "Exploratory differences to the reference, not corrected for their number",
                 ("task", "net", "test set", "metric", "class", "arm", "difference", "low", "high", "subjects"), rows)


def links(table: Table, kinds: Sequence[str] = ("csv", "tex"), folder: str = TABLES) -> list[dict[str, str]]:
    """What the report links to: inside itself where the file is small, else beside it."""
    out = []
    for kind in kinds:
        text = (table.csv() if kind == "csv" else table.latex()).encode()
        mime = "text/csv" if kind == "csv" else "application/x-tex"
        href = as_link(text, mime) if len(text) <= INLINE else f"{folder}/{table.name}.{kind}"
        out.append({"text": "CSV" if kind == "csv" else "LaTeX", "href": href, "file": f"{table.name}.{kind}"})
    return out


def write_files(run: Path, drawings: Sequence[Drawing], tables: Mapping[str, Table]) -> list[Path]:
    """Write `figures/` and `tables/` beside the report; what an older report left there goes."""
    files: dict[str, bytes] = {}
    for d in drawings:
        files |= {f"{FIGURES}/{d.name}.svg": d.svg, f"{FIGURES}/{d.name}.csv": d.table.csv().encode()}
    for t in tables.values():
        files |= {f"{TABLES}/{t.name}.csv": t.csv().encode(), f"{TABLES}/{t.name}.tex": t.latex().encode()}
    for folder in (FIGURES, TABLES):
        for old in (run / folder).glob("*"):
            if f"{folder}/{old.name}" not in files and old.suffix in (".svg", ".csv", ".tex") and not old.is_dir():
                old.unlink()
    return [_write(run / name, data) for name, data in files.items()]


def _write(path: Path, data: bytes) -> Path:
    write_durably(path, data)
    return path


def figure_links(drawing: Drawing) -> list[dict[str, Any]]:
    """SVG beside the report (the page holds it as its picture already), CSV inside."""
    return [{"text": "SVG", "href": f"{FIGURES}/{drawing.name}.svg", "file": f"{drawing.name}.svg"}, *links(drawing.table, ("csv",), FIGURES)]

"""report.html: one file that opens offline and says in words what helped, with every number beside its controls."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from synthrad.measurements import Measurement
from synthrad.records import SPLITS, Manifest, write_durably
from synthrad.study import cards, class_tables, plots, views
from synthrad.study.pictures import Triplet, draw_triplets
from synthrad.study.verdicts import METRIC_NAMES, Comparison, Comparisons, Endpoint

PACKAGES = (
    "synthrad",
    "torch",
    "lightning",
    "monai",
    "segmentation-models-pytorch",
    "timm",
    "numpy",
    "scipy",
    "pandas",
)


@dataclass(frozen=True)
class DataSummary:
    """What the data section shows.

    Args:
        facts: name -> value, nested as deep as wanted.
        splits: column order of `prevalence`.
        prevalence: class or layer/structure -> split -> text, e.g. "12 of 80 (15 %)".
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    splits: tuple[str, ...] = SPLITS
    prevalence: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportFacts:
    """Everything a report says; nothing is read from disk while it is written.

    Args:
        study: the study's name; title: a line for people.
        endpoint, comparisons: the declared question and its answer.
        mechanics: stamped, and no p-value anywhere (also where `comparisons` says so).
        banners: lines shown above the verdicts, e.g. a synthetic set of unknown lineage.
        explore: exploratory differences to the reference, no p-values.
        measurements: test metrics per seed (or of the set, without a seed).
        arms: the arms/<arm>.json mappings, in order.
        fits: the fit.json mappings with task, net, arm, seed added.
        costs: stage -> seconds.
        commands: what to type to get this again.
        untested: what this study leaves open.
        pictures: see pictures.triplets.
        similarity: set -> similarity of its images to the nearest training image (held-out real images as the null).
        filters: source -> its filter log as plain data.
        data: see `summarise`.
        versions: see `installed`; cpu: see `processor`; config_hash: of the study file.
    """

    study: str
    endpoint: Endpoint
    comparisons: Comparisons
    title: str = ""
    mechanics: bool = False
    banners: Sequence[str] = ()
    explore: Sequence[Comparison] = ()
    measurements: Sequence[Measurement] = ()
    arms: Sequence[Mapping[str, Any]] = ()
    fits: Sequence[Mapping[str, Any]] = ()
    costs: Mapping[str, float] = field(default_factory=dict)
    commands: Sequence[str] = ()
    untested: Sequence[str] = ()
    pictures: Sequence[Triplet] = ()
    similarity: Mapping[str, Sequence[float]] = field(default_factory=dict)
    filters: Mapping[str, Any] = field(default_factory=dict)
    data: DataSummary | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    cpu: str = ""
    config_hash: str = ""


def write_report(run: Path, facts: ReportFacts) -> Path:
    """Write `run/report.html` durably and return its path."""
    path = Path(run) / "report.html"
    write_durably(path, render(facts).encode())
    return path


def render(facts: ReportFacts) -> str:
    """The report as HTML. Names and texts are escaped, images inlined, nothing is fetched."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("synthrad.study", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("report.html.j2").render(**_context(facts))


def _context(facts: ReportFacts) -> dict[str, Any]:
    end, mechanics = facts.endpoint, facts.mechanics or facts.comparisons.mechanics
    arms = views.arm_rows(facts.comparisons, facts.arms, facts.measurements)
    explored = class_tables.explored(facts.explore)
    tested = [a.name for a in arms if a.same_as is None]
    return {
        "study": facts.study,
        "title": facts.title,
        "mechanics": mechanics,
        "banners": list(facts.banners),
        "headline": cards.headline(facts.comparisons, facts.arms, mechanics),
        "verdicts": cards.cards(facts.comparisons, facts.arms, mechanics),
        "question": views.question(facts.comparisons, mechanics),
        "arms": arms,
        "references": views.references(arms),
        "show_seeds_only": not mechanics and any(a.seeds_only != "–" for a in arms),
        "show_detectable": not mechanics and any(a.detectable is not None for a in arms),
        "metric": METRIC_NAMES[end.metric],
        "metric_name": views.endpoint_name(end),
        "level": views.level(end),
        "over": f"test subjects and {facts.comparisons.generalises_over}",
        "relevant": f"{end.smallest_relevant:g}",
        "arm_facts": views.arm_facts(facts.arms),
        "endpoint_tables": class_tables.class_tables([m for m in facts.measurements if class_tables.of_endpoint(m, end)], tested),
        "class_tables": class_tables.class_tables([m for m in facts.measurements if not class_tables.of_endpoint(m, end)], tested),
        "explore": [list(row.values()) for row in explored],
        "explore_columns": list(explored[0]) if explored else [],
        "filters": views.filter_views(facts.filters),
        "undertrained": facts.comparisons.undertrained,
        "training_length": views.training_length(facts.comparisons),
        "costs": views.cost_rows(facts.costs),
        "total_time": views.duration(sum(facts.costs.values())),
        "data": facts.data,
        "commands": list(facts.commands),
        "versions": dict(facts.versions) | ({"CPU": facts.cpu} if facts.cpu else {}),
        "config_hash": facts.config_hash,
        "untested": views.untested(facts.untested, mechanics),
        "figures": _figures(facts, arms),
    }


def _figures(facts: ReportFacts, arms: Sequence[views.ArmRow]) -> dict[str, str]:
    end = facts.endpoint
    metric = METRIC_NAMES[end.metric]
    effects = [e for a in arms for e in a.effects.values()]
    seeds = {a.name: a.by_seed for a in arms if a.by_seed}
    order = {a.name: i for i, a in enumerate(arms)}
    fits = sorted(views.endpoint_fits(facts.fits, end), key=lambda f: order.get(str(f["arm"]), len(order)))
    best = [(str(f["arm"]), int(f["seed"]), int(f["best_step"]), int(f["steps"])) for f in fits]
    doses, base = views.doses(arms)
    return {
        "forest": plots.forest(effects, metric, end.smallest_relevant, f"{views.level(end)} interval")
        if effects
        else "",
        "seeds": plots.seed_dots(seeds, metric) if seeds else "",
        "dose": plots.dose(doses, base, metric) if doses else "",
        "best": plots.best_steps(best) if best else "",
        "pictures": draw_triplets(facts.pictures),
        "similarity": plots.histogram(facts.similarity, "correlation with the nearest training image"),
    }


def summarise(manifest: Manifest, external: Mapping[str, Manifest] | None = None) -> DataSummary:
    """Rows, subjects and prevalence of the real images of each split, and of the external test sets."""
    parts = {s: manifest.where(split=s, source="real") for s in SPLITS} | dict(external or {})
    parts = {k: v for k, v in parts.items() if len(v)}
    info = manifest.info
    facts: dict[str, Any] = {"dataset": f"{info.name} ({info.id})" if info.id != info.name else info.name}
    facts["licence"] = info.licence or "not stated"
    facts["images"] = {k: len(v) for k, v in parts.items()}
    facts["subjects"] = {k: len(set(v.column("subject"))) for k, v in parts.items()}
    facts["manifest digest"] = manifest.digest[:16]
    prevalence: dict[str, dict[str, str]] = {}
    names = {f"label:{c}": c for c in info.classes}
    names |= {
        f"area:{layer}/{s}": f"{layer}/{s}" for layer, structures in info.layers.items() for s in structures
    }
    for column, name in names.items():
        for split, part in parts.items():
            if column not in part.table:
                continue
            values = part.column(column).astype(float)
            known = values[~np.isnan(values)]
            share = f" ({100 * (known > 0).mean():.0f} %)" if known.size else ""
            prevalence.setdefault(name, {})[split] = f"{int((known > 0).sum())} of {known.size}{share}"
    return DataSummary(facts, tuple(parts), prevalence)


def installed() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    out = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed"
    return out


def processor() -> str:
    """The CPU's model name, "unknown" where the system does not tell."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), "") or platform.processor() or "unknown"

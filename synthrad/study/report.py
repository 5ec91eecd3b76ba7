"""report.html: one file that opens offline and says in words what helped, with every number beside its controls."""

from __future__ import annotations

import base64
import hashlib
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from synthrad.files import write_durably
from synthrad.manifest_table import SPLITS
from synthrad.measurements import Measurement
from synthrad.records import Manifest
from synthrad.study import (
    audits,
    cards,
    claim,
    class_tables,
    crossed,
    evidence_views,
    exports,
    plots,
    sentences,
    views,
)
from synthrad.study import by_net as every_net
from synthrad.study.audits import SetAudit
from synthrad.study.claim import ClaimItem
from synthrad.study.crossed import Crossed
from synthrad.study.curves import ClassCurves, draw_curves
from synthrad.study.evidence import Evidence
from synthrad.study.examples import draw_examples
from synthrad.study.figures import Drawing, drawing
from synthrad.study.flow import Flow, draw_flow
from synthrad.study.net_costs import net_costs
from synthrad.study.pictures import Picture, Triplet, draw_triplets
from synthrad.study.tables import Table, printed
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
REPORT, SHAREABLE = "report.html", "report_shareable.html"
SHEET = 4  # triplets in one picture: what fits on a page of paper
CONTENTS = "(contents)"  # stands in the template where the links to the sections go, which are known only when all is written
HEAD = re.compile(r'<h2 id="(\w+)"[^>]*>([^<]+)</h2>')


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
        fits: the fit.json mappings with task, net, arm, seed and weights (`net_costs.weights_of`) added; outside: those of nets that were trained elsewhere, see `outside_cases.read_outside`.
        costs: stage -> seconds.
        commands: what to type to get this again.
        untested: what this study leaves open.
        pictures: see pictures.triplets.
        similarity: set -> similarity of its images to the nearest training image (held-out real images as the null).
        evidence: what stands beside the verdicts.
        filters: source -> its filter log as plain data.
        data: see `summarise`.
        versions: see `installed`; cpu: see `processor`; config_hash: of the study file.
        audits: of the synthetic sets, see `find_audits`. near_copies: sources that lie closer to training images than test patients do. curves: see `endpoint_curves`. flow: see `flow_of`.
        pictures_left_out: whether images were left out on purpose, which is said then. examples: see `examples.examples`. methods: (heading, paragraph) each. crossed: see `crossed.crossed`. claim: the checklist's items.
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
    outside: Sequence[Mapping[str, Any]] = ()
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
    evidence: Evidence | None = None
    audits: Sequence[SetAudit] = ()
    near_copies: Sequence[str] = ()
    curves: Sequence[ClassCurves] = ()
    flow: Flow | None = None
    examples: Sequence[Picture] = ()
    pictures_left_out: bool = False
    crossed: tuple[Sequence[Crossed], Sequence[str]] = ((), ())
    methods: Sequence[tuple[str, str]] = ()
    claim: Sequence[ClaimItem] = ()


def write_report(run: Path, facts: ReportFacts, pictures: bool = True) -> Path:
    """Write `run/report.html` durably, with figures/ and tables/ beside it, and return its path.

    Args:
        pictures: False = `run/report_shareable.html` instead, which shows nobody (`without_pictures`).
    """
    path = Path(run) / (REPORT if pictures else SHAREABLE)
    facts = facts if pictures else without_pictures(facts)
    arms, drawings, tables = _parts(facts)
    exports.write_files(Path(run), list(drawings.values()), tables)
    write_durably(path, _page(facts, arms, drawings, tables).encode())
    return path


def without_pictures(facts: ReportFacts) -> ReportFacts:
    """The same facts less every image, real or synthetic, and less the names of files that show some; all numbers and figures stay."""
    return replace(facts, pictures=(), examples=(), audits=[replace(a, pictures=()) for a in facts.audits], pictures_left_out=True)


def render(facts: ReportFacts) -> str:
    """The report as HTML. Names and texts are escaped, images inlined, nothing is fetched."""
    return _page(facts, *_parts(facts))


def _parts(facts: ReportFacts) -> tuple[list[views.ArmRow], dict[str, Drawing], dict[str, Table]]:
    arms = views.arm_rows(facts.comparisons, facts.arms, facts.measurements)
    return arms, _drawings(facts, arms), _tables(facts, arms)


def _page(facts: ReportFacts, arms: Sequence[views.ArmRow], drawings: Mapping[str, Drawing], tables: Mapping[str, Table]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup, escape

    environment = Environment(
        loader=PackageLoader("synthrad.study", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["printed"] = lambda value: printed(value).replace("-", "−") if isinstance(value, float) else printed(value)
    environment.filters["breakable"] = lambda text: escape(text).replace("_", Markup("_<wbr>"))
    script = environment.loader.get_source(environment, "report.js")[0]
    seal = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    links = {name: exports.links(t) for name, t in tables.items()}
    figures = {name: (d, exports.figure_links(d)) for name, d in drawings.items()}
    page = environment.get_template("report.html.j2").render(**_context(facts, arms), links=links, figures=figures, script=script, seal=seal, contents=CONTENTS)
    heads = [f'<a href="#{id_}">{text}</a>' for id_, text in HEAD.findall(page)[1:]]
    return page.replace(CONTENTS, f'<nav aria-label="Sections">{" ".join(heads)}</nav>', 1)


def _context(facts: ReportFacts, arms: Sequence[views.ArmRow]) -> dict[str, Any]:
    end, mechanics = facts.endpoint, facts.mechanics or facts.comparisons.mechanics
    explored = class_tables.explored(facts.explore)
    tested = [a.name for a in arms if a.same_as is None]
    return {
        "study": facts.study,
        "title": facts.title,
        "mechanics": mechanics,
        "banners": [*facts.banners, *(facts.evidence.subgroups.flagged if facts.evidence else ())],
        "answers": {
            "What helped?": sentences.helped(facts.comparisons, facts.arms, mechanics),
            "Safe to share?": sentences.shareable(facts.audits, any(a.source for a in arms), facts.near_copies),
            "Not tested": sentences.open_questions(facts.measurements, facts.audits, facts.comparisons.generalises_over, mechanics),
        },
        "verdicts": cards.cards(facts.comparisons, facts.arms, mechanics),
        "question": views.question(facts.comparisons, mechanics),
        "arms": arms,
        "references": views.references(arms),
        "show_seeds_only": not mechanics and any(a.seeds_only != "–" for a in arms),
        "show_detectable": not mechanics and any(a.detectable is not None for a in arms),
        "metric": METRIC_NAMES[end.metric],
        "metric_names": METRIC_NAMES,
        "metric_name": views.endpoint_name(end),
        "level": views.level(end),
        "over": f"test subjects and {facts.comparisons.generalises_over}",
        "arm_facts": views.arm_facts(facts.arms),
        "audits": audits.views(facts.audits),
        "endpoint_tables": class_tables.class_tables([m for m in facts.measurements if class_tables.of_endpoint(m, end)], tested),
        "class_tables": class_tables.class_tables([m for m in facts.measurements if not class_tables.of_endpoint(m, end)], tested),
        "explore": [list(row.values()) for row in explored],
        "explore_columns": list(explored[0]) if explored else [],
        "evidence": facts.evidence,
        "evidence_tables": evidence_views.evidence_tables(facts.evidence) if facts.evidence else [],
        "crossed": crossed.table(list(facts.crossed[0])) if facts.crossed[0] else None,
        "crossed_notes": list(facts.crossed[1]),
        "filters": views.filter_views(facts.filters),
        "undertrained": facts.comparisons.undertrained,
        "training_length": views.training_length(facts.comparisons),
        "costs": views.cost_rows(facts.costs),
        "nets": _nets(facts, arms),
        "net_costs": net_costs([*facts.fits, *facts.outside], facts.measurements),
        "outside": bool(facts.outside),
        "total_time": views.duration(sum(facts.costs.values())),
        "data": facts.data,
        "flow": draw_flow(facts.flow) if facts.flow else "",
        "pictures": [draw_triplets(facts.pictures[k : k + SHEET]) for k in range(0, len(facts.pictures), SHEET)],
        "examples": draw_examples(facts.examples),
        "pictures_left_out": facts.pictures_left_out,
        "methods": list(facts.methods),
        "claim": list(facts.claim),
        "commands": list(facts.commands),
        "versions": dict(facts.versions) | ({"CPU": facts.cpu} if facts.cpu else {}),
        "config_hash": facts.config_hash,
        "untested": views.untested(facts.untested, mechanics, facts.audits),
    }


def _nets(facts: ReportFacts, arms: Sequence[views.ArmRow]) -> list[every_net.NetsOfTask]:
    weights = {(f["task"], f["net"]): f["weights"] for f in facts.fits if f.get("weights")} | {(f["task"], f["net"]): "trained outside" for f in facts.outside}
    return every_net.by_net(facts.measurements, facts.explore, [a.name for a in arms], weights)


def _drawings(facts: ReportFacts, arms: Sequence[views.ArmRow]) -> dict[str, Drawing]:
    """The figures that these facts have, by name."""
    end = facts.endpoint
    metric = METRIC_NAMES[end.metric]
    effects = [e for a in arms for e in a.effects.values()]
    seeds = {a.name: a.by_seed for a in arms if a.by_seed}
    order = {a.name: i for i, a in enumerate(arms)}
    fits = sorted(views.endpoint_fits(facts.fits, end), key=lambda f: order.get(str(f["arm"]), len(order)))
    best = [(str(f["arm"]), int(f["seed"]), int(f["best_step"]), int(f["steps"])) for f in fits]
    doses, base = views.doses(arms)
    made = [
        effects and drawing(
            plots.forest(effects, metric, end.smallest_relevant, f"{views.level(end)} interval"),
            Table("forest", "Effects", ("arm", "against", "difference", "low", "high"), [(e.arm, e.against, e.difference, e.low, e.high) for e in effects]),
            "Effect of each arm against each control with intervals; the numbers stand in the table above",
            f"Effects and their intervals. A gain needs every line of an arm right of 0; the dashed line is the smallest relevant difference, {end.smallest_relevant:g}."),
        seeds and drawing(
            plots.seed_dots(seeds, metric),
            Table("seeds", "Every downstream seed", ("arm", "seed", metric), [(a, s, v) for a, row in seeds.items() for s, v in row.items()]),
            "Result of every downstream seed for every arm",
            "Every downstream seed of every arm. The same seeds and test images are used in all arms."),
        doses and drawing(
            plots.dose(doses, base, metric),
            Table("dose", "Dose", ("strategy", "rows added per real row", "mean", "SD over seeds"), [(k, *row) for k, rows in doses.items() for row in sorted(rows)]),
            "Metric against dose of synthetic rows",
            "Dose: the metric against synthetic rows added per real row; bars are ± SD over seeds."),
        *(drawing(
            plots.forest(t.effects(), METRIC_NAMES[t.metric], 0, f"{views.level(end)} interval", by_net=True),
            Table(f"by_net_{t.task}", "Effects under every net", ("arm", "net", "difference", "low", "high"), [(e.arm, e.against, e.difference, e.low, e.high) for e in t.effects()]),
            f"Difference of each arm to the reference under each net of {t.task}; the numbers stand in the table above",
            f"{t.task}: each arm minus the reference, under every net. Exploratory, not corrected for their number; no line for fewer than 3 seeds.")
          for t in _nets(facts, arms) if t.effects()),
        draw_curves(facts.curves),
        facts.similarity and drawing(
            plots.histogram(facts.similarity, "correlation with the nearest training image"),
            Table("similarity", "Similarity to the nearest training image", ("set", "correlation"), [(k, float(v)) for k, row in facts.similarity.items() for v in row]),
            "Histogram of similarity to the nearest training image",
            "Similarity of each image to its nearest training image. Held-out real images show what is normal for two patients; a synthetic set with a bump further "
            "right holds near copies."),
        best and drawing(
            plots.best_steps(best), Table("best_steps", "Best validation step of each fit", ("arm", "seed", "best step", "steps"), best),
            "Best validation step of each fit as a share of all steps",
            "Where each fit was best on validation images, as a share of its steps. With a learning rate that falls to 0 the last steps are often the best by a hair: "
            "whether training was long enough is told by training twice as long."),
    ]  # fmt: skip
    return {d.name: d for d in made if d}


def _tables(facts: ReportFacts, arms: Sequence[views.ArmRow]) -> dict[str, Table]:
    """Every table of the report by name; those without a row are left out."""
    made = [exports.arms_table(arms, METRIC_NAMES[facts.endpoint.metric]), exports.differences_table(facts.comparisons, facts.mechanics or facts.comparisons.mechanics),
            exports.metrics_table(facts.measurements), exports.explored_table(facts.explore), every_net.table(_nets(facts, arms)),
            Table("costs", "Wall-clock seconds of each stage", ("stage", "seconds"), list(facts.costs.items())), net_costs([*facts.fits, *facts.outside], facts.measurements), claim.table(facts.claim)]
    if facts.flow is not None:
        made.append(facts.flow.table())
    if facts.data is not None:
        rows = [(name, *(cells.get(s, "") for s in facts.data.splits)) for name, cells in facts.data.prevalence.items()]
        made.append(Table("prevalence", "Images with a class, of those where it is known", ("class", *facts.data.splits), rows))
    made.append(crossed.table(list(facts.crossed[0])))
    if facts.evidence is not None:
        made += evidence_views.evidence_tables(facts.evidence)
    for a in facts.audits:
        made += [audits.ladder(a), audits.power(a)]
    return {t.name: t for t in made if t.rows}


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

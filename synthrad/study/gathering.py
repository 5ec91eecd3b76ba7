"""From a finished run folder to the facts of its report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from synthrad.cases import read_cases
from synthrad.files import write_durably
from synthrad.lineage import project_key
from synthrad.measurements import write_measurements
from synthrad.metrics.similarity import near_copies
from synthrad.metrics.summary import prevalences
from synthrad.metrics.summary import summarise as measure
from synthrad.records import Manifest
from synthrad.study import outside_cases
from synthrad.study.audits import SetAudit, find_audits
from synthrad.study.claim import claim
from synthrad.study.comparisons import compare, explore, training_length
from synthrad.study.contamination import banners, contaminated, standings
from synthrad.study.crossed import crossed
from synthrad.study.curves import endpoint_curves
from synthrad.study.description import REFERENCE, Study
from synthrad.study.evidence import evidence_of, write_evidence
from synthrad.study.examples import examples
from synthrad.study.flow import flow_of
from synthrad.study.methods import methods
from synthrad.study.net_costs import weights_of
from synthrad.study.other_sets import copies_by_net, lines, read_findings
from synthrad.study.pictures import nearest, triplets
from synthrad.study.planning import LONGER, Plan
from synthrad.study.pools import checks_of, pools_of
from synthrad.study.report import ReportFacts, installed, processor, summarise
from synthrad.study.standing import check_whole
from synthrad.study.verdicts import Endpoint

TELLS, FAINT = 0.8, 0.7  # AUROC on real images from which an auxiliary net knows a finding, and in samples up to which it is faint
COPIES_P = 0.001  # a source is said to hold copies below this: it is a heavy word, and images of a patient are not independent


def endpoint_of(study: Study) -> Endpoint:
    """The declared endpoint, with the layer of its task where that has one."""
    spec = study.endpoint
    layers = study.tasks[spec.task].layers or ()
    return Endpoint(spec.task, spec.net, spec.metric, classes=spec.classes or (), layer=layers[0] if len(layers) == 1 else "",
                    alpha=spec.alpha, smallest_relevant=spec.smallest_relevant, margin=spec.margin)


def gather(folder: Path, study: Study, manifest: Manifest, plan: Plan, graph: Mapping[str, Any]) -> ReportFacts:
    """Read cases, fits and logs, compare the arms; writes measurements.jsonl, verdicts.json and evidence.json beside the report.

    Raises:
        InputError: a fit or a pool is missing, or was made under other settings than `graph` has.
    """
    check_whole(folder, graph)
    fits = [row | {"weights": weights_of(study.tasks[row["task"]].nets[row["net"]])} for key in graph["fits"]
            for row in json.loads((folder / key / "done.json").read_text()) if row["seed"] < study.seeds]
    paths = [folder / key / f"seed{s}" / "cases.parquet" for key in graph["fits"] for s in range(study.seeds)]
    every, end = read_cases(paths), endpoint_of(study)
    outside = outside_cases.read_outside(folder, study, manifest, plan)
    cases, comparable = outside_cases.with_outside(own := every[every["arm"] != LONGER], outside, REFERENCE)
    compared = {a.name: a.controls for a in plan.fitted() if a.role == "adding"}
    fewest = {name: task.fewest_positive for name, task in study.tasks.items()}
    longer = training_length(every, end, LONGER, REFERENCE, fewest[end.task]) if len(own) < len(every) else None
    replacing = [a.name for a in plan.fitted() if a.role == "replacing"]
    alone = {s: [a.name for a in plan.fitted() if a.name in replacing and a.source == s] for s in study.sources}
    external = {name: Manifest.read(path) for name, path in study.external.items()}
    met = read_findings(folder)
    nets = standings(study, manifest.info, {name: m.info for name, m in external.items()}, copies_by_net(met))
    comparisons = compare(cases, end, compared, fewest=fewest[end.task], reference=REFERENCE, longer=longer,
                          mechanics=study.mechanics, replacing=replacing, contaminated=contaminated(study, manifest.info, copies_by_net(met, own=True)))
    measurements = [*measure(cases, fewest, prevalences(manifest.where(split="train", source="real"))), *comparisons.measurements()]
    measurements += [longer.measurement()] if longer else []
    write_measurements(folder / "measurements.jsonl", measurements)
    write_durably(folder / "verdicts.json", json.dumps(
        [{"arm": v.arm, "call": v.call, "why_no_verdict": comparisons.why_silent, "p": v.p, "p_holm": v.p_holm, "words": v.words,
          "comparisons": [asdict(c) for c in v.comparisons]} for v in comparisons.verdicts], indent=1).encode())
    drawn = [name for name, source in graph["sources"].items() if "pool" in source]
    pools = {name: [Manifest.read(p) for p in pools_of(folder, name)] for name in drawn}
    train = manifest.where(split="train", source="real")
    held_out = manifest.where(split="test", source="real")
    similarity = {name: nearest(train, made[0])[1] for name, made in pools.items()}
    if similarity:
        similarity["real test images (the null)"] = null = nearest(train, held_out)[1]
    copied = {name: line for name in pools if (line := _copies(name, similarity[name], null))}
    pictures = [row for made in pools.values() for row in triplets(train, made[0], number=4 if len(pools) < 3 else 2)]
    filters = {n: json.loads((folder / "sources" / n / "filter_log.json").read_text()) for n in drawn}
    evidence = evidence_of(comparable, end, compared, replacing, [held_out, *external.values()], filters, fewest, REFERENCE, comparisons.why_silent)
    write_evidence(folder, evidence)
    arms = [json.loads((folder / "arms" / f"{a.name}.json").read_text()) for a in plan.arms]
    audits, data, versions, cpu = find_audits(folder, pools, manifest, study.manifest), summarise(manifest, external), installed(), processor()
    shown = [a.name for a in plan.fitted() if a.role != "control"]
    layers = study.tasks[end.task].layers or tuple(manifest.info.layers) if study.tasks[end.task].kind == "segmentation" else ()
    flow = flow_of(manifest, cases, end, arms, _drawn(folder, pools), external, layers, fewest[end.task])
    return ReportFacts(
        study=study.name, title=study.title, endpoint=end, comparisons=comparisons, mechanics=study.mechanics,
        banners=banners(nets) + lines(met, study) + outside_cases.banners(outside, REFERENCE) + _banners(study, pools) + list(copied.values()) + _collapsed(folder, graph) + _deaf(folder, graph), measurements=measurements,
        explore=explore(comparable, REFERENCE, end.alpha, resamples=200, fewest=fewest),
        arms=arms, fits=fits, outside=outside.fits, costs=_costs(folder, graph, fits), commands=_commands(folder, graph), untested=_untested(study, audits, outside.fits),
        crossed=crossed(folder, graph, cases, end, study.seeds, REFERENCE, alone, fewest), pictures=pictures, similarity=similarity, filters=filters, evidence=evidence,
        data=data, versions=versions, cpu=cpu, config_hash=graph["identity"], audits=audits, near_copies=list(copied), flow=flow,
        curves=endpoint_curves(cases, end, shown, fewest[end.task]), examples=examples(cases, end, held_out, REFERENCE, shown),
        methods=[*methods(folder, study, manifest, graph, arms, pools, comparisons, audits, versions, cpu), *outside_cases.methods(outside)],
        claim=claim(study, flow, comparisons, audits, data.facts, versions, manifest.info.attributes, graph["identity"]),
    )


def _drawn(folder: Path, pools: Mapping[str, list[Manifest]]) -> list[str]:
    """How many images each source drew and kept, in words."""
    lines = []
    for name, made in pools.items():
        known = json.loads((folder / "sources" / name / "pool.json").read_text())
        drawn = f"{known['drawn']} drawn, " if known.get("drawn") else ""
        lines.append(f"{name}: {drawn}{sum(map(len, made))} kept" + (f" in {len(made)} draws" if len(made) > 1 else ""))
    return lines


def _banners(study: Study, pools: Mapping[str, list[Manifest]]) -> list[str]:
    lines = []
    for name, made in pools.items():
        origin = made[0].info.lineage.seen_with(project_key()).origin
        if origin != "known":
            lines.append(f"Source {name!r}: the lineage of this set is {origin}. Whether its maker saw test subjects cannot "
                         "be checked here; no release may rest on it.")
    narrow: dict[str, list[str]] = {}
    for name in pools:
        if "_cpu" in (config := study.sources[name].generator or ""):
            narrow.setdefault(config, []).append(repr(name))
    for config, names in narrow.items():
        who = f"Source {names[0]} comes" if len(names) == 1 else f"Sources {', '.join(names)} come"
        lines.append(f"{who} from a narrow generator ({config}): what it shows holds for that one only.")
    return lines


def _copies(name: str, similarity: np.ndarray, null: np.ndarray) -> str:
    """What to say of a source that lies closer to the training images than held-out patients do; "" if it does not."""
    found = near_copies(similarity, null)
    if found.p >= COPIES_P:
        return ""
    return (f"Source {name!r} holds near copies of training images: {found.number} of {len(similarity)} images correlate with "
            f"one by more than {found.threshold:.3f}, the most that any of {len(null)} real test images does "
            f"(p = {found.p:.1g} if they were like images of other patients).")


def _deaf(folder: Path, graph: Mapping[str, Any]) -> list[str]:
    """What to say of generators whose samples hardly show what was asked for, by their last check (callbacks.adherence)."""
    lines = []
    for name, source in graph["sources"].items():
        if source.get("checkpoint") != "last" or "pool" not in source:
            continue  # of selected weights there is no check of their own
        checks = checks_of(folder, name, "adherence")
        found = checks[-1]["findings"] if checks else {}
        unseen = [f"{k} ({v['real_auroc']:.2f}; {v['auroc']:.2f} [{v['low']:.2f}, {v['high']:.2f}])" for k, v in found.items()
                  if None not in (v["auroc"], v["real_auroc"]) and v["real_auroc"] >= TELLS and v["low"] <= 0.5
                  and v["high"] < min(FAINT, v.get("real_low", v["real_auroc"]))]  # older checks know no real_low
        if unseen:
            lines.append(f"Source {name!r} hardly draws what it is asked for: an auxiliary net that tells these in real validation "
                         f"images finds little of them in samples (AUROC real; samples with 95 % interval): {', '.join(unseen)}. "
                         "Rows that an arm adds for them may not show them.")
    return lines


def _collapsed(folder: Path, graph: Mapping[str, Any]) -> list[str]:
    """What to say of generators whose samples repeat each other, by their last check (callbacks.fidelity)."""
    lines = []
    for name, source in graph["sources"].items():
        if source.get("checkpoint") == "last" and "pool" in source and (checks := checks_of(folder, name, "fidelity")) and checks[-1].get("collapsed"):
            found = {what: checks[-1].get(key) for what, key in (("texture", "variety"), ("structure", "structure_variety"))}
            said = " and ".join(f"that of their {what} {value:.2f}" for what, value in found.items() if value is not None)
            lines.append(f"Source {name!r} has collapsed: where the variety of real images is 1, {said} at the last check of its training. "
                         "Many of its images nearly repeat another one.")
    return lines


def _costs(folder: Path, graph: Mapping[str, Any], fits: list[dict[str, Any]]) -> dict[str, float]:
    costs = {}
    for name in graph["sources"]:
        for stage in ("generator", "pool"):
            path = folder / "sources" / name / f"{stage}.json"
            if not path.exists() or "owner" in (known := json.loads(path.read_text())):  # another source's generator costs once
                continue
            drawing = known.get("drawing_seconds", 0.0)
            if stage == "generator":
                costs[f"train generator ({name})"] = known["seconds"]
            elif drawing:
                costs[f"draw {known['drawn']:,} images ({name})"] = drawing
                costs[f"score, filter ({name})"] = known["seconds"] - drawing
            else:
                costs[f"sample, score, filter ({name})"] = known["seconds"]
    for fit in fits:
        key = f"fit {fit['task']}, {fit['net']} (all arms and seeds)"
        costs[key] = costs.get(key, 0.0) + fit["seconds"]
    return costs


def _commands(folder: Path, graph: Mapping[str, Any]) -> list[str]:
    made = [folder / "sources" / n / "generator.json" for n in graph["sources"]]
    commands = [json.loads(p.read_text())["command"].replace(f"{folder.parent.parent}/", "") for p in made if p.exists()]
    return [f"synthrad study run {graph['study_file']}", *dict.fromkeys(commands)]


def _untested(study: Study, audits: Sequence[SetAudit], outside: Sequence[Mapping[str, Any]]) -> list[str]:
    computed = all(a.record and isinstance(a.record["likeness"], list) for a in audits)
    lines = [*([] if computed else ["Fidelity and diversity of every set beside their null: `synthrad audit` computes them."]),
             "One split, one generator fit: intervals generalise over downstream seeds and test subjects, not over them."]
    if not study.external:
        lines.append("No external test set: nothing is said about other sites.")
    if len({n for t in study.tasks.values() for n in t.nets} | {f["net"] for f in outside}) == len(study.tasks):
        lines.append("One network a task: another may gain or lose differently.")
    return lines

"""CLAIM, the Checklist for Artificial Intelligence in Medical Imaging, filled as far as artefacts of a study can fill it.

Items and numbers are those of the 2024 update (Tejani et al., Radiology: Artificial Intelligence 6(4), e240300), in our own words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from synthrad.study.audits import SetAudit
from synthrad.study.description import Study
from synthrad.study.flow import Flow
from synthrad.study.tables import Table
from synthrad.study.verdicts import METRIC_NAMES, Comparisons

ITEMS = {  # number -> section, item
    1: ("Title", "AI is named, with its kind"), 2: ("Abstract", "structured summary of design, methods, results, conclusions"),
    3: ("Introduction", "background, intended use and role of the AI"), 4: ("Introduction", "aims, objectives, hypotheses"),
    5: ("Design", "prospective or retrospective"), 6: ("Design", "goal of the study"), 7: ("Data", "sources"),
    8: ("Data", "who was included and excluded"), 9: ("Data", "preprocessing"), 10: ("Data", "selection of subsets"),
    11: ("Data", "de-identification"), 12: ("Data", "missing data"), 13: ("Data", "how images were acquired"),
    14: ("Reference standard", "how it was obtained"), 15: ("Reference standard", "why this one"), 16: ("Reference standard", "who annotated"),
    17: ("Reference standard", "annotation of the test set"), 18: ("Reference standard", "variability within and between annotators"),
    19: ("Partitions", "how data were assigned"), 20: ("Partitions", "level at which they are disjoint"), 21: ("Test data", "intended sample size"),
    22: ("Model", "description"), 23: ("Model", "software"), 24: ("Model", "initial parameters"), 25: ("Training", "details"),
    26: ("Training", "how the final model was chosen"), 27: ("Training", "ensembles"), 28: ("Evaluation", "metrics"),
    29: ("Evaluation", "statistics of significance and uncertainty"), 30: ("Evaluation", "robustness or sensitivity"),
    31: ("Evaluation", "explainability or interpretability"), 32: ("Evaluation", "on internal data"), 33: ("Evaluation", "on external data"),
    34: ("Evaluation", "registration of a clinical trial"), 35: ("Results: data", "patients or examinations included and excluded"),
    36: ("Results: data", "demographic and clinical characteristics of each partition"), 37: ("Results: performance", "metrics with their uncertainty"),
    38: ("Results: performance", "diagnostic performance with its precision"), 39: ("Results: performance", "analysis of failures"),
    40: ("Discussion", "limitations"), 41: ("Discussion", "implications for practice, intended use"),
    42: ("Other", "full protocol or further technical details"), 43: ("Other", "availability of software, models, data"), 44: ("Other", "funding and its role"),
}
AUTHORS = "the authors must say"
State = Literal["filled", "partly", "authors"]


@dataclass(frozen=True)
class ClaimItem:
    """One line: `state` is filled, partly (the authors must add what no artefact knows) or authors (nothing is known here)."""

    number: int
    section: str
    item: str
    answer: str
    state: State


def claim(study: Study, flow: Flow, comparisons: Comparisons, audits: Sequence[SetAudit], data: Mapping[str, Any], versions: Mapping[str, str],
          attributes: Sequence[str], config_hash: str) -> list[ClaimItem]:
    """All 44 items.

    Args:
        data: the facts of DataSummary. attributes: that the table holds. config_hash: of the study.
    """
    known = _known(study, flow, comparisons, audits, data, versions, attributes, config_hash)
    items = []
    for number, (section, item) in ITEMS.items():
        answer, state = known.get(number, (AUTHORS, "authors"))
        items.append(ClaimItem(number, section, item, answer if state != "partly" else f"{answer} The rest {AUTHORS}.", state))
    return items


def _known(study: Study, flow: Flow, comparisons: Comparisons, audits: Sequence[SetAudit], data: Mapping[str, Any], versions: Mapping[str, str],
           attributes: Sequence[str], config_hash: str) -> dict[int, tuple[str, str]]:
    """Item -> answer and state, of what artefacts know."""
    end, splits = comparisons.endpoint, "; ".join(f"{k}: {n} images of {p} patients" for k, (n, p) in flow.splits.items())
    nets = ", ".join(f"{t}: {n} ({net.class_path.rsplit('.', 1)[-1]})" for t, task in study.tasks.items() for n, net in task.nets.items())
    left = "; ".join(f"{n} {what} ({why})" for n, what, why in flow.excluded) or "none of the table's images was left out"
    detectable = [v.detectable_90 for v in comparisons.verdicts if v.detectable_90 is not None]
    power = f" With 90 % power differences from {min(detectable):.3f} to {max(detectable):.3f} would be found, by arm." if detectable else ""
    longer = " The reference was also trained for twice the steps." if comparisons.longer is not None else ""
    controls = sum(len(v.comparisons) - 1 for v in comparisons.verdicts)
    several = any(len(t.nets) > 1 for t in study.tasks.values())
    weights = sorted({f"{k} = {v}" for t in study.tasks.values() for net in t.nets.values() for k, v in net.init_args.items() if v and ("weights" in k or "pretrained" in k)})
    audited = "; ".join(f"{a.where} {a.says}" for a in audits)
    return {
        4: (f"Whether training rows from synthetic images change {METRIC_NAMES[end.metric]} by {end.smallest_relevant:g} or more, for {len(comparisons.verdicts)} arms.", "partly"),
        6: ("A comparison of training sets on one declared endpoint" + (": a mechanics run, exploratory." if comparisons.mechanics else "."), "filled"),
        7: (f"Dataset {data.get('dataset', '')}, licence {data.get('licence', 'not stated')}; table digest {data.get('manifest digest', '')}.", "partly"),
        8: (f"{flow.prepared[0]} images of {flow.prepared[1]} patients were prepared. Of these: {left}.", "partly"),
        9: (f"Size {study.size[0]} × {study.size[1]}; see Methods, Data.", "filled"),
        12: ("Unknown labels and masks are left out of loss and test, never taken as negative.", "filled"),
        19: (f"{splits}. The split was made when the table was prepared.", "partly"),
        20: ("Patients: a study refuses tables and synthetic sets in which a patient crosses splits.", "filled"),
        21: (f"{flow.tested[0]} test images of {flow.tested[1]} patients, {study.seeds} seeds.{power}", "partly"),
        22: (f"{nets}; generators: {', '.join(f'{n} ({s.generator or s.manifest})' for n, s in study.sources.items()) or 'none'}.", "filled"),
        23: (", ".join(f"{k} {v}" for k, v in versions.items()) + ".", "filled"),
        24: (f"Downstream nets: {', '.join(weights) if weights else 'random, from the seed alone; no pretrained weights'}.", "filled"),
        25: ("See Methods, Downstream training: steps, batch, optimizer, schedule, augmentation, seeds.", "filled"),
        26: ("The weights with the best validation score; test images chose nothing.", "filled"),
        27: ("None: every seed was tested by itself.", "filled"),
        28: (f"Primary: {METRIC_NAMES[end.metric]}; all others are exploratory.", "filled"),
        29: ("See Methods, Endpoint and inference." + (" No p-values: mechanics." if comparisons.mechanics else ""), "filled"),
        30: (f"{study.seeds} seeds, {controls} comparisons with controls, {'several nets a task' if several else 'one net a task'}.{longer}", "partly"),
        31: ("None was used.", "filled"),
        32: (f"{flow.tested[0]} images of {flow.tested[1]} patients of the own test split.", "filled"),
        33: ("; ".join(f"{k}: {n} images of {p} patients" for k, (n, p) in flow.external.items()) + "." if flow.external else "None.", "filled"),
        35: (f"{splits}; tested {flow.tested[0]} images of {flow.tested[1]} patients. See the flow diagram.", "filled"),
        36: (f"Prevalence of every class by split: see Data.{f' The table holds {chr(44).join(attributes)}.' if attributes else ' The table holds no demographic attribute.'}", "partly"),
        37: ("See Arms and their controls, and Metrics by class.", "filled"),
        38: ("See Arms and their controls: intervals over test patients and seeds.", "filled"),
        39: ("See Best, median and worst: the worst test image is shown.", "partly"),
        40: ("See What was not tested.", "partly"),
        42: (f"The study file; configuration hash {config_hash}.", "partly"),
        43: ("synthrad, Apache-2.0." + (f" Synthetic sets: {audited}." if audited else ""), "partly"),
    }


def table(items: Sequence[ClaimItem]) -> Table:
    """As rows."""
    return Table("claim", "CLAIM checklist, 2024 update", ("number", "section", "item", "answer", "state"),
                 [(i.number, i.section, i.item, i.answer, i.state) for i in items])

"""`synthrad study pool`: several finished studies of one design, each with its own split, as replicates of the whole pipeline.

A study's interval generalises over downstream seeds and test subjects, given one split and one generator. Replicates that each
have their own split, generator and draw vary in all of that; their training and test sets overlap, so the variance of their mean is
that of Nadeau and Bengio (Machine Learning 52, 2003, equation 9): (1 / R + n_test / n_train) s^2 with R - 1 degrees of freedom. The
rule is the study's own: reference and controls, Holm over the arms, no p-value below five replicates.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthrad.cases import read_cases
from synthrad.errors import InputError
from synthrad.files import write_durably
from synthrad.records import Manifest
from synthrad.study.answers import answers_of, difference_of
from synthrad.study.beside import Largest, largest
from synthrad.study.comparisons import compare, training_length
from synthrad.study.contamination import contaminated
from synthrad.study.description import REFERENCE, Study
from synthrad.study.evidence import plain
from synthrad.study.gathering import endpoint_of
from synthrad.study.other_sets import copies_by_net, read_findings
from synthrad.study.planning import LONGER
from synthrad.study.standing import check_whole
from synthrad.study.study_file import load_study
from synthrad.study.verdicts import METRIC_NAMES, Comparisons

OWN = ("name", "title", "manifest", "external", "mechanics")  # keys in which replicates of one study may differ
OWN_OF_SOURCES = ("seed", "manifest")
SEEDING = "--seed_everything"


@dataclass(frozen=True)
class Replicate:
    """One finished run folder."""

    folder: Path
    study: Study
    manifest: Manifest
    arms: dict[str, dict[str, Any]]

    @property
    def subjects(self) -> tuple[int, int]:
        """Training and test subjects."""
        train, test = (self.manifest.where(split=s, source="real").column("subject") for s in ("train", "test"))
        return len(set(train)), len(set(test))


@dataclass(frozen=True)
class Pooled:
    """What all replicates say together.

    Args:
        comparisons: verdicts over the pipeline. by_replicate: rows of arm, reference, replicate (run folder's name), difference.
        test_to_train: the largest share of test to training subjects. notes: what does not vary, or was left out.
        largest: the best arm, labelled as a maximum; extremes: a sentence an arm on its best and worst replicate.
    """

    replicates: tuple[Replicate, ...]
    comparisons: Comparisons
    by_replicate: tuple[dict[str, Any], ...]
    test_to_train: float
    notes: tuple[str, ...]
    largest: Largest | None
    extremes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data without NaN."""
        return plain({
            "format": 1,
            "endpoint": asdict(self.comparisons.endpoint),
            "generalises_over": self.comparisons.generalises_over,
            "replicates": [{"run": r.folder.name, "manifest": r.manifest.digest, "train_subjects": r.subjects[0], "test_subjects": r.subjects[1],
                            "seeds": r.study.seeds} for r in self.replicates],
            "test_to_train": self.test_to_train,
            "why_no_verdict": self.comparisons.why_silent,
            "verdicts": [asdict(v) for v in self.comparisons.verdicts],
            "longer": asdict(self.comparisons.longer) if self.comparisons.longer else None,
            "by_replicate": list(self.by_replicate),
            "largest": self.largest.to_dict() if self.largest else None,
            "extremes": list(self.extremes),
            "notes": [*self.notes, *self.comparisons.notes],
        })


def open_replicates(folders: Sequence[Path]) -> list[Replicate]:
    """The run folders, checked to be finished replicates of one design.

    Raises:
        InputError: fewer than two, one twice, one unfinished, another endpoint, design or dataset, or the same split.
    """
    if len({f.resolve() for f in folders}) < max(2, len(folders)):
        raise InputError("RUN", f"{len(folders)} run folder(s), {len({f.resolve() for f in folders})} different", "two or more, each once")
    found = [_open(f) for f in folders]
    first = found[0]
    seal = (first.folder / "endpoint.sha256").read_text()
    for other in found[1:]:
        if (other.folder / "endpoint.sha256").read_text() != seal:
            raise InputError(str(other.folder), "another endpoint", f"that of {first.folder}, declared before the first fit",
                             "replicates are the same study file with another split and seed")
        if changed := _differing(_design(first.study), _design(other.study)):
            raise InputError(str(other.folder), f"another {', '.join(changed[:5])}", f"that of {first.folder}",
                             f"replicates differ in {', '.join(OWN)} and the seeds of sources only")
        if other.manifest.info.id != first.manifest.info.id:
            raise InputError(str(other.folder), f"dataset {other.manifest.info.id!r}", f"{first.manifest.info.id!r}, the data of {first.folder}")
    splits: dict[frozenset[str], Path] = {}
    for r in found:
        test = frozenset(r.manifest.where(split="test", source="real").column("subject"))
        if test in splits:
            raise InputError(str(r.folder), f"the test subjects of {splits[test]}", "its own split: without it the interval says nothing of splits",
                             "make replicates with `synthrad study replicate STUDY --number R`")
        splits[test] = r.folder
    return found


def _open(folder: Path) -> Replicate:
    if not (folder / "graph.json").is_file() or not (folder / "verdicts.json").is_file():
        raise InputError(str(folder), "no finished study" if folder.is_dir() else "no such folder", "a run folder with a report",
                         "finish it with `synthrad study run`")
    graph = json.loads((folder / "graph.json").read_text())
    check_whole(folder, graph)
    study = load_study(folder / "study.yaml")
    arms = {p.stem: json.loads(p.read_text()) for p in sorted((folder / "arms").glob("*.json"))}
    started = Path(graph["working_folder"]) / study.manifest  # a run may have been copied from elsewhere: then it is sought from here
    return Replicate(folder, study, Manifest.read(started if (started / "dataset.yaml").is_file() else study.manifest), arms)


def _design(study: Study) -> dict[str, Any]:
    """What replicates must share, flat."""
    said = {k: v for k, v in study.said().items() if k not in OWN}
    for name, source in said["sources"].items():
        own = {k: v for k, v in source.items() if k not in OWN_OF_SOURCES}
        said["sources"][name] = {**own, "overrides": [o for o in own["overrides"] if not o.startswith(SEEDING)]}
    return dict(_flat(said))


def _flat(value: Any, at: str = "") -> Any:
    if isinstance(value, Mapping):
        for k, v in value.items():
            yield from _flat(v, f"{at}.{k}" if at else str(k))
    else:
        yield at, json.dumps(value, default=str)


def _differing(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
    return sorted(k for k in {*a, *b} if a.get(k) != b.get(k))


def pool(folders: Sequence[Path], resamples: int = 1000) -> Pooled:
    """Compare the arms over the replicates in these run folders; nothing is written.

    Raises:
        InputError: see `open_replicates`.
    """
    found = open_replicates(folders)
    endpoint, fewest = endpoint_of(found[0].study), found[0].study.tasks[found[0].study.endpoint.task].fewest_positive
    compared, notes = _compared(found)
    replacing = [a for a, known in found[0].arms.items() if known["role"] == "replacing" and all(_fitted(r, a) for r in found)]
    cases = pd.concat([_cases(r, k, compared, replacing) for k, r in enumerate(found)], ignore_index=True)
    ratio = max(test / train for train, test in (r.subjects for r in found))
    how: dict[str, Any] = {"test_to_train": ratio, "generalises_over": "pipeline"}
    longer = None
    if LONGER in set(cases["arm"]):
        longer = training_length(cases, endpoint, LONGER, REFERENCE, fewest, **how)
    judged = cases[cases["arm"] != LONGER]
    comparisons = compare(judged, endpoint, {a: list(c) for a, c in compared.items()}, reference=REFERENCE, longer=longer,
                          mechanics=any(r.study.mechanics for r in found), replacing=replacing, resamples=resamples, fewest=fewest,
                          contaminated=next(filter(None, map(_contaminated, found)), ""), **how)
    answers, _ = answers_of(judged, endpoint.metric, endpoint.layer, endpoint.classes, 1, 0, ratio, fewest)
    pairs = [(v.arm, c.reference) for v in comparisons.verdicts for c in v.comparisons]
    rows = [{"arm": a, "reference": r, "replicate": found[k].folder.name, "difference": float(d)} for a, r in pairs
            for k, d in (answers[a] - answers[r]).items()]
    most = largest({a: difference_of(answers[a], answers[REFERENCE], ratio)[0] for a in compared}, endpoint)
    return Pooled(tuple(found), comparisons, tuple(rows), ratio, tuple([*notes, *_constant(found)]), most, tuple(_extremes(rows, endpoint.metric)))


def _contaminated(replicate: Replicate) -> str:
    return contaminated(replicate.study, replicate.manifest.info, copies_by_net(read_findings(replicate.folder), own=True))


def _fitted(replicate: Replicate, arm: str) -> bool:
    return arm in replicate.arms and replicate.arms[arm]["same_as"] is None


def _compared(found: Sequence[Replicate]) -> tuple[dict[str, dict[str, list[str]]], list[str]]:
    """Adding arm -> name of a control over all replicates -> its arm in each of them; and what had to be left out.

    Which arm's control an arm shares depends on the split: so a control is named after its arm and its kind.
    """
    compared, notes = {}, []
    for arm, known in found[0].arms.items():
        if known["role"] != "adding":
            continue
        if absent := [r.folder.name for r in found if not _fitted(r, arm)]:
            notes.append(f"{arm} is left out: it adds no row in {', '.join(absent)}")
            continue
        kinds = [{r.arms[c]["strategy"]: c for c in r.arms[arm]["controls"] if _fitted(r, c)} for r in found]
        shared = [k for k in kinds[0] if all(k in mine for mine in kinds)]
        compared[arm] = {f"{k} like {arm}": [mine[k] for mine in kinds] for k in shared}
    return compared, notes


def _cases(replicate: Replicate, number: int, compared: Mapping[str, Mapping[str, Sequence[str]]], replacing: Sequence[str]) -> pd.DataFrame:
    """Cases of one replicate on its own test set; controls under their names over all replicates."""
    end = replicate.study.endpoint
    home = replicate.folder / end.task / end.net
    wanted = {REFERENCE: REFERENCE, **{a: a for a in (*compared, *replacing)}}
    wanted |= {name: arms[number] for controls in compared.values() for name, arms in controls.items()}
    if (home / LONGER).is_dir():
        wanted[LONGER] = LONGER
    parts = {arm: read_cases([home / arm / f"seed{s}" / "cases.parquet" for s in range(replicate.study.seeds)]) for arm in set(wanted.values())}
    rows = pd.concat([parts[arm].assign(arm=name) for name, arm in wanted.items()], ignore_index=True)
    return rows[rows["external"] == ""].assign(replicate=number)


def _constant(found: Sequence[Replicate]) -> list[str]:
    """What does not vary from replicate to replicate, though it should."""
    lines = []
    for name, source in found[0].study.sources.items():
        mine = [r.study.sources[name] for r in found]
        if source.generator is None:
            if len({str(s.manifest) for s in mine}) < len(mine):
                lines.append(f"Source {name!r} is imported and the same in several replicates: nothing is said of other generators.")
        elif len({s.seed for s in mine}) < len(mine):
            lines.append(f"Source {name!r} was drawn with the same seed in several replicates.")
        elif len({tuple(o for o in s.overrides if o.startswith(SEEDING)) for s in mine}) < len(mine):
            lines.append(f"The generator of source {name!r} was trained from the same seed in several replicates; its data differ.")
    return lines


def _extremes(rows: Sequence[Mapping[str, Any]], metric: str) -> list[str]:
    lines: list[str] = []
    if not rows:
        return lines
    table = pd.DataFrame(rows)
    for arm, mine in table[table["reference"] == REFERENCE].groupby("arm", sort=False):
        best, worst = mine.loc[mine["difference"].idxmax()], mine.loc[mine["difference"].idxmin()]
        lines.append(f"{arm}: largest of {len(mine)} replicates {METRIC_NAMES[metric]} {best['difference']:+.3f} ({best['replicate']}), smallest "
                     f"{worst['difference']:+.3f} ({worst['replicate']}), SD {np.std(mine['difference'], ddof=1):.3f}; extremes, not results.")
    return lines


def write_pooled(out: Path, pooled: Pooled) -> Path:
    """Write OUT/pooled.json and OUT/by_replicate.csv durably; returns the first."""
    out.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    pd.DataFrame(pooled.by_replicate).to_csv(text, index=False, lineterminator="\n")
    write_durably(out / "by_replicate.csv", text.getvalue().encode())
    write_durably(out / "pooled.json", json.dumps(pooled.to_dict(), indent=1, allow_nan=False).encode())
    return out / "pooled.json"

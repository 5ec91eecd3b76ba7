"""Other sets that an experiment brings along: are held-out images among what a generator, a net or an external test set shows?

By pixels, once for a study and before its first job; what was found is kept in its run folder, so that it is done again only where one of two sets changed.
By id and by equal files the data module checks the same in every fit (`synthrad.datamodules.leak_checks`).

Compared are the held-out images (validation, audit, test) with the images of imported sets and with those images of the sets that the study names under
`seen` which a source's or a net's weights were trained on; external test images with the study's training and validation images, and with the same.
What is known only from a lineage or a name, and is not at hand, is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from synthrad.data.overlaps import corpus_of
from synthrad.data.shared_images import Shared, SharedPair, shared_images
from synthrad.errors import InputError, InputErrors, near
from synthrad.files import write_durably
from synthrad.lineage import Lineage
from synthrad.nets.pretraining import PHOTOGRAPHS
from synthrad.records import Manifest
from synthrad.study.contamination import seen_by
from synthrad.study.description import Source, Study
from synthrad.study.planning import WEIGHTS, checkpoints_named, settings_of

FILE = "other_sets.json"  # in the run folder
HELD_OUT = ("val", "audit", "test")
# Likeness from which on a study is refused. Of planted changed copies (kinds of bench_copies) 95 % of phantoms of 64 x 64 and all of radiographs reach it;
# pictures of two patients of one hospital came to 0.959, of two public sets to 0.964.
COPY = 0.965
SHOWN = 3  # pairs that a message names
VERSION = 1  # of the comparison: raised by hand, all pairs of sets are then compared again


@dataclass(frozen=True)
class Finding:
    """What one part of a study has to do with one set of images that it must not have seen.

    Args:
        part: sources.NAME, external.NAME or tasks.TASK.nets.NET. state: clean, copies, alike (pairs below COPY alone) or unknown.
        meets: what was compared, in words. external: the external set whose images must not be seen, "" = the study's own. copies, of: images that must not be seen and have a copy, and all of them; 0 where nothing was compared.
        threshold: the likeness from which on pairs were found. pairs: the most alike, in words.
        alike: further images that must not be seen, with a picture there that is alike, but less than COPY: a person has to look.
        allowed: the study's reason to go on all the same, "" = none.
    """

    part: str
    state: str
    meets: str
    copies: int = 0
    of: int = 0
    threshold: float = 0.0
    pairs: tuple[str, ...] = ()
    allowed: str = ""
    external: str = ""
    alike: int = 0

    @property
    def words(self) -> str:
        """A sentence of the report."""
        if self.state == "unknown":
            return f"{self.part}: by pixels unknown: {self.meets}."
        found = f"{self.copies} of {self.of} images" if self.copies else f"none of {self.of} images"
        why = f" Allowed by the study file: {self.allowed}" if self.allowed else ""
        said = f"{self.part}: {self.meets}: {found} have a copy there, re-encoded, mirrored, cropped and rescaled ones included (likeness {max(self.threshold, COPY):.3f} or more)."
        if self.alike:
            which = "" if self.copies else f": {'; '.join(self.pairs)}"
            said += (f" {self.alike} more {'is' if self.alike == 1 else 'are'} alike (likeness {self.threshold:.3f} to {COPY:.3f}), as copies and as pictures of two patients "
                     f"can be: look at them{which}.")
        return said + why


class _Sets:
    """Comparisons of sets, each done once. kept: the comparisons of an earlier call, by the digests of both."""

    def __init__(self, kept: Mapping[str, Any]):
        self.kept, self.used = kept, {}

    def shared(self, ours: Manifest, theirs: Manifest) -> Shared:
        key = f"{VERSION} {ours.digest} {theirs.digest}"
        if key not in self.used:
            self.used[key] = self.kept[key] if key in self.kept else shared_images(ours, theirs).to_dict()
        return Shared.from_dict(self.used[key])


def check_other_sets(study: Study, manifest: Manifest, where: str, folder: Path | None) -> list[Finding]:
    """Compare all sets that meet in a study, and refuse it where held-out images were seen.

    Nets are not refused: a contaminated net carries no verdict (`synthrad.study.contamination`).

    Args:
        where: the study file. folder: of the run, that keeps the findings; None = nothing is kept.

    Raises:
        InputErrors: copies that `allow_copies` of the study gives no reason for; keys of it, or sets under `seen`, that nothing in the study is about.
    """
    sets = _Sets(_kept(folder).get("compared", {}))
    found = [replace(f, allowed=study.allow_copies.get(f.part, "") if f.copies or f.alike else "") for f in find_copies(study, manifest, sets)]
    if folder is not None:
        write_durably(folder / FILE, json.dumps({"compared": sets.used, "findings": [asdict(f) for f in found]}, indent=1).encode())
    faults = [_fault(f) for f in found if f.state == "copies" and not f.allowed and not f.part.startswith("tasks.")]
    parts = list(dict.fromkeys(f.part for f in found))
    faults += [f"allow_copies.{part}: found a reason for {part!r}, in which nothing looks like a copy, expected parts in which something does; leave it out"
               for part in study.allow_copies if part in parts and not any(f.allowed for f in found if f.part == part)]
    faults += [f"allow_copies.{part}: found {part!r}, expected one of {', '.join(parts) or 'nothing: the study meets no other set'}"
               + (f"; {said}" if (said := near(part, parts)) else "") for part in study.allow_copies if part not in parts]
    if faults:
        raise InputErrors(where, faults)
    return found


def read_findings(folder: Path) -> list[Finding] | None:
    """What `check_other_sets` kept in a run folder; None = the run is of a version that compared no pixels, or its file is damaged."""
    return _kept(folder).get("findings")


def copies_by_net(findings: Iterable[Finding] | None, own: bool = False) -> dict[tuple[str, str], list[str]]:
    """(task, net) -> what was found of test images, of the study's own alone if `own`, and what the study does not allow."""
    told: dict[tuple[str, str], list[str]] = {}
    for f in findings or ():
        if f.part.startswith("tasks.") and f.state == "copies" and not f.allowed and not (own and f.external):
            _, task, _, net = f.part.split(".", 3)
            told.setdefault((task, net), []).append(f.words.partition(": ")[2])
    return told


def lines(findings: Iterable[Finding] | None, study: Study) -> list[str]:
    """What the report says above all: what is unknown, what is to be looked at, and what was allowed."""
    if findings is None:
        return ["Held-out images were not compared by pixels with the other sets of this study: it was begun by an older version, or what it kept is damaged. `synthrad study run` compares them."
                ] if study.external or any(s.manifest for s in study.sources.values()) else []
    return [f.words for f in findings if f.state == "unknown" or f.alike or (f.state == "copies" and f.allowed)]


def find_copies(study: Study, manifest: Manifest, sets: _Sets) -> list[Finding]:
    """All findings: of external sets, of sources, of nets."""
    held = manifest.where(source="real").take(np.flatnonzero(np.isin(manifest.where(source="real").column("split"), HELD_OUT)))
    external = {name: Manifest.read(path).where(split="test", source="real") for name, path in study.external.items()}
    seen = {name: Manifest.read(path) for name, path in study.seen.items()}
    watched = {"": held, **external}
    found = [_external(name, rows, manifest, sets) for name, rows in external.items()]
    known, used = frozenset(manifest.column("digest")), set()
    for name, source in study.sources.items():
        found += _drawn(name, source, watched, sets)
        for part in (Lineage((f,)) for lineage in _lineages(source) for f in lineage.fitted):  # what one part is known to have seen says nothing of another
            told, met = _trained(f"sources.{name}", part, known, manifest.info.id, seen, watched, sets)
            found, used = found + told, used | met
    for task, parts in study.tasks.items():
        for name, net in parts.nets.items():
            told, met = _pretrained(f"tasks.{task}.nets.{name}", seen_by(net), seen, {**watched, "": held.where(split="test")}, sets)
            found, used = found + told, used | met
    if unused := sorted(set(seen) - used):
        raise InputError(f"seen.{unused[0]}", f"{study.seen[unused[0]]}, whose images no source and no net of the study is known to have seen",
                         "a set that the lineage of a source, or `pretrained_on` of a net, names by its id", "leave it out, or name its id there")
    return list(dict.fromkeys(found))


def _external(name: str, rows: Manifest, manifest: Manifest, sets: _Sets) -> Finding:
    """Test images of an external set among those for training and validation."""
    fitted = manifest.where(source="real")
    fitted = fitted.take(np.flatnonzero(np.isin(fitted.column("split"), ("train", "val"))))
    return _finding(f"external.{name}", "those for training and validation", name, rows, fitted, sets)


def _drawn(name: str, source: Source, watched: Mapping[str, Manifest], sets: _Sets) -> list[Finding]:
    """Images that must not be seen among those of an imported set."""
    folders = [source.manifest_of(d) for d in range(source.draws)] if source.manifest else []
    made = [Manifest.read(folder) for folder in dict.fromkeys(folders)]
    return [_finding(f"sources.{name}", "its synthetic ones", of, rows, m, sets) for m in made for of, rows in watched.items()]


def _lineages(source: Source) -> list[Lineage]:
    """What the imported sets of a source, or the checkpoints that its generator's training starts from, say of their making."""
    if source.manifest:
        return [Manifest.read(folder).info.lineage for folder in dict.fromkeys(source.manifest_of(d) for d in range(source.draws))]
    from synthrad.generators.loading import load_generator

    return [load_generator(path)[2] for path in checkpoints_named(settings_of(source.generator), source.overrides, WEIGHTS) if path.is_file()]


def _trained(part: str, lineage: Lineage, known: frozenset[str], own: str, seen: Mapping[str, Manifest], watched: Mapping[str, Manifest],
             sets: _Sets) -> tuple[list[Finding], set[str]]:
    """What the training images of a lineage of one part that are not of the study's own set have to do with images that must not be seen; and the sets that were used.

    A lineage that says nothing at all is of unknown origin, which the report says of it anyway.
    """
    foreign = lineage.fingerprints() - known
    found, used, missing = [], set(), set(foreign)
    for name, theirs in seen.items():
        rows = np.flatnonzero(np.isin(theirs.column("digest"), list(foreign)))
        if not len(rows) and not lineage.fingerprints() and theirs.info.id in lineage.datasets():
            rows = np.flatnonzero(theirs.column("split") == "train")
        if len(rows):
            used.add(name)
            missing -= set(theirs.column("digest"))
            found += [_finding(part, f"those of {theirs.info.name} that it was trained on", of, held, theirs.take(rows), sets) for of, held in watched.items()]
    others = sorted(lineage.datasets() - {own} - {seen[n].info.id for n in used})
    if missing or (others and not lineage.fingerprints()):
        which = f" of {', '.join(others)}" if others else ""
        what = f"{len(missing)} training images{which} are known by their digests alone" if missing else f"the training images{which} are not at hand"
        found.append(Finding(part, "unknown", f"{what}; `seen` of the study names sets that are at hand"))
    return found, used


def _pretrained(part: str, corpora: Iterable[str], seen: Mapping[str, Manifest], watched: Mapping[str, Manifest], sets: _Sets) -> tuple[list[Finding], set[str]]:
    """The same of what a net's weights are known to be trained on."""
    found, used, missing = [], set(), []
    for corpus in (c for c in corpora if c not in PHOTOGRAPHS):
        at_hand = [n for n, m in seen.items() if corpus in (m.info.id, m.info.name) or (corpus_of(corpus) and corpus_of(corpus) == corpus_of(m.info.id, m.info.name))]
        used |= set(at_hand)
        missing += [corpus] * (not at_hand)
        found += [_finding(part, f"those of {seen[n].info.name}, which its weights saw", of, held, seen[n], sets) for n in at_hand for of, held in watched.items()]
    if missing:
        found.append(Finding(part, "unknown", f"its weights saw {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not at hand; "
                             "`seen` of the study names sets that are"))
    return found, used


def _finding(part: str, among: str, external: str, held: Manifest, theirs: Manifest, sets: _Sets) -> Finding:
    """Of the images `held`, the study's own or those of an external set, among others."""
    splits = [s for s in HELD_OUT if (held.column("split") == s).any()]
    meets = f"{f'{external}: ' if external else ''}{', '.join(splits)} images among {among}"
    if not len(held) or not len(theirs):
        return Finding(part, "clean", meets, 0, len(held), external=external)
    shared = sets.shared(held, theirs)
    copied = {p.ours for p in shared.pairs if p.likeness >= COPY}
    alike = {p.ours for p in shared.pairs} - copied
    return Finding(part, "copies" if copied else "alike" if alike else "clean", meets, len(copied), len(held), shared.threshold,
                   tuple(_named(p, held, theirs) for p in shared.pairs[:SHOWN]), external=external, alike=len(alike))


def _named(pair: SharedPair, held: Manifest, theirs: Manifest) -> str:
    return (f"{held[pair.ours].channels[0].name} ({held.column('split')[pair.ours]}) and {theirs[pair.theirs].channels[0].name} "
            f"({'the same file' if pair.same_file else f'likeness {pair.likeness:.3f}'})")


def _fault(finding: Finding) -> str:
    more = f" and {finding.copies - SHOWN} more" if finding.copies > SHOWN else ""
    return (f"{finding.part}: {finding.meets}: {finding.copies} of {finding.of} have a copy there: {'; '.join(finding.pairs)}{more}. Look at them (`synthrad prepare check ... "
            f"--against ...`), and leave them out of one of the two sets; if they are other pictures after all, say why under allow_copies.{finding.part}")


def _kept(folder: Path | None) -> dict[str, Any]:
    if folder is None or not (folder / FILE).is_file():
        return {}
    try:
        told = json.loads((folder / FILE).read_text())
        compared = {str(k): Shared.from_dict(v).to_dict() for k, v in told["compared"].items()}
        return {"compared": compared, "findings": [Finding(**{**f, "pairs": tuple(f["pairs"])}) for f in told["findings"]]}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return {}  # damaged: all is compared again

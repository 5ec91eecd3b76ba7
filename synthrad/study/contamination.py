"""Whether the nets of a study may have seen its test sets before: by what their weights are known to be trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from synthrad.data.overlaps import corpus_of, meeting
from synthrad.dataset_info import DatasetInfo
from synthrad.nets.pretraining import Pretraining, pretraining_of
from synthrad.study.description import Net, Study
from synthrad.study.verdicts import CONTAMINATED

NO_WEIGHTS = (None, "None", "null", "")


class Standing(NamedTuple):
    """What is known of a net's pretraining.

    Args:
        state: none (random weights), clear (it is known and meets no test set), contaminated, or unknown.
        words: of the report.
    """

    state: str
    words: str


def seen_by(net: Net) -> tuple[str, ...]:
    """Corpora that a net's weights are known to be trained on, by what is published and by what the study says."""
    known = _known(net)
    return tuple(dict.fromkeys((*(known.corpora if known else ()), *(net.pretrained_on or ()))))


def _known(net: Net) -> Pretraining | None:
    weights = net.init_args.get("weights")
    return None if weights in NO_WEIGHTS else pretraining_of(str(weights))


def standing_of(net: Net, tests: Mapping[str, DatasetInfo], copies: Sequence[str] = ()) -> Standing:
    """What a net's weights have to do with test sets.

    Args:
        net: of a study. Its `pretrained_on` (ids of datasets, none of them = no medical image) adds to what the weights are known for, and says all
            where nothing is. tests: name -> what the set is; "" is the study's own. copies: where the comparison of pixels (`other_sets`) found test
            images among those that the weights saw, in words.
    """
    weights = net.init_args.get("weights")
    if weights in NO_WEIGHTS and not net.pretrained_on:
        return Standing("none", "random weights")
    known, seen = _known(net), seen_by(net)
    told = "; ".join([*([f"as {known.said_by} says{'' if known.verified else ', unverified'}"] if known else []), *(["as the study file says"] if net.pretrained_on is not None else [])])
    for name, info in tests.items():
        for corpus in seen:
            same = corpus in (info.id, info.name)
            if why := f"both are {corpus}" if same else meeting(corpus_of(corpus), corpus_of(info.id, info.name)):
                which = f"external set {name!r}" if name else f"test set {info.name!r}"
                return Standing(CONTAMINATED, f"its weights ({weights}) were trained on {corpus} ({told}), which meets the {which}: {why}")
    if copies:
        return Standing(CONTAMINATED, f"its weights ({weights}) saw test images: {'; '.join(copies)}")
    listed = ", ".join(seen) or "no medical image"
    if net.pretrained_on is not None or (known and known.complete):
        return Standing("clear", f"trained on {listed} ({told}), which meets no test set by what is known")
    if known:
        return Standing("unknown", f"its weights ({weights}) were trained on {', '.join([*seen, 'more'])} ({told}): whether they saw the test set is unknown")
    return Standing("unknown", f"what its weights ({weights}) were trained on is unknown; `pretrained_on` of the net says it")


def standings(study: Study, own: DatasetInfo, external: Mapping[str, DatasetInfo],
              copies: Mapping[tuple[str, str], Sequence[str]] | None = None) -> dict[tuple[str, str], Standing]:
    """(task, net) -> standing, of every net of a study. copies: (task, net) -> what was found in pixels, see `standing_of`."""
    tests = {"": own, **external}
    return {(t, n): standing_of(net, tests, (copies or {}).get((t, n), ())) for t, task in study.tasks.items() for n, net in task.nets.items()}


def contaminated(study: Study, own: DatasetInfo, copies: Mapping[tuple[str, str], Sequence[str]] | None = None) -> str:
    """How the endpoint's net saw the study's own test set before; "" where nothing says that it did. copies: of own test images alone, see `standings`."""
    end = study.endpoint
    found = standing_of(study.tasks[end.task].nets[end.net], {"": own}, (copies or {}).get((end.task, end.net), ()))
    return found.words if found.state == CONTAMINATED else ""


def banners(found: Mapping[tuple[str, str], Standing]) -> list[str]:
    """A line of the report for each net that saw a test set, or may have."""
    return [f"Net {net!r} of task {task!r}: {s.state}. {s.words[0].upper()}{s.words[1:]}." for (task, net), s in found.items()
            if s.state in (CONTAMINATED, "unknown")]

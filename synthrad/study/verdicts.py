"""Endpoint, Comparison, Verdict: what a comparison declares and what it says, in numbers and in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from synthrad.errors import InputError
from synthrad.measurements import Measurement
from synthrad.metrics import segmentation
from synthrad.statistics.layouts import FEWEST_SEEDS, FEWEST_SUBJECTS, Layout
from synthrad.statistics.power import smallest_detectable

METRIC_NAMES = {
    "dice": "Dice",
    "iou": "IoU",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "f1": "F1",
}
CONTAMINATED = "contaminated"


@dataclass(frozen=True)
class Endpoint:
    """The one primary endpoint, declared before the first fit.

    Args:
        task, net: names in the study. metric: dice, iou, auroc, average_precision or f1 (larger is better).
        classes: empty or None for all. layer: mask layer, "" for all.
        alpha: one-sided level of the family. smallest_relevant: a gain below it is of no use. margin: of "as good as real".
    """

    task: str
    net: str
    metric: str
    classes: tuple[str, ...] | None = ()
    layer: str = ""
    alpha: float = 0.05
    smallest_relevant: float = 0.02
    margin: float = 0.02

    def __post_init__(self) -> None:
        if self.metric not in METRIC_NAMES:
            raise InputError("endpoint.metric", repr(self.metric), f"one of {sorted(METRIC_NAMES)}")
        object.__setattr__(self, "classes", tuple(self.classes or ()))

    @property
    def class_name(self) -> str:
        """Of its differences: the classes it names as layer/class, "macro" for all."""
        return ", ".join(f"{self.layer}/{c}" if self.layer else c for c in self.classes or ()) or "macro"

    @property
    def digest(self) -> str:
        """SHA-256 of the declaration."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Comparison:
    """An arm against one reference on one metric.

    Args:
        difference: mean of arm minus reference; low, high: two-sided interval, cut to [-1, 1], or None.
        p_gain: one-sided p-value or None (exploratory, too few seeds, mechanics, undertrained, nothing learned).
        p_seeds_t: the one-tailed t over seeds with Bonferroni of arXiv 2411.18602; drives nothing.
        generalises_over: what the interval generalises over beside the test subjects.
    """

    arm: str
    reference: str
    metric: str
    difference: float
    low: float | None
    high: float | None
    p_gain: float | None
    p_seeds_t: float | None
    seeds: int
    subjects: int
    generalises_over: str
    task: str = ""
    net: str = ""
    class_name: str = "macro"
    external: str = ""
    note: str = ""

    @property
    def words(self) -> str:
        """The difference in one phrase."""
        return f"{METRIC_NAMES[self.metric]} {_span(self)} against {self.reference}"

    def measurement(self) -> Measurement:
        """The difference as a measurement; the note names what the interval generalises over."""
        note = f"arm minus {self.reference}; interval over test subjects and {self.generalises_over}"
        return Measurement(
            f"{self.metric}_difference",
            self.difference,
            self.low,
            self.high,
            self.subjects,
            "subject" if self.metric in segmentation.METRICS else "set",
            task=self.task,
            net=self.net,
            arm=self.arm,
            class_name=self.class_name,
            subgroup=f"external:{self.external}" if self.external else "",
            note=f"{note}; {self.note}" if self.note else note,
        )


@dataclass(frozen=True)
class Decision:
    """What the rule says of one arm: call is gain, harm, open (neither shown) or none (no p-value)."""

    call: str
    hardest: str
    p: float | None
    p_holm: float | None


@dataclass(frozen=True)
class Verdict:
    """One arm in words, with the numbers behind them.

    Args:
        call: gain, harm, no relevant gain, no gain shown, as good as real, not shown as good as real, no verdict, or contaminated (no verdict either).
        hardest: the comparison with the largest p (or the smallest difference where there is none).
        p_holm: Holm over the adding arms; for a replacing arm of its TOST over the replacing arms.
        detectable_80, detectable_90: smallest difference that the whole rule would find with that power; None where no arm
            is judged or there is no interval.
    """

    arm: str
    call: str
    hardest: Comparison
    comparisons: tuple[Comparison, ...]
    p: float | None
    p_holm: float | None
    detectable_80: float | None
    detectable_90: float | None
    words: str


@dataclass(frozen=True)
class Comparisons:
    """All verdicts on the endpoint; `floor` says why none can be given where nothing was learned, `contaminated` where the net saw the test set before.

    `longer` is the reference with twice the steps against the reference, None where that was not trained.
    """

    endpoint: Endpoint
    verdicts: tuple[Verdict, ...]
    reference: str
    generalises_over: str
    undertrained: bool
    mechanics: bool
    notes: tuple[str, ...] = field(default=())
    floor: str = ""
    longer: Comparison | None = None
    contaminated: str = ""

    def __getitem__(self, arm: str) -> Verdict:
        return next(v for v in self.verdicts if v.arm == arm)

    @property
    def why_silent(self) -> str:
        """Why no arm gets a verdict: contaminated and by what, mechanics, undertrained, what nothing was learned, or ""."""
        if self.contaminated:
            return f"contaminated: {self.contaminated}"
        return "mechanics" if self.mechanics else "undertrained" if self.undertrained else self.floor

    @property
    def words(self) -> list[str]:
        """One sentence a verdict."""
        return [v.words for v in self.verdicts]

    def measurements(self) -> list[Measurement]:
        """Every comparison as a measurement."""
        return [c.measurement() for v in self.verdicts for c in v.comparisons]


def verdict_of(
    arm: str,
    decision: Decision,
    rows: dict[str, Comparison],
    layouts: dict[str, Layout],
    endpoint: Endpoint,
    reference: str,
    silence: str,
    arms: int,
) -> Verdict:
    """The verdict of an adding arm: what the rule decided, in words; `silence` says why no arm gets one."""
    hardest = rows[decision.hardest]
    found = [None if silence else _detectable(layouts.values(), p, endpoint.alpha, arms) for p in (0.8, 0.9)]
    others = len(rows) - 1
    held = f" and each of {others} controls" if others > 1 else " and its control" if others else ""
    against = f"over {reference}{held}"
    least = "" if len(rows) == 1 else f" (least over {hardest.reference})"
    p_text = "" if decision.p_holm is None else f", Holm {_p(decision.p_holm)}"
    if silence:
        call, text = silent_call(silence), f"{_span(hardest)} {against}{least}: {silence}"
    elif decision.call == "harm":
        call, text = (
            "harm",
            f"{_span(rows[reference])} against {reference}: harm (the whole interval is below 0)",
        )
    elif decision.call == "none":
        call, text = "no verdict", f"{_span(hardest)} {against}{least}: no verdict ({why_none(list(rows.values()))})"
    elif decision.call == "gain":
        wide = "; one-sided, the two-sided interval reaches 0" if hardest.low <= 0 else ""
        small = (
            "; it may be below the smallest relevant difference"
            if hardest.low < endpoint.smallest_relevant
            else ""
        )
        call, text = "gain", f"{_span(hardest)} {against}{least}{p_text}: gain{wide}{small}"
    else:
        ruled_out = hardest.high < endpoint.smallest_relevant
        call = "no relevant gain" if ruled_out else "no gain shown"
        why = f" ({endpoint.smallest_relevant:g} is ruled out)" if ruled_out else ""
        text = f"{_span(hardest)} {against}{least}{p_text}: {call}{why}"
    return Verdict(
        arm,
        call,
        hardest,
        tuple(rows.values()),
        None if silence else decision.p,
        None if silence else decision.p_holm,
        *found,
        f"{arm}: {METRIC_NAMES[endpoint.metric]} {text}{_power_words(found[1])}",
    )


def silent_call(silence: str) -> str:
    """What a verdict is called that is not given: contaminated where that is why."""
    return CONTAMINATED if silence.startswith(CONTAMINATED) else "no verdict"


def replacing_verdict_of(
    row: Comparison,
    layout: Layout,
    p: float | None,
    p_holm: float | None,
    endpoint: Endpoint,
    silence: str,
) -> Verdict:
    """The verdict of a synthetic-only arm: equivalence with the reference within the margin (TOST)."""
    found = [None if silence else _detectable([layout], power, endpoint.alpha, 1) for power in (0.8, 0.9)]
    if silence:
        call, text = silent_call(silence), silence
    elif p_holm is not None and p_holm <= endpoint.alpha:
        call = "as good as real"
        text = f"as good as {row.reference} within {endpoint.margin:g}, TOST {_p(p_holm)}"
    elif row.high is not None and row.high < 0:
        call, text = "harm", "worse (the whole interval is below 0)"
    elif p_holm is None:
        call, text = "no verdict", f"no verdict ({why_none([row])})"
    else:
        call = "not shown as good as real"
        text = f"not shown to be as good within {endpoint.margin:g}, TOST {_p(p_holm)}"
    words = f"{row.arm}: {row.words}: {text}{_power_words(found[1])}"
    return Verdict(row.arm, call, row, (row,), p, p_holm, *found, words)


def _detectable(layouts: Iterable[Layout], power: float, alpha: float, arms: int) -> float | None:
    """The largest of the smallest detectable differences of an arm's comparisons."""
    layouts = list(layouts)
    if not all(x.has_interval for x in layouts):
        return None
    return max(smallest_detectable(x.variance, x.df, power, alpha, arms, len(layouts)) for x in layouts)


def _span(row: Comparison) -> str:
    interval = "(no interval)" if row.low is None else f"[{row.low:.3f}, {row.high:.3f}]"
    return f"{row.difference:+.3f} {interval}"


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def why_none(rows: Sequence[Comparison]) -> str:
    """Why these comparisons allow no verdict: too few subjects or seeds, else what the first without an interval notes."""
    row = next((r for r in rows if r.low is None), rows[0])
    if row.subjects < FEWEST_SUBJECTS:
        return f"{row.subjects} test subjects, fewer than {FEWEST_SUBJECTS}"
    if row.seeds < FEWEST_SEEDS:
        unit = "replicate" if row.generalises_over == "pipeline" else "seed"
        return f"{row.seeds} {unit}{'' if row.seeds == 1 else 's'}, fewer than {FEWEST_SEEDS}"
    return row.note or "no interval"


def _power_words(detectable: float | None) -> str:
    return "" if detectable is None else f"; smallest difference found with 90 % power: {detectable:.3f}"

"""Rungs: one question to a synthetic set each, with its answer, and what would have been seen had there been a leak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from synthrad.errors import InputError
from synthrad.statistics.corrections import holm

Verdict = Literal["pass", "fail", "inconclusive", "not tested"]
ALPHA = 0.05  # joint false-alarm rate of all rungs of an audit
ENOUGH_POWER = 0.8  # on the planted leaks that a rung claims to see
HIGHEST_AUC = 0.6  # that an attack may have, with 95 % certainty, where a rung gives an interval of it


@dataclass(frozen=True)
class Rung:
    """One question.

    Args:
        name: of the rung. p: of "members score no higher than non-members", before correction; None = not tested.
        certain: why it fails without any statistics, "" = it does not.
        reason: why it was not tested; else what was seen, for a reader.
        gap: what was left out of the comparison, "" = nothing: a pass it cannot be then.
        power: leak -> patients planted -> share of self-tests that found it.
        claims: leaks among them that have to be found with ENOUGH_POWER for a pass, and `planted`, how many patients then.
        planting: how these were planted, after "5 patients"; {leak} stands for the leak.
        facts: numbers behind the reason.
        auc: of an attack, over patients, with its two-sided 95 % interval (value, low, high); a pass needs high <= HIGHEST_AUC.
    """

    name: str
    p: float | None = None
    certain: str = ""
    reason: str = ""
    gap: str = ""
    power: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    claims: Sequence[str] = ()
    planted: int = 0
    planting: str = "planted as {leak} copies"
    facts: Mapping[str, Any] = field(default_factory=dict)
    auc: tuple[float, float, float] | None = None
    adjusted: float | None = None
    verdict: Verdict = "not tested"

    def weakest(self) -> tuple[str, float]:
        """The leak of `claims` that was found least often, and how often."""
        rates = {leak: self.power[leak][self.planted] for leak in self.claims}
        name = min(rates, key=rates.__getitem__)
        return name, rates[name]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` is its inverse."""
        row = asdict(self)
        row["claims"] = list(self.claims)
        row["auc"] = None if self.auc is None else list(self.auc)
        row["power"] = {leak: {str(k): v for k, v in rates.items()} for leak, rates in self.power.items()}
        return row

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Rung:
        """A rung of a record."""
        power = {leak: {int(k): v for k, v in rates.items()} for leak, rates in row["power"].items()}
        return cls(**{**row, "power": power, "claims": tuple(row["claims"]), "auc": row["auc"] and tuple(row["auc"])})


def judge(rungs: Sequence[Rung]) -> list[Rung]:
    """Verdicts of all rungs of an audit: Holm over those that were tested, at ALPHA together."""
    adjusted = holm({r.name: r.p for r in rungs if r.p is not None})
    return [_judged(replace(r, adjusted=adjusted.get(r.name))) for r in rungs]


def _judged(rung: Rung) -> Rung:
    if rung.certain:
        return replace(rung, verdict="fail", reason=rung.certain + (f"; {rung.reason}" if rung.reason else ""))
    if rung.p is None:
        return replace(rung, verdict="not tested")
    if rung.adjusted <= ALPHA:
        return replace(rung, verdict="fail")
    if rung.gap or not rung.claims:
        return replace(rung, verdict="inconclusive", reason=f"{rung.reason}; {rung.gap or 'its power is not known'}")
    if rung.auc is not None and rung.auc[2] > HIGHEST_AUC:
        return replace(rung, verdict="inconclusive", reason=f"{rung.reason}; its AUC may be as high as {rung.auc[2]:.2f} "
                                                           f"(a pass needs at most {HIGHEST_AUC:.2f})")
    leak, rate = rung.weakest()
    if rate < ENOUGH_POWER:
        return replace(rung, verdict="inconclusive", reason=f"{rung.reason}; {rung.planted} patients {rung.planting.format(leak=leak)} it would "
                                                           f"have seen {rate:.0%} of the times (a pass needs {ENOUGH_POWER:.0%})")
    return replace(rung, verdict="pass")


def gate(rungs: Sequence[Rung], banner: str, accepted: Mapping[str, str]) -> list[str]:
    """What stands against a release: rungs that did not pass and for which nobody gave a written reason; [] = nothing.

    Raises:
        InputError: a reason for a rung that there is not, or an empty one.
    """
    for name, reason in accepted.items():
        if name not in {r.name for r in rungs}:
            raise InputError("--accept", repr(name), f"one of {', '.join(r.name for r in rungs)}")
        if not reason.strip():
            raise InputError("--accept", f"{name} without a reason", f"{name}=REASON", "the reason goes into the record")
    against = [] if rungs else ["no rung was tried"]
    against += [f"{r.name}: {r.verdict}" for r in rungs if r.verdict != "pass" and r.name not in accepted]
    return against + ([f"lineage: {banner}"] if banner else [])

"""Whom a source's filter lets through: accept rates by subgroup, from its log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from statsmodels.stats.proportion import proportion_confint

FEWEST = 20  # synthetic images of a subgroup, below which its rate is given and not compared


@dataclass(frozen=True)
class AcceptRate:
    """Share of a source's synthetic images of one subgroup that pass its filter, with Wilson's interval.

    Args:
        attribute: sex, view ...; of label classes "finding". group: its value or the class.
        ratio: rate over the highest rate of the attribute; lowest: the interval lies below that of the highest.
    """

    source: str
    attribute: str
    group: str
    kept: int
    drawn: int
    rate: float
    low: float
    high: float
    ratio: float | None
    lowest: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def accept_rates(logs: Mapping[str, Iterable[Any]]) -> list[AcceptRate]:
    """Rates over all rounds and draws of every source; a source without a filter has none.

    Args:
        logs: source -> its filter_log.json: one list of logs a draw (or the logs themselves).
    """
    found = []
    for source, draws in logs.items():
        kept: Counter[tuple[str, str]] = Counter()
        drawn: Counter[tuple[str, str]] = Counter()
        for log in _flat(draws):
            groups = {tuple(k.partition("=")[::2]): n for k, n in log.get("per_subgroup", {}).items() if "=" in k}
            groups |= {("finding", c): n for c, n in log.get("per_class", {}).items()}
            for key, n in groups.items():
                kept[key] += n["kept"]
                drawn[key] += n["kept"] + n["rejected"]
        found += _rates(source, kept, drawn)
    return found


def _rates(source: str, kept: Counter[tuple[str, str]], drawn: Counter[tuple[str, str]]) -> list[AcceptRate]:
    spans = {k: tuple(map(float, proportion_confint(kept[k], n, 0.05, "wilson"))) for k, n in drawn.items() if n}
    rates = {k: kept[k] / drawn[k] for k in spans}
    found = []
    for key, (low, high) in sorted(spans.items()):
        alike = [k for k in spans if k[0] == key[0] and drawn[k] >= FEWEST]
        top = max(alike, key=lambda k: rates[k]) if len(alike) > 1 and key in alike else None
        ratio = rates[key] / rates[top] if top and rates[top] > 0 else None
        found.append(AcceptRate(source, *key, kept[key], drawn[key], rates[key], low, high, ratio, bool(top and high < spans[top][0])))
    return found


def _flat(logs: Any) -> Iterable[Mapping[str, Any]]:
    """The logs in lists of any depth."""
    for log in logs:
        if isinstance(log, Mapping):
            yield log
        else:
            yield from _flat(log)

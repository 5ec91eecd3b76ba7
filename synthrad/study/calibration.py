"""How far the probabilities of every arm's classifiers can be believed: ECE with interval and null, reliability curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from synthrad.errors import InputError
from synthrad.metrics.calibration import calibration_metric, ece_by_chance, reliability
from synthrad.metrics.classification import FEWEST_POSITIVE, class_scores
from synthrad.statistics.resampling import Draws, plan_resamples
from synthrad.study.subgroups import interval_of


@dataclass(frozen=True)
class Calibration:
    """One arm's expected calibration error of one class.

    Args:
        ece: mean over seeds; low, high: two-sided interval over subjects and seeds, not below 0, around a number that is
            biased upward (None: fewer than 3 seeds, or too few subjects).
        by_chance: 95 % quantile if the probabilities were right; beyond_chance: ece above it.
        too_sure: mean probability minus share of positive images: above 0 it says yes too readily.
        change, change_low, change_high: ece minus that of the reference.
    """

    task: str
    net: str
    external: str
    class_name: str
    arm: str
    ece: float
    low: float | None
    high: float | None
    by_chance: float
    beyond_chance: bool
    too_sure: float
    change: float
    change_low: float | None
    change_high: float | None
    seeds: int
    subjects: int
    images: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class CurvePoint:
    """One bin of the reliability curve of one arm, class and seed."""

    task: str
    net: str
    external: str
    class_name: str
    arm: str
    seed: int
    probability: float
    share: float
    low: float
    high: float
    images: int


def calibrations(cases: pd.DataFrame, reference: str = "real_only", fewest: Mapping[str, int] | None = None, alpha: float = 0.05,
                 resamples: int = 300, rng_seed: int = 0) -> tuple[list[Calibration], list[CurvePoint], list[str]]:
    """ECE and reliability curves of every classification task, net, test set, class and arm, and what was not tested.

    Args:
        fewest: task -> test subjects with and without a finding that a class needs.
    """
    found: list[Calibration] = []
    curve: list[CurvePoint] = []
    untested: list[str] = []
    for (task, net, external), rows in cases[cases["kind"] == "classification"].groupby(["task", "net", "external"]):
        if reference not in set(rows["arm"]):
            continue
        try:
            arms, subjects, seeds = class_scores(rows)
        except InputError as e:  # an arm is incomplete: the endpoint's comparison says so with its repair
            untested.append(f"Calibration of {task}: {e.found}")
            continue
        least, plan = (fewest or {}).get(str(task), FEWEST_POSITIVE), plan_resamples(len(subjects), len(seeds), resamples, rng_seed)
        for name, first in arms[reference].items():
            if min(first.subjects_with) < least:
                untested.append(f"Calibration of {task}, {name}: needs {least} test subjects with and without it, "
                                f"has {' and '.join(map(str, first.subjects_with))}")
                continue
            said = {"task": str(task), "net": str(net), "external": str(external), "class_name": name}
            draws = {arm: plan.draw(calibration_metric(mine[name])) for arm, mine in arms.items()}
            for arm, mine in arms.items():
                found.append(_row(said, arm, mine[name], draws[arm], draws[reference], alpha))
                curve += [CurvePoint(**said, arm=arm, seed=int(s), **asdict(b))
                          for s, p in zip(seeds, mine[name].probability, strict=True) for b in reliability(p, first.target)]
    return found, curve, untested


def _row(said: Mapping[str, str], arm: str, scores: Any, mine: Draws, reference: Draws, alpha: float) -> Calibration:
    low, high = interval_of(mine.layout(), alpha)
    change_low, change_high = interval_of((mine - reference).layout(), alpha)
    ece, chance = float(mine.point.mean()), ece_by_chance(scores)[1]
    return Calibration(**said, arm=arm, ece=ece, low=None if low is None else max(low, 0.0), high=high, by_chance=chance,
                       beyond_chance=ece > chance, too_sure=float(scores.probability.mean() - scores.target.mean()),
                       change=float((mine.point - reference.point).mean()), change_low=change_low, change_high=change_high,
                       seeds=len(scores.probability), subjects=len(np.unique(scores.subject)), images=len(scores.target))

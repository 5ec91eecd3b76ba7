"""Filters: which rows of a scored synthetic set may enter the pool. Tables in, table out.

    kept = MaskQuality(min_dice=0.7).keep(scored)

After `keep`, `report` holds how many rows were kept and rejected, why, and for whom (class, attribute value, similarity to the
training images), and `log` says it in sentences. A filter that favours some patients shows here, not in the arms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import Any

import numpy as np

from synthrad.errors import InputError
from synthrad.fusion import allocation
from synthrad.fusion.cells import Cells
from synthrad.fusion.pool import check_number
from synthrad.records import Manifest

KEPT = ""

MOST_GROUPS = 12  # attributes of more values are left out of the subgroup counts


class Filter(ABC):
    """Keeps some rows of a set, in their order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.report: dict[str, Any] = {}

    def keep(self, scored: Manifest) -> Manifest:
        """The rows that pass.

        Raises:
            InputError: a score is missing, or nothing passes.
        """
        self.log = []
        if not len(scored):
            raise InputError(self._name, "a set without images", "at least one image to judge")
        reasons = self.reasons(scored)
        passed = reasons == KEPT
        why = {str(r): n for r, n in sorted(Counter(reasons[~passed]).items())}
        self.report = {
            "filter": type(self).__name__,
            "kept": int(passed.sum()),
            "rejected": int((~passed).sum()),
            "why": why,
            **_for_whom(scored, passed),
        }
        self.log.append(f"kept {passed.sum()} of {len(scored)} images ({passed.mean():.1%})")
        self.log += [f"rejected {n}: {reason}" for reason, n in why.items()]
        for group in ("per_class", "per_subgroup"):
            for name, n in self.report[group].items():
                self.log.append(f"{name}: kept {n['kept']} of {n['kept'] + n['rejected']}")
        if not passed.any():
            raise InputError(
                self._name,
                f"all {len(scored)} images rejected ({'; '.join(why)})",
                "some that pass",
                f"look at the images, then train the generator longer or loosen the filter{self._scores(scored)}",
            )
        return scored.take(np.flatnonzero(passed))

    @abstractmethod
    def reasons(self, scored: Manifest) -> np.ndarray:
        """object [rows]: why a row is rejected, "" for the rows that stay."""

    def _scores(self, scored: Manifest) -> str:
        """What the images score, for the message of a filter that rejects all."""
        return ""

    @property
    def _name(self) -> str:
        return f"filter {type(self).__name__}"


class MaskQuality(Filter):
    """Keeps images whose own mask agrees with what a cross-fitted net sees in them (column score:dice).

    An image without any structure, in its mask and in its condition, has no Dice: it stays and is counted in the log.

    Args:
        min_dice: least Dice, in [0, 1]; `synthrad score` prints what real images reach.
    """

    def __init__(self, min_dice: float = 0.7):
        super().__init__()
        check_share("MaskQuality.min_dice", min_dice)
        self.min_dice = min_dice

    def reasons(self, scored: Manifest) -> np.ndarray:
        """Dice below `min_dice`."""
        dice = _score(scored, "dice", self._name)
        _log_unknown(self, dice, "no structure to judge")
        return _reason(dice < self.min_dice, f"Dice below {self.min_dice:g}")

    def _scores(self, scored: Manifest) -> str:
        return f" (the best Dice of this set is {np.nanmax(_score(scored, 'dice', self._name)):.3f})"


class AreaRange(Filter):
    """Keeps images whose structures have areas and numbers of pieces as real masks have them.

    `synthrad score` measured the real range and wrote, an image, the share of its structures inside (score:area_inside,
    score:components_inside; 1 = all of them).

    Args:
        least: least share of an image's structures inside the real range, in [0, 1].
        components: whether the number of pieces counts as well.
    """

    def __init__(self, least: float = 1.0, components: bool = True):
        super().__init__()
        check_share("AreaRange.least", least)
        self.least, self.components = least, components

    def reasons(self, scored: Manifest) -> np.ndarray:
        """Area, else number of pieces, outside the real range."""
        area = _score(scored, "area_inside", self._name)
        reasons = _reason(area < self.least, "area outside the real range")
        if self.components:
            pieces = _score(scored, "components_inside", self._name) < self.least
            reasons[pieces & (reasons == KEPT)] = "number of pieces outside the real range"
        _log_unknown(self, area, "no structure to measure")
        return reasons


class NoNearDuplicates(Filter):
    """Removes images that resemble a training image (column score:max_correlation). Opt in.

    It hides memorisation from an audit of the filtered set: audit the unfiltered one.

    Args:
        max_correlation: largest allowed correlation of pixels with any training image, in [0, 1].
    """

    def __init__(self, max_correlation: float = 0.95):
        super().__init__()
        check_share("NoNearDuplicates.max_correlation", max_correlation)
        self.max_correlation = max_correlation

    def reasons(self, scored: Manifest) -> np.ndarray:
        """Correlation above `max_correlation`."""
        correlation = _score(scored, "max_correlation", self._name)
        _log_unknown(self, correlation, "no correlation known")
        self.log.append(
            "near-duplicates removed: an audit of this set no longer sees memorisation; audit the unfiltered set"
        )
        return _reason(
            correlation > self.max_correlation,
            f"correlation above {self.max_correlation:g} with a training image",
        )


class RandomKeep(Filter):
    """Control of a filter: as many rows of each cell, at random. What it does as well, selection did not earn.

    Args:
        like: the filter whose number of rows of each cell is copied.
        fraction: or the share of each cell to keep, in (0, 1].
        cells: balance classes.
        seed: of the choice.
    """

    def __init__(
        self,
        like: Filter | None = None,
        fraction: float | None = None,
        cells: Cells | None = None,
        seed: int = 0,
    ):
        super().__init__()
        if (like is None) == (fraction is None):
            raise InputError("RandomKeep", "both or neither of `like` and `fraction`", "exactly one of them")
        if fraction is not None:
            check_share("RandomKeep.fraction", fraction)
        check_number("RandomKeep.seed", seed, 0)
        self.like, self.fraction, self.cells, self.seed = (
            like,
            fraction,
            cells if cells is not None else Cells(),
            seed,
        )

    def reasons(self, scored: Manifest) -> np.ndarray:
        """Not drawn."""
        cells = self.cells.resolve(scored)
        of_row = cells.of(scored)
        rows: dict[Any, list[int]] = {}
        for i, cell in enumerate(of_row):
            rows.setdefault(cell, []).append(i)
        if self.like is not None:
            number = Counter(cells.of(self.like.keep(scored)))
        else:
            number = allocation.share_out(Counter(of_row), max(1, round(self.fraction * len(scored))))
        rng = np.random.default_rng(self.seed)
        reasons = _reason(np.ones(len(scored), dtype=bool), "not drawn at random")
        for cell in sorted(rows):
            reasons[rng.choice(rows[cell], size=number[cell], replace=False)] = KEPT
        return reasons


class AllOf(Filter):
    """Keeps what every one of several filters keeps; a row counts under the first that rejects it.

    Args:
        filters: judged independently, on the whole set.
    """

    def __init__(self, filters: list[Filter]):
        super().__init__()
        if not filters:
            raise InputError("AllOf.filters", "an empty list", "at least one filter")
        self.filters = list(filters)

    def reasons(self, scored: Manifest) -> np.ndarray:
        """The first reason given."""
        reasons = _reason(np.zeros(len(scored), dtype=bool), "")
        for part in self.filters:
            part.log = []
            theirs = part.reasons(scored)
            self.log += part.log
            reasons = np.where(reasons == KEPT, theirs, reasons)
        return reasons


def check_share(key: str, value: float) -> None:
    """Refuse what is no number in [0, 1].

    Raises:
        InputError: names the config key.
    """
    check_number(key, value, 0)
    if value > 1:
        raise InputError(key, repr(value), "a number between 0 and 1")


def _score(scored: Manifest, name: str, where: str) -> np.ndarray:
    """float [rows], NaN where there is none."""
    if name not in scored.names("score"):
        raise InputError(
            where,
            f"a set without the column score:{name}",
            "a scored set",
            "run `synthrad score` on it first; a set without masks has no mask scores",
        )
    return scored.column(f"score:{name}").astype(float)


def _reason(rejected: np.ndarray, reason: str) -> np.ndarray:
    return np.where(rejected, reason, KEPT).astype(object)


def _log_unknown(filter_: Filter, values: np.ndarray, why: str) -> None:
    if unknown := int(np.isnan(values).sum()):
        filter_.log.append(f"{unknown} images kept unjudged: {why}")


def _for_whom(scored: Manifest, passed: np.ndarray) -> dict[str, Any]:
    """Kept and rejected numbers per class and attribute value; median similarity to training images of both."""

    def numbers(rows: np.ndarray) -> dict[str, int]:
        return {"kept": int((rows & passed).sum()), "rejected": int((rows & ~passed).sum())}

    labels = scored.labels
    normal = (labels == 0).all(axis=1) if labels.shape[1] else np.zeros(len(scored), dtype=bool)
    per_class = {c: numbers(labels[:, k] == 1) for k, c in enumerate(scored.info.classes)}
    if normal.any():
        per_class["(none)"] = numbers(normal)
    per_subgroup = {}
    for name in scored.names("attribute"):
        values = scored.column(f"attribute:{name}")
        groups = sorted(set(values) - {""})
        if (
            len(groups) > MOST_GROUPS
        ):  # an age in years or a report text is no subgroup: declare bands when preparing
            continue
        for value in groups:
            per_subgroup[f"{name}={value}"] = numbers(values == value)
    out: dict[str, Any] = {"per_class": per_class, "per_subgroup": per_subgroup}
    if "max_correlation" in scored.names("score"):
        correlation = scored.column("score:max_correlation").astype(float)
        out["similarity"] = {
            "kept": _median(correlation[passed]),
            "rejected": _median(correlation[~passed]),
        }
    return out


def _median(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(np.median(known)), 4) if len(known) else None

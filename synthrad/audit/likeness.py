"""Fidelity, diversity and novelty of a set, each number beside the one of as many test images: both against the same training images.

Nothing here passes or fails. A number without its null means nothing: the distance of test patients to training patients is what a
perfect generator would be measured at. Intervals of 95 % are those of other patients and other synthetic images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from synthrad.audit.sides import Sides
from synthrad.audit.spaces import FeatureMap, folder_of, keep, read_kept, rows_of
from synthrad.audit.task_net import TaskNet
from synthrad.dataset_info import HERE
from synthrad.measurements import without_nan
from synthrad.metrics.coverage import manifold, vendi
from synthrad.metrics.features import Standardizer, structure
from synthrad.metrics.fidelity import (
    MANY,
    Projection,
    by_turns,
    frechet_at_infinity,
    frechet_columns,
    frechet_distance,
    gaussian,
    kernel_distance,
    median_distance,
    variety,
)
from synthrad.metrics.novelty import copying_test, likelihood_gap
from synthrad.metrics.pair_similarity import within_set
from synthrad.progress import progress
from synthrad.records import Manifest
from synthrad.statistics.jackknife import jackknife

FEWEST_SUBJECTS = 20  # on a side: below it nothing is computed
NEIGHBOURS = 5
MOST_VALUES = 10  # of an attribute that has subgroups: a report is no subgroup
CMMD_SCALE = 1000  # as its authors print it
NULL = "the null"
SHARES = {"precision": 0, "recall": 1, "coverage": 1}  # in [0, 1]; which side they are shares of: the images, or the training images
BEST = {"kid": "0", "cmmd": "0", "frechet": NULL, "frechet_infinite": NULL, "precision": NULL, "recall": NULL, "density": NULL, "coverage": NULL,
        "vendi": NULL, "structure_variety": "1", "ms_ssim": NULL, "copying_c_t": "0 (copies: below)", "fld_gap": "the null (overfitted: below)"}
Bounds = tuple[float, float, float]  # value, low, high


@dataclass(frozen=True)
class Part:
    """Images of one kind.

    Args:
        images: [n, C, H, W] in [-1, 1]. subjects: [n]. features: [n, d], as they are compared. groups: name -> bool [n], who is in it.
    """

    images: Tensor
    subjects: np.ndarray
    features: np.ndarray
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)

    def take(self, rows: np.ndarray) -> Part:
        """Some of the images."""
        return Part(self.images[rows], self.subjects[rows], self.features[rows], {k: v[rows] for k, v in self.groups.items()})

    @property
    def people(self) -> int:
        """How many subjects."""
        return len(set(self.subjects))


@dataclass(frozen=True)
class Likeness:
    """One number, or why there is none.

    Args:
        metric: its name. value: of the synthetic set; null: of real images in its place; low, high: 95 % intervals.
        images: synthetic ones that were compared. null_images, null_subjects: the real ones in their place.
        best: what a perfect generator would reach. detail: how it was computed where that depends on the data.
        space: of the features. group: the class or subgroup; "" = all images. reason: why it was not tested; "" = it was.
    """

    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    null: float | None = None
    null_low: float | None = None
    null_high: float | None = None
    images: int = 0
    null_images: int = 0
    null_subjects: int = 0
    best: str = ""
    detail: str = ""
    space: str = ""
    group: str = ""
    reason: str = ""

    @property
    def apart(self) -> bool:
        """Whether the intervals of value and null do not meet."""
        known = None not in (self.low, self.high, self.null_low, self.null_high)
        return known and (self.low > self.null_high or self.high < self.null_low)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which knows no NaN."""
        return without_nan(asdict(self))


@dataclass(frozen=True)
class Sets:
    """What is compared.

    Args:
        synthetic: every image its own subject. train: the one reference. test: the null. other: neither, for the projection of the Frechet
            distance and the null of the likelihood gap; None = there are none. sigma: of CMMD's kernel; None = the median distance of training images.
    """

    synthetic: Part
    train: Part
    test: Part
    other: Part | None = None
    sigma: float | None = None
    seed: int = 0

    @classmethod
    def of(cls, synthetic: Part, train: Part, test: Part, other: Part | None = None, *, scaled: bool = True, sigma: float | None = None,
           seed: int = 0) -> Sets:
        """With features as a space gives them; where `scaled` they are put in standard deviations of the training images."""
        scale = Standardizer.fit(train.features) if scaled and len(train.features) > 1 else lambda rows: np.asarray(rows, np.float64)
        parts = [p and replace(p, features=scale(p.features)) for p in (synthetic, train, test, other)]
        return cls(*parts, sigma=sigma, seed=seed)

    def lacking(self) -> str:
        """Why nothing can be said; "" = something can."""
        counts = {"training patients": self.train.people, "test patients": self.test.people, "synthetic images": len(self.synthetic.images)}
        short = [f"{n} {what}" for what, n in counts.items() if n < FEWEST_SUBJECTS]
        return f"needs {FEWEST_SUBJECTS}, has {', '.join(short)}" if short else ""

    def matched(self) -> tuple[Part, Part]:
        """Synthetic images and as many test images, of as many patients as they can be of."""
        n = min(len(self.synthetic.images), len(self.test.images))
        drawn = np.random.default_rng(self.seed).permutation(len(self.synthetic.images))[:n]
        return self.synthetic.take(drawn), self.test.take(by_turns(self.test.subjects, self.seed)[:n])

    def of_group(self, name: str) -> Sets:
        """Its images alone; the other images stay."""
        nobody = lambda part: np.zeros(len(part.images), bool)  # noqa: E731
        mine = [p.take(np.flatnonzero(p.groups.get(name, nobody(p)))) for p in (self.synthetic, self.train, self.test)]
        return replace(self, synthetic=mine[0], train=mine[1], test=mine[2])


def likeness(sets: Sets, space: str = "", first: bool = True) -> list[Likeness]:
    """All numbers of a set, then some of each class and subgroup that the images tell.

    Args:
        space: name of the features. first: of several spaces; the others leave out the subgroups, and what is no matter of features.
    """
    if reason := sets.lacking():
        return [Likeness("all", space=space, reason=reason)]
    found = [*_distances(sets), *_frechets(sets), *_balls(sets), *_jackknifed(["vendi"], lambda side, _: vendi(side), sets), *_novelty(sets)]
    if first:
        found += [_anatomies(sets), _pairs(sets), *_by_group(sets)]
    return [replace(r, space=space) for r in found]


def _by_group(sets: Sets) -> list[Likeness]:
    names, found = [n for n, mine in sets.train.groups.items() if mine.any()], []
    if names and not any(sets.of_group(n).synthetic.people for n in names):
        found.append(Likeness("all", group="classes and subgroups", reason="the synthetic images tell no label or attribute"))
        names = []
    for name in progress(names, desc="classes and subgroups", unit="group"):
        part = sets.of_group(name)
        rows = [Likeness("all", reason=reason)] if (reason := part.lacking()) else _of_group(part)
        found += [replace(r, group=name) for r in rows]
    return found


def _of_group(sets: Sets) -> list[Likeness]:
    return [_distances(sets)[0], *(r for r in _balls(sets) if r.metric in ("precision", "coverage")), _pairs(sets)]


def _row(metric: str, value: Bounds, null: Bounds, mine: Part, theirs: Part, detail: str = "") -> Likeness:
    return Likeness(metric, *map(float, value), *map(float, null), len(mine.images), len(theirs.images), theirs.people, BEST[metric], detail)


def _jackknifed(metrics: Sequence[str], statistic: Callable[[np.ndarray, np.ndarray], Any], sets: Sets, detail: str = "",
                of: Callable[[Part], np.ndarray] | None = None) -> list[Likeness]:
    """Rows of a statistic of (features of a side, features of the training images)."""
    take = of or (lambda part: part.features)
    sides, reference = sets.matched(), take(sets.train)
    both = []
    for part in sides:
        own = take(part)
        both.append(np.stack(jackknife(lambda i, j, own=own: statistic(own[i], reference[j]), part.subjects, sets.train.subjects, seed=sets.seed)))
    units = [(p.people, sets.train.people) for p in sides]
    return [_row(m, *(_bounded(m, b[:, k], u) for b, u in zip(both, units, strict=True)), *sides, detail) for k, m in enumerate(metrics)]


def _bounded(metric: str, found: np.ndarray, units: tuple[int, int]) -> Bounds:
    """Within what the metric can be. A share of 0 or 1 has hardly a spread to take an interval from: it is that of Clopper and Pearson at least."""
    value, low, high = map(float, found)
    if metric not in SHARES:
        return value, low, high
    exact = float(stats.beta.ppf(0.975, 1, units[SHARES[metric]]))  # from 0 of n
    low, high = (low, max(high, exact)) if value == 0 else (min(low, 1 - exact), high) if value == 1 else (low, high)
    return value, max(low, 0.0), min(high, 1.0)


# ---- fidelity


def _distances(sets: Sets) -> list[Likeness]:
    """KID and CMMD."""
    sides, train = sets.matched(), sets.train
    sigma = sets.sigma or median_distance(train.features)
    said = f"Gaussian kernel, sigma {sigma:.3g}: " + ("the paper's, for rows of length 1" if sets.sigma else "the median distance of training images")
    rows = []
    for metric, kernel, scale, detail in (("kid", {}, 1, ""), ("cmmd", {"kernel": gaussian(sigma)}, CMMD_SCALE, f"{said}; unbiased, times {CMMD_SCALE}")):
        found = [kernel_distance(p.features, train.features, p.subjects, train.subjects, **kernel) for p in sides]
        rows.append(_row(metric, *((scale * f.value, scale * f.low, scale * f.high) for f in found), *sides, detail))
    return rows


def _frechets(sets: Sets) -> list[Likeness]:
    """Frechet distance in as many columns as the images bear, and extrapolated to infinitely many where they are many."""
    n, d = min(len(sets.matched()[0].images), len(sets.train.images)), sets.train.features.shape[1]
    columns = frechet_columns(n, d)
    if columns == d:
        rows = _jackknifed(["frechet"], frechet_distance, sets, f"all {d} columns")
        return rows + ([_infinite(sets)] if n >= max(MANY, 4 * d) else [])
    if not columns:
        return [Likeness("frechet", reason=f"needs 10 images a side, has {n}")]
    if sets.other is None or len(sets.other.images) <= columns:
        return [Likeness("frechet", reason=f"needs {2 * d} images a side (twice its {d} columns), or more than {columns} validation or audit images to "
                         f"project them; has {n} and {0 if sets.other is None else len(sets.other.images)}")]
    project = Projection.fit(sets.other.features, columns)
    said = f"{project.axes.shape[1]} of {d} columns: axes of {len(sets.other.images)} validation and audit images"
    return _jackknifed(["frechet"], frechet_distance, sets, said, lambda part: project(part.features))


def _infinite(sets: Sets) -> Likeness:
    sides, whole = sets.matched(), sets.train.features
    found = [frechet_at_infinity(p.features, whole, sets.seed) for p in sides]
    return Likeness("frechet_infinite", found[0], null=found[1], images=len(sides[0].images), null_images=len(sides[1].images),
                    null_subjects=sides[1].people, best=BEST["frechet_infinite"], detail="extrapolated linearly in 1 / n; no interval: read it beside KID's")


def _balls(sets: Sets) -> list[Likeness]:
    names = ("precision", "recall", "density", "coverage")

    def four(side: np.ndarray, reference: np.ndarray) -> list[float]:
        found = manifold(reference, side, NEIGHBOURS)
        return [getattr(found, m) for m in names]

    return _jackknifed(names, four, sets, f"{NEIGHBOURS} neighbours")


# ---- diversity


def _anatomies(sets: Sets) -> Likeness:
    """Variety of structure, whatever the space."""
    sides = sets.matched()
    train = sets.train.take(by_turns(sets.train.subjects, sets.seed)[: len(sides[0].images)])  # variety compares as many
    own, both = structure(train.images).numpy(), []
    for part in sides:
        shapes = structure(part.images).numpy()
        both.append(np.stack(jackknife(lambda i, j, s=shapes: variety(s[i], own[j], train.subjects[j]).ratio, part.subjects, train.subjects,
                                       seed=sets.seed))[:, 0])
    return _row("structure_variety", *both, *sides)


def _pairs(sets: Sets) -> Likeness:
    """MS-SSIM within the set: high means alike."""
    sides = sets.matched()
    found = [within_set(p.images, p.subjects, seed=sets.seed) for p in sides]
    return _row("ms_ssim", *((f.value, f.low, f.high) for f in found), *sides, f"{found[0].pairs} pairs of synthetic, {found[1].pairs} of test images")


# ---- novelty


def _novelty(sets: Sets) -> list[Likeness]:
    return [_copying(sets), _gap(sets)]


def _copying(sets: Sets) -> Likeness:
    """C_T, on one image a test patient: the test takes them for independent."""
    one = sets.test.take(by_turns(sets.test.subjects, sets.seed)[: sets.test.people])
    found = copying_test(sets.train.features, one.features, sets.synthetic.features, seed=sets.seed)
    if isinstance(found, str):
        return Likeness("copying_c_t", reason=found)
    detail = f"{found.cells} of {found.of} cells, {found.share:.0%} of the test patients; one image a patient"
    if found.low == found.high:
        detail += "; every synthetic image lies on one side of every test image: it cannot be further from 0"
    return _row("copying_c_t", (found.value, found.low, found.high), (0.0, found.null_low, found.null_high), sets.synthetic, one, detail)


def _gap(sets: Sets) -> Likeness:
    """The null's centres are real images of neither side: validation and audit images, else half of the test patients."""
    test, null = sets.test, sets.other
    if null is None or null.people < FEWEST_SUBJECTS:
        if test.people < 2 * FEWEST_SUBJECTS:
            return Likeness("fld_gap", reason=f"needs {FEWEST_SUBJECTS} validation and audit patients or {2 * FEWEST_SUBJECTS} test patients for its null, "
                            f"has {0 if null is None else null.people} and {test.people}")
        half = np.isin(test.subjects, np.random.default_rng(sets.seed).permutation(np.unique(test.subjects))[::2])
        test, null = test.take(np.flatnonzero(half)), test.take(np.flatnonzero(~half))
    n = min(len(null.images), len(sets.synthetic.images))
    drawn = sets.synthetic.take(np.random.default_rng(sets.seed).permutation(len(sets.synthetic.images))[:n])
    null = null.take(by_turns(null.subjects, sets.seed)[:n])
    order = [p.take(by_turns(p.subjects, sets.seed)) for p in (sets.train, test)]
    found = [likelihood_gap(order[0].features, order[1].features, p.features, order[0].subjects, order[1].subjects) for p in (drawn, null)]
    what = "validation and audit" if null is not None and test is sets.test else "other test"
    return _row("fld_gap", *((f.value, f.low, f.high) for f in found), drawn, null,
                f"{n} centres; null: {what} images; likelihood of {found[0].images[0]} training and {found[0].images[1]} test images")


# ---- what an audit has read


def of_sides(sides: Sides, spaces: Sequence[FeatureMap | TaskNet], seed: int = 0) -> list[Likeness]:
    """`likeness` of the sets of an audit in each space; features of real images are kept beside their decoded pixels."""
    return [row for k, space in enumerate(spaces) for row in _in_space(sides, space, k == 0, seed)]


def _in_space(sides: Sides, space: FeatureMap | TaskNet, first: bool, seed: int) -> list[Likeness]:
    folder = folder_of(sides.rows.info.roots, HERE)
    if isinstance(space, TaskNet):
        fitted = space.fit(sides.other_rows, sides.other, read_kept, keep, folder)
        if isinstance(fitted, str):
            return [Likeness("all", space="task net", reason=fitted)]
        space = fitted
    member = sides.member

    def part(images: Tensor, rows: Manifest, subjects: np.ndarray, kept: Path | None) -> Part:
        return Part(images, subjects, rows_of(space, images, kept), groups_of(rows))

    train, test = ((sides.real[torch.from_numpy(at)], sides.rows.take(at)) for at in (np.flatnonzero(member), np.flatnonzero(~member)))
    real = [part(images, rows, rows.column("subject"), folder) for images, rows in (train, test)]
    drawn = part(sides.synthetic, sides.drawn, np.arange(len(sides.drawn)), None)
    other = None if sides.other is None else part(sides.other, sides.other_rows, sides.other_rows.column("subject"), folder)
    return likeness(Sets.of(drawn, *real, other, scaled=space.scaled, sigma=space.sigma, seed=seed), space.name, first)


def groups_of(rows: Manifest) -> dict[str, np.ndarray]:
    """name -> bool [n]: who has a label, who has none of them for certain, and each value of the attributes that name few."""
    labels, found = rows.labels, {}
    for k, name in enumerate(rows.info.classes):
        found[name] = labels[:, k] == 1
    if labels.shape[1] > 1:
        found.setdefault("no finding", (labels == 0).all(1))
    for attribute in rows.info.attributes:
        values = rows.column(f"attribute:{attribute}")
        named = sorted(set(values) - {""})
        if len(named) <= MOST_VALUES:
            found |= {f"{attribute}={v}": values == v for v in named}
    return found

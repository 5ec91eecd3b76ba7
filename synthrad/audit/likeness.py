"""Fidelity and diversity of a set, each number beside the one of as many test images: both against the same training images.

Nothing here passes or fails. A number without its null means nothing: the distance of test patients to training patients is what a
perfect generator would be measured at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synthrad.metrics.coverage import manifold, vendi
from synthrad.metrics.features import Standardizer, radiomics, structure
from synthrad.metrics.fidelity import (
    Projection,
    by_turns,
    frechet_columns,
    frechet_distance,
    kernel_distance,
    variety,
)

FEWEST_SUBJECTS = 20  # on a side: below it nothing is computed
NEIGHBOURS = 5
BEST = {"kid": "0", "frechet": "the null", "precision": "the null", "recall": "the null", "density": "the null", "coverage": "the null",
        "vendi": "the null", "structure_variety": "1"}


@dataclass(frozen=True)
class Likeness:
    """One number.

    Args:
        metric: its name. value: of the synthetic set; null: of test images; intervals of 95 % over patients where there are any.
        images: on each side of what is compared with the training images. best: what a perfect generator would reach.
    """

    metric: str
    value: float
    null: float
    low: float | None = None
    high: float | None = None
    null_low: float | None = None
    null_high: float | None = None
    images: int = 0
    best: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which knows no NaN."""
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}


def likeness(synthetic: Tensor, train: Tensor, train_subjects: np.ndarray, test: Tensor, test_subjects: np.ndarray,
             other: Tensor | None = None, seed: int = 0) -> list[Likeness] | str:
    """All numbers, in the space of radiomics (no weights); a reason where there are too few patients.

    Args:
        synthetic, train, test: [n, C, H, W] in [-1, 1]. other: images of neither split, to fit the projection of the Frechet
            distance on; None = it is left out where it needs one. seed: which images stand for the larger set.
    """
    few = min(len(set(train_subjects)), len(set(test_subjects)), len(synthetic))
    if few < FEWEST_SUBJECTS:
        return f"{few} patients or images on a side; needs {FEWEST_SUBJECTS}"
    n = min(len(synthetic), len(test))
    drawn = np.random.default_rng(seed).permutation(len(synthetic))[:n]
    held = by_turns(test_subjects, seed)[:n]
    reference = radiomics(train)
    standard = Standardizer.fit(reference)
    reference, sides = standard(reference), {"value": standard(radiomics(synthetic[drawn])), "null": standard(radiomics(test[held]))}
    kids = {k: kernel_distance(x, reference, None if k == "value" else test_subjects[held], train_subjects) for k, x in sides.items()}
    found = [Likeness("kid", kids["value"].value, kids["null"].value, kids["value"].low, kids["value"].high, kids["null"].low,
                      kids["null"].high, n, BEST["kid"])]
    columns = frechet_columns(n, reference.shape[1])
    projected: Mapping[str, np.ndarray] | None = sides if columns == reference.shape[1] else None
    if projected is None and columns and other is not None and len(other) > columns:
        project = Projection.fit(standard(radiomics(other)), columns)
        reference_there, projected = project(reference), {k: project(x) for k, x in sides.items()}
    else:
        reference_there = reference
    if projected is not None:
        found.append(Likeness("frechet", *(frechet_distance(projected[k], reference_there) for k in ("value", "null")), images=n,
                              best=BEST["frechet"]))
    balls = {k: manifold(reference, x, NEIGHBOURS) for k, x in sides.items()}
    found += [Likeness(m, getattr(balls["value"], m), getattr(balls["null"], m), images=n, best=BEST[m])
              for m in ("precision", "recall", "density", "coverage")]
    found.append(Likeness("vendi", vendi(sides["value"]), vendi(sides["null"]), images=n, best=BEST["vendi"]))
    shapes = {"value": structure(synthetic[drawn]), "null": structure(test[held])}
    own = structure(train).numpy()
    found.append(Likeness("structure_variety", variety(shapes["value"].numpy(), own, train_subjects).ratio,
                          variety(shapes["null"].numpy(), own, train_subjects).ratio, images=n, best=BEST["structure_variety"]))
    return found


def told(found: list[Likeness] | str) -> str:
    """A table for a reader."""
    if isinstance(found, str):
        return f"fidelity and diversity: not computed: {found}"
    lines = [f"{'radiomics features':<20}{'synthetic':>26}{'test images (null)':>26}   perfect ({found[0].images} images a side)"]
    for row in found:
        value, null = (_number(v, low, high) for v, low, high in ((row.value, row.low, row.high), (row.null, row.null_low, row.null_high)))
        lines.append(f"{row.metric:<20}{value:>26}{null:>26}   {row.best}")
    return "\n".join(lines)


def _number(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.3g}" + ("" if low is None else f" [{low:.3g}, {high:.3g}]")


def of_sides(synthetic: Tensor, real: Tensor, subjects: np.ndarray, member: np.ndarray, other: Tensor | None, seed: int) -> list[Likeness] | str:
    """`likeness` of what an audit has read."""
    at = torch.from_numpy(np.flatnonzero(member)), torch.from_numpy(np.flatnonzero(~member))
    return likeness(synthetic, real[at[0]], subjects[member], real[at[1]], subjects[~member], other, seed)

"""Controls: what an arm's gain must exceed to be the synthetic images' own. Real rows repeated where the arm adds rows."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
import pandas as pd

from synthrad.errors import InputError, near
from synthrad.fusion.cells import Cell, Cells, by_subject, nearest, text
from synthrad.fusion.strategies import FusionStrategy
from synthrad.records import Manifest

AUGMENT_SEEDS = 2**31 - 1
AUGMENTED = "origin:augment"  # column: how a row is augmented that has a seed for it; blank = strongly
HOW = ("strong", "flip", "affine", "elastic")


class DuplicateReal(FusionStrategy):
    """Control: real rows repeated in the cells that the arm adds, subjects taken in turn.

    It tells new information from mere re-weighting of the cells.

    Args:
        like: the arm to be a control of.
    """

    has_controls = False

    def __init__(self, like: FusionStrategy):
        if not isinstance(like, FusionStrategy) or not like.has_controls:
            found = type(like).__name__
            raise InputError(
                f"{type(self).__name__}.like",
                found,
                "an arm that adds synthetic rows to all real rows",
                "SyntheticOnly and controls have no controls of their own",
            )
        super().__init__(like.cells)
        self.like = like

    def needs(self, real: Manifest) -> Counter[Cell]:
        """Nothing synthetic; `added` says which rows are repeated."""
        return Counter()

    def added(self, real: Manifest, synthetic: Manifest | None = None) -> Counter[Cell]:
        """Rows repeated per cell: those of the arm, a cell without a real row moved to the nearest that has some."""
        wanted = self.like.added(real, synthetic)
        self.log = []
        have = Counter(self.cells.resolve(real).of(real))
        repeated: Counter[Cell] = Counter()
        for cell, number in sorted(wanted.items()):
            home = cell if have[cell] else nearest(cell, have)
            if home != cell:
                self.log.append(f"no real row of {text(cell)}: its {number} repeats come from {text(home)}")
            repeated[home] += number
        return repeated

    def fuse(self, real: Manifest, synthetic: Manifest | None, rng: np.random.Generator) -> Manifest:
        """The real rows and the repeats.

        Args:
            real: rows of split train and source real, nothing else.
            synthetic: the arm's pool or None; only looked at where the pool decides what the arm adds (Matched).
            rng: which subjects and images come first.
        """
        wanted = self.added(real, synthetic)
        if not wanted:
            self.log.append("adds no row: the same as RealOnly")
            return real
        chosen = self._repeats(real, self.cells.resolve(real), wanted, rng)
        subjects = len(set(real.column("subject")[chosen]))
        self.log.append(
            f"{len(chosen)} repeats of {len(set(chosen.tolist()))} real rows of {subjects} subjects"
        )
        return real + self._mark(real.take(chosen), rng)

    def _plan(self, real: Manifest, cells: Cells) -> Counter[Cell]:
        return Counter()

    @staticmethod
    def _repeats(real: Manifest, cells: Cells, wanted: Counter[Cell], rng: np.random.Generator) -> np.ndarray:
        rows: dict[Cell, list[int]] = {}
        for i, cell in enumerate(cells.of(real)):
            rows.setdefault(cell, []).append(i)
        subjects = real.column("subject")
        blocks = [by_subject(subjects, np.array(rows[c]), n, rng) for c, n in sorted(wanted.items())]
        return np.concatenate(blocks)

    def _mark(self, repeats: Manifest, rng: np.random.Generator) -> Manifest:
        return repeats


class AugmentedReal(DuplicateReal):
    """Control: the same repeats, each passed once through a classical augmentation under a seed of its own.

    It tells what a generator adds from what cheap variation adds. The same rng gives the rows of DuplicateReal.

    Args:
        like: the arm to be a control of.
        how: strong = the strong augmentation; flip, affine or elastic = images and masks moved as the masks were that the arm's
            generator drew from, so that what is left of a gain is not the moves' own. The column origin:augment says it.
    """

    def __init__(self, like: FusionStrategy, how: Literal["strong", "flip", "affine", "elastic"] = "strong"):
        super().__init__(like)
        if how not in HOW:
            raise InputError("AugmentedReal.how", repr(how), f"one of {', '.join(HOW)}", near(how, HOW))
        self.how = how

    def _mark(self, repeats: Manifest, rng: np.random.Generator) -> Manifest:
        seeds = rng.choice(AUGMENT_SEEDS, size=len(repeats), replace=False)
        marked = {"augment": pd.array(seeds, dtype="Int64")}
        return repeats.with_columns(marked if self.how == "strong" else {**marked, AUGMENTED: [self.how] * len(repeats)})

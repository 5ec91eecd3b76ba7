"""Fusion strategies: which synthetic rows join the real training rows. Tables in, table out.

    strategy = Matched(ratio=1)
    strategy.needs(real)                 # Counter: synthetic rows wanted per cell, for the sampling plan
    strategy.fuse(real, pool, rng)       # Manifest: the rows to train on
    strategy.log                         # what was decided, in sentences

All arms of a source draw from one pool in one order (`pool_order`), so the rows of a smaller dose are among those of a
larger one wherever its cells are. Largest remainders themselves may give a cell one row fewer at a slightly larger ratio
(the Alabama paradox); from one whole ratio to another, and wherever ratios differ by 1 or more, they cannot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import ClassVar, Literal

import numpy as np

from synthrad.errors import InputError
from synthrad.fusion import allocation
from synthrad.fusion.cells import Cell, Cells, text
from synthrad.fusion.pool import (
    check_choice,
    check_number,
    check_real,
    check_synthetic,
    take,
)
from synthrad.records import Manifest

MOST_DISTANCE = 0.05  # design section 4: a set further from the real distribution is no matched set


class FusionStrategy(ABC):
    """Chooses the rows that an arm trains on.

    Args:
        cells: the balance classes; None = Cells(), i.e. all labels with known values.
    """

    has_controls: ClassVar[bool] = True  # whether DuplicateReal and AugmentedReal of it mean something
    keeps_real: ClassVar[bool] = True

    def __init__(self, cells: Cells | None = None):
        self.cells = cells if cells is not None else Cells()
        self.log: list[str] = []

    def needs(self, real: Manifest) -> Counter[Cell]:
        """Synthetic rows wanted per cell; empty = this arm adds nothing and equals RealOnly."""
        self.log = []
        check_real(real, self._name)
        return self._plan(real, self.cells.resolve(real))

    def added(self, real: Manifest, synthetic: Manifest | None = None) -> Counter[Cell]:
        """Rows that `fuse` adds per cell, whatever their source."""
        self.log = []
        check_real(real, self._name)
        cells = self.cells.resolve(real)
        wanted = self._plan(real, cells)
        return (
            wanted
            if synthetic is None or not len(synthetic)
            else self._fit_to_pool(wanted, real, synthetic, cells)
        )

    def adds(self, real: Manifest) -> int:
        """How many rows `fuse` adds."""
        return self.added(real).total()

    def fuse(self, real: Manifest, synthetic: Manifest | None, rng: np.random.Generator) -> Manifest:
        """The real training rows and the chosen synthetic rows.

        Args:
            real: rows of split train and source real, nothing else.
            synthetic: the pool of this arm's source; None where nothing synthetic is wanted.
            rng: for controls, which repeat rows at random. Rows of a pool come in the pool's own order instead, so that
                doses are nested and every seed of an arm trains on the same rows.

        Raises:
            InputError: rows of another split or source, or a pool that cannot fill the arm.
        """
        wanted = self.needs(real)
        if not wanted:
            self.log.append("adds no row: the same as RealOnly")
            return real
        if synthetic is None or not len(synthetic):
            raise InputError(
                self._name,
                "no synthetic set",
                f"{wanted.total()} synthetic rows to draw from",
                "give the datamodule `synthetic`, or the study's arm a `source`",
            )
        check_synthetic(synthetic, self._name)
        cells = self.cells.resolve(real)
        wanted = self._fit_to_pool(wanted, real, synthetic, cells)
        chosen = self._choose(real, synthetic, wanted, cells)
        fused = real.take(np.arange(len(real) if self.keeps_real else 0)) + synthetic.take(chosen)
        kept = len(real) if self.keeps_real else 0
        self.log.append(
            f"{kept} real and {len(chosen)} synthetic rows in {len(wanted)} cells, of a pool of {len(synthetic)}"
        )
        return fused

    def selection(self, real: Manifest, val: Manifest, synthetic: Manifest | None) -> Manifest:
        """The rows on which checkpoints are selected: `val`, unless an arm says that it selects on synthetic rows."""
        return val

    @abstractmethod
    def _plan(self, real: Manifest, cells: Cells) -> Counter[Cell]:
        """Rows wanted per cell, from the real rows alone."""

    def _fit_to_pool(
        self, wanted: Counter[Cell], real: Manifest, synthetic: Manifest, cells: Cells
    ) -> Counter[Cell]:
        return wanted

    def _choose(self, real: Manifest, synthetic: Manifest, wanted: Counter[Cell], cells: Cells) -> np.ndarray:
        return take(synthetic, cells.of(synthetic), wanted, self._name)

    @property
    def _name(self) -> str:
        return f"fusion {type(self).__name__}"


class RealOnly(FusionStrategy):
    """The reference arm: no row is added."""

    has_controls = False

    def __init__(self) -> None:
        super().__init__()

    def _plan(self, real: Manifest, cells: Cells) -> Counter[Cell]:
        return Counter()


class Matched(FusionStrategy):
    """Synthetic rows that follow the real distribution: x_g = largest remainder of ratio * n_g.

    Where there are more than `max_cells` cells, the pool has no row of a wanted one, or the rows are so few that rounding moves
    the class marginals, these are matched by least squares instead; one that is off by more than 0.05 (total variation) is an error.

    Args:
        ratio: synthetic rows per real row.
        cells: balance classes.
        max_cells: above that, only the most frequent cells are asked for.
    """

    def __init__(self, ratio: float = 1.0, cells: Cells | None = None, max_cells: int = 256):
        super().__init__(cells)
        check_number("Matched.ratio", ratio, 0)
        check_number("Matched.max_cells", max_cells, 1)
        self.ratio, self.max_cells = ratio, max_cells

    def _plan(self, real: Manifest, cells: Cells) -> Counter[Cell]:
        have = Counter(cells.of(real))
        total = int(np.floor(self.ratio * len(real) + 0.5))
        if total == 0:
            return Counter()
        wanted = allocation.share_out(have, total)
        if len(have) > self.max_cells:
            often = sorted(have, key=lambda c: (-have[c], c))[: self.max_cells]
            self.log.append(
                f"{len(have)} cells, more than max_cells={self.max_cells}: class marginals matched instead"
            )
            start = {c: wanted[c] for c in often}
            wanted = allocation.match_marginals(have, total, dict.fromkeys(often, total), start)
            self._check_distance(have, wanted, "raise max_cells or declare fewer balance classes in `cells`")
        elif allocation.marginal_distance(have, wanted)[0] > MOST_DISTANCE:
            self.log.append(f"{total} rows are few for {len(have)} cells: class marginals matched instead")
            most = {c: int(np.ceil(total * n / len(real) - 1e-9)) for c, n in have.items()}  # so that doses stay nested
            wanted = allocation.match_marginals(have, total, most, wanted)
            repair = f"raise Matched.ratio above {self.ratio:g} or declare fewer balance classes in `cells`"
            self._check_distance(have, wanted, repair)
        return wanted

    def _fit_to_pool(
        self, wanted: Counter[Cell], real: Manifest, synthetic: Manifest, cells: Cells
    ) -> Counter[Cell]:
        have, pool = Counter(cells.of(real)), Counter(cells.of(synthetic))
        lacking = sorted(c for c in wanted if not pool[c])
        if lacking and pool.total() >= wanted.total():
            total = wanted.total()
            shown = "; ".join(f"{text(c)} ({wanted[c]} wanted)" for c in lacking[:5])
            self.log.append(
                f"the pool has no row of {len(lacking)} wanted cells [{shown}]: class marginals matched instead"
            )
            wanted = allocation.match_marginals(have, total, pool, wanted)
            self._check_distance(have, wanted, f"sample rows of {shown}")
        self.log.append(
            f"total variation distance to the real cells {allocation.cell_distance(have, wanted):.4f}"
        )
        return wanted

    def _check_distance(self, have: Counter[Cell], wanted: Counter[Cell], repair: str) -> None:
        distance, name = allocation.marginal_distance(have, wanted)
        self.log.append(f"total variation distance of class marginals at most {distance:.4f} ({name})")
        if distance > MOST_DISTANCE + 1e-9:  # 2.5 rows of 10, rounded, are exactly 0.05 away
            raise InputError(
                self._name,
                f"a total variation distance of {distance:.4f} for {name!r}",
                f"at most {MOST_DISTANCE}",
                repair,
            )


class SyntheticOnly(FusionStrategy):
    """As many synthetic rows of each cell as there are real ones, and no real row.

    Args:
        select: real_val = checkpoints are selected on real validation rows; synthetic_val = on synthetic rows held out of the
            pool (for the claim "can replace real data").
        held_out: size of that synthetic validation set, as a share of the training rows.
        cells: balance classes.
    """

    has_controls = False
    keeps_real = False

    def __init__(
        self,
        select: Literal["real_val", "synthetic_val"] = "real_val",
        held_out: float = 0.2,
        cells: Cells | None = None,
    ):
        super().__init__(cells)
        check_choice("SyntheticOnly.select", select, ("real_val", "synthetic_val"))
        check_number("SyntheticOnly.held_out", held_out, 0)
        self.select, self.held_out = select, held_out

    def needs(self, real: Manifest) -> Counter[Cell]:
        """Training rows, and with `select="synthetic_val"` the held out ones as well."""
        return super().needs(real) + self._held_out(real, self.cells.resolve(real))

    def fuse(self, real: Manifest, synthetic: Manifest | None, rng: np.random.Generator) -> Manifest:
        """The chosen synthetic rows alone."""
        fused = super().fuse(real, synthetic, rng)
        if not len(fused) or (fused.column("source") != "synthetic").any():
            raise InputError(self._name, f"{len(real)} real training rows", "at least one to follow")
        return fused

    def selection(self, real: Manifest, val: Manifest, synthetic: Manifest | None) -> Manifest:
        """`val`, or with `select="synthetic_val"` pool rows that `fuse` left, marked as split val."""
        if self.select == "real_val":
            return val
        if synthetic is None or not len(synthetic):
            raise InputError(
                self._name, "no synthetic set", "one to select on", "give the datamodule `synthetic`"
            )
        check_synthetic(synthetic, self._name)
        cells = self.cells.resolve(real)
        held = self._held_out(real, cells)
        chosen = take(synthetic, cells.of(synthetic), held, self._name, skip=Counter(cells.of(real)))
        return synthetic.take(chosen).with_columns({"split": ["val"] * len(chosen)})

    def _plan(self, real: Manifest, cells: Cells) -> Counter[Cell]:
        return Counter(cells.of(real))

    def _held_out(self, real: Manifest, cells: Cells) -> Counter[Cell]:
        if self.select == "real_val":
            return Counter()
        return allocation.share_out(Counter(cells.of(real)), max(1, round(self.held_out * len(real))))

    def _choose(self, real: Manifest, synthetic: Manifest, wanted: Counter[Cell], cells: Cells) -> np.ndarray:
        of_pool = cells.of(synthetic)
        take(synthetic, of_pool, wanted, self._name)  # the held out rows must be there as well
        return take(synthetic, of_pool, Counter(cells.of(real)), self._name)

"""Strategies that lift what is rare: classes, attribute groups, combinations of classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from synthrad.errors import InputError
from synthrad.fusion import allocation
from synthrad.fusion.cells import Cell, Cells, is_known, text
from synthrad.fusion.pool import balanced_targets, check_choice, check_number, check_to, count_groups, take
from synthrad.fusion.strategies import FusionStrategy
from synthrad.records import Manifest


class ClassBalanced(FusionStrategy):
    """Lifts rare classes: class c gets to t_c = max(n_c, min(to, cap * n_c)) rows by an integer program over cells.

    Classes of fewer than 10 subjects are skipped and rows without any class are not added. Among all ways to reach the
    targets those with the fewest positives of skipped classes are taken (none, unless a class is only seen together with
    one), among those the ones with the least overshoot, among those the one with the fewest rows. Cells that differ only in
    attributes share rows as the real ones do, so that no attribute comes with a class.

    Args:
        to: median or max of n_c over the balanced classes, or a number of rows.
        cap: at most that many times the rows that the class has.
        over: cells to add: observed = combinations seen in real rows, single = the class alone.
        cells: balance classes.
    """

    def __init__(
        self,
        to: Literal["median", "max"] | int = "median",
        cap: float = 5.0,
        over: Literal["observed", "single"] = "observed",
        cells: Cells | None = None,
    ):
        super().__init__(cells)
        check_number("ClassBalanced.cap", cap, 1)
        check_to("ClassBalanced.to", to)
        check_choice("ClassBalanced.over", over, ("observed", "single"))
        self.to, self.cap, self.over = to, cap, over

    def _plan(self, real: Manifest, cells: Cells) -> Counter[Cell]:
        of_row = cells.of(real)
        have = Counter(of_row)
        classes = {cell: cells.positives(cell) for cell in have}
        rows, subjects = count_groups([classes[c] for c in of_row], real.column("subject"))
        targets = self._targets(rows, subjects)
        candidates = self._candidates(have, targets, cells)
        names = sorted(targets)
        membership = np.array([[n in cells.positives(c) for c in candidates] for n in names], dtype=int)
        membership = membership.reshape(len(names), len(candidates))
        deficits = np.array([targets[n] - rows[n] for n in names], dtype=int)
        others = np.array([sum(p not in targets for p in cells.positives(c)) for c in candidates], dtype=int)
        x = allocation.balance(membership, deficits, others)
        wanted = Counter({c: int(n) for c, n in zip(candidates, x, strict=True) if n})
        wanted = self._spread(wanted, candidates, have, cells)
        overshoot = int((membership @ x - deficits).sum()) if len(names) else 0
        self.log.append(f"{wanted.total()} rows in {len(wanted)} cells, overshoot {overshoot} class rows")
        if others @ x:
            self.log.append(f"{int(others @ x)} positives of skipped classes come with them: no other cells hold what is lifted")
        if wanted:
            self._log_co_occurrence(have, wanted, cells)
        return wanted

    def _targets(self, rows: Counter[str], subjects: Mapping[str, int]) -> dict[str, int]:
        targets, lines = balanced_targets(rows, subjects, self.to, self.cap)
        self.log += lines
        return targets

    def _candidates(self, have: Counter[Cell], targets: Mapping[str, int], cells: Cells) -> list[Cell]:
        if self.over == "single":
            return sorted({c for name in targets for c in cells.single(have, name)})
        useful = [c for c in sorted(have) if any(p in targets for p in cells.positives(c))]
        known = [c for c in useful if is_known(c)]
        covered = {p for c in known for p in cells.positives(c)}
        return (
            known if covered >= set(targets) else useful
        )  # half-labelled rows only where a class has no others

    def _spread(
        self, wanted: Counter[Cell], candidates: list[Cell], have: Counter[Cell], cells: Cells
    ) -> Counter[Cell]:
        labels = {c: c[: len(c) - len(cells.attributes)] for c in {*candidates, *have}}
        if self.over == "observed":
            return allocation.spread(wanted, {c: labels[c] for c in candidates}, have)
        weights: Counter[Cell] = Counter()  # single: rows of the class under the same attributes, whatever else they show
        for c in candidates:
            same = [o for o in have if o[len(labels[o]) :] == c[len(labels[c]) :]]
            weights[c] = sum(have[o] for o in same if set(cells.positives(c)) <= set(cells.positives(o)))
        return allocation.spread(wanted, {c: labels[c] for c in candidates}, weights)

    def _log_co_occurrence(self, have: Counter[Cell], wanted: Counter[Cell], cells: Cells) -> None:
        before: Counter[tuple[str, ...]] = Counter()
        after: Counter[tuple[str, ...]] = Counter()
        for counts, sums in ((have, (before, after)), (wanted, (after,))):
            for cell, n in counts.items():
                for sum_ in sums:
                    sum_[cells.positives(cell)] += n
        old, new = allocation.co_occurrence(before), allocation.co_occurrence(after)
        changes = sorted({*old, *new}, key=lambda p: (-abs(new.get(p, 0) - old.get(p, 0)), p))[:5]
        for pair in changes:
            self.log.append(
                f"co-occurrence of {' and '.join(pair)}: {old.get(pair, 0):.1%} -> {new.get(pair, 0):.1%} of rows"
            )


class GroupBalanced(FusionStrategy):
    """As ClassBalanced, over attribute cells: each group gets to t_g = max(n_g, min(to, cap * n_g)) rows.

    Groups are disjoint, so the program's optimum is x_g = t_g - n_g. Groups of fewer than 10 subjects or with an unknown
    attribute are skipped. Inside a group the synthetic rows follow the labels of its real rows as far as the pool allows:
    otherwise a pool drawn for several arms would change labels with groups.

    Args:
        by: attributes whose combinations are the groups.
        to, cap: as in ClassBalanced.
    """

    def __init__(
        self,
        by: Sequence[str] = ("sex", "age_band"),
        to: Literal["median", "max"] | int = "median",
        cap: float = 5.0,
    ):
        if isinstance(by, str) or not by:
            raise InputError(
                "GroupBalanced.by", repr(by), "a list of attributes", "write it as [sex, age_band]"
            )
        super().__init__(Cells(classes=[], structures=[], attributes=list(by)))
        check_number("GroupBalanced.cap", cap, 1)
        check_to("GroupBalanced.to", to)
        self.by, self.to, self.cap = tuple(by), to, cap

    def _plan(self, real: Manifest, cells: Cells) -> Counter[Cell]:
        of_row = cells.of(real)
        names = {c: text(c) for c in of_row if is_known(c)}
        rows, subjects = count_groups(
            [(names[c],) if c in names else () for c in of_row], real.column("subject")
        )
        targets, lines = balanced_targets(rows, subjects, self.to, self.cap)
        self.log += lines
        blank = sum(c not in names for c in of_row)
        if blank:
            self.log.append(f"{blank} real rows without a value of {', '.join(self.by)}: in no group")
        wanted = {c: targets[n] - rows[n] for c, n in sorted(names.items()) if n in targets}
        return Counter({c: n for c, n in wanted.items() if n})

    def _choose(self, real: Manifest, synthetic: Manifest, wanted: Counter[Cell], cells: Cells) -> np.ndarray:
        of_pool, labels = cells.of(synthetic), Cells(structures=[]).resolve(real)
        real_of, pool_of = cells.of(real), labels.of(synthetic)
        real_labels = labels.of(real)
        finer: Counter[Cell] = Counter()
        for cell, number in sorted(wanted.items()):
            inside = Counter(b for a, b in zip(real_of, real_labels, strict=True) if a == cell)
            pool = Counter(b for a, b in zip(of_pool, pool_of, strict=True) if a == cell)
            if pool.total() < number:
                return take(synthetic, of_pool, wanted, self._name)  # says what is short
            quota = allocation.share_out(inside, number)
            best = allocation.match_marginals(inside, number, pool, quota)
            distance = allocation.cell_distance(inside, best)
            self.log.append(
                f"labels inside {text(cell)}: total variation distance {distance:.4f} to its real rows"
            )
            finer.update({(*cell, *label): n for label, n in best.items()})
        both = [(*a, *b) for a, b in zip(of_pool, pool_of, strict=True)]
        return take(synthetic, both, finer, self._name)


class MinimalBalanced(FusionStrategy):
    """Fills rare combinations only: cells of two or more classes with 1 <= n_g < k and two subjects get k - n_g rows.

    Args:
        at_least: k; auto = the largest k that adds at most `budget` * N rows.
        budget: share of the real rows, for auto.
        cells: balance classes.
    """

    def __init__(
        self, at_least: Literal["auto"] | int = "auto", budget: float = 0.25, cells: Cells | None = None
    ):
        super().__init__(cells)
        check_number("MinimalBalanced.budget", budget, 0)
        if at_least != "auto":
            check_number("MinimalBalanced.at_least", at_least, 1)
        self.at_least, self.budget = at_least, budget

    def _plan(self, real: Manifest, cells: Cells) -> Counter[Cell]:
        of_row = cells.of(real)
        have = Counter(of_row)
        _, subjects = count_groups([(c,) for c in of_row], real.column("subject"))
        crowded = [c for c in sorted(have) if len(cells.positives(c)) >= 2]
        able = {c: have[c] for c in crowded if subjects[c] >= 2}
        if len(able) < len(crowded):
            alone = [text(c) for c in crowded if c not in able]
            self.log.append(f"skipped {len(alone)} combinations of a single subject: {'; '.join(alone[:5])}")
        if not able:
            return Counter()
        k = self._auto(able, self.budget * len(real)) if self.at_least == "auto" else int(self.at_least)
        wanted = Counter({c: k - n for c, n in able.items() if n < k})
        self.log.append(
            f"combinations brought to {k} rows: {len(wanted)} of {len(able)}, {wanted.total()} rows"
        )
        return wanted

    @staticmethod
    def _auto(able: Mapping[Cell, int], most_rows: float) -> int:
        k = 1
        while sum(max(0, k + 1 - n) for n in able.values()) <= most_rows + 1e-9:
            k += 1
        return k

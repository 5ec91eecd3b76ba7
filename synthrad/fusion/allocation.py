"""The arithmetic of fusion: largest remainders, class marginals by least squares, the balancing integer program.

Plain numbers in and out; the strategies give them their meaning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from synthrad.errors import RunError
from synthrad.fusion.cells import Cell


def largest_remainder(weights: Sequence[float], total: int) -> list[int]:
    """Whole numbers proportional to `weights` that sum to `total` (Hamilton's method); ties go to the earlier.

    Each is floor or ceiling of its exact quota.
    """
    sum_ = float(sum(weights))
    if total <= 0 or sum_ <= 0:
        return [0] * len(weights)
    quotas = [total * w / sum_ for w in weights]
    shares = [int(np.floor(q + 1e-9)) for q in quotas]  # 1e-9: 3 * (1/3) must not floor to 0
    by_remainder = sorted(range(len(quotas)), key=lambda i: (-round(quotas[i] - shares[i], 9), i))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


def share_out(counts: Mapping[Cell, int], total: int) -> Counter[Cell]:
    """`largest_remainder` over cells, in the order of their names; cells that get nothing are left out."""
    names = sorted(counts)
    shares = largest_remainder([counts[c] for c in names], total)
    return Counter({c: n for c, n in zip(names, shares, strict=True) if n})


def match_marginals(
    target: Mapping[Cell, int], total: int, limits: Mapping[Cell, int], start: Mapping[Cell, int]
) -> Counter[Cell]:
    """`total` rows over the cells of `limits` whose class marginals are nearest to those of `target` in least squares.

    Minimises |A x - total/N A n|^2 over whole x with 0 <= x <= limits and sum x = total, where A tells which parts a
    cell has. Starts at `start` (cut to the limits), fills up by the steepest descent, then exchanges single rows between
    cells until no exchange helps: a local optimum in which the cell proportions of `start` survive where they can.

    Raises:
        ValueError: the limits allow fewer than `total` rows.
    """
    cells = sorted(limits)
    parts = sorted({(i, p) for c in [*cells, *target] for i, p in enumerate(c)})
    index = {p: k for k, p in enumerate(parts)}
    a = np.zeros((len(parts), len(cells)))
    for g, cell in enumerate(cells):
        a[[index[p] for p in enumerate(cell)], g] = 1
    goal = np.zeros(len(parts))
    for cell, n in target.items():
        goal[[index[p] for p in enumerate(cell)]] += n * total / sum(target.values())
    limit = np.array([limits[c] for c in cells])
    if limit.sum() < total:
        raise ValueError(f"{limit.sum()} rows for {total}")
    x = np.minimum([start.get(c, 0) for c in cells], limit)
    gram = a.T @ a
    own = np.diag(gram)
    for _ in range(total - int(x.sum())):
        gain = 2 * (a.T @ (a @ x - goal)) + own
        x[int(np.argmin(np.where(x < limit, gain, np.inf)))] += 1
    exchange = own[:, None] + own[None, :] - 2 * gram  # |a_to - a_from|^2
    while True:
        slope = 2 * (a.T @ (a @ x - goal))
        change = np.where(
            (x < limit)[:, None] & (x > 0)[None, :], slope[:, None] - slope[None, :] + exchange, 0.0
        )
        to, from_ = np.unravel_index(int(np.argmin(change)), change.shape)
        if change[to, from_] > -1e-9:
            return Counter({c: int(n) for c, n in zip(cells, x, strict=True) if n})
        x[to] += 1
        x[from_] -= 1


def balance(membership: np.ndarray, deficits: np.ndarray, unwanted: np.ndarray | None = None) -> np.ndarray:
    """Rows to add per cell so that every class reaches its target: first least overshoot, then fewest rows.

    Integer programs (scipy milp, HiGHS): min sum_c (A x - d)_c subject to A x >= d, then min sum x at that overshoot.
    Fewest rows alone would pick the rarest, most crowded combinations.

    Args:
        membership: A, 0/1 [classes, cells]. deficits: d >= 0, whole, [classes].
        unwanted: >= 0, [cells]: what a row of the cell adds that nobody asked for; made least before all else.

    Returns:
        int [cells].
    """
    if not deficits.any():
        return np.zeros(membership.shape[1], dtype=int)
    enough = LinearConstraint(membership, lb=deficits)
    positives = membership.sum(axis=0).astype(float)
    bounds = Bounds(0, float(deficits.sum()))  # no optimum needs more of one cell
    x, limits = np.zeros(0), [enough]
    steps = [positives, np.ones(len(positives))]
    if unwanted is not None and unwanted.any():
        steps.insert(0, unwanted.astype(float))
    for cost in steps:
        x = _solve(cost, limits, bounds)
        limits = [*limits, LinearConstraint(cost[None, :], ub=float(cost @ x))]
    return x


def spread(rows: Mapping[Cell, int], kinds: Mapping[Cell, Hashable], have: Mapping[Cell, int]) -> Counter[Cell]:
    """`rows` shared anew among the cells of each kind, in proportion to what these `have`.

    For the program of `balance` such cells are one and the same, and a solver gives all to any one of them.
    """
    shared: Counter[Cell] = Counter()
    for kind in {kinds[c] for c in rows}:
        same = {c: have[c] for c in kinds if kinds[c] == kind}
        shared += share_out(same, sum(rows.get(c, 0) for c in same))
    return shared


def _solve(cost: np.ndarray, constraints: list[LinearConstraint], bounds: Bounds) -> np.ndarray:
    # mip_rel_gap: the solver's own default of 1e-4 may stop one row short of the optimum
    options = {"mip_rel_gap": 0.0, "time_limit": 300.0}
    solved = milp(
        cost, constraints=constraints, bounds=bounds, integrality=np.ones(len(cost)), options=options
    )
    if solved.status != 0:
        raise RunError(
            f"the balancing program of {len(cost)} cells was not solved ({solved.message}); "
            "declare fewer balance classes in `cells`"
        )
    return np.round(solved.x).astype(int)


def cell_distance(a: Mapping[Cell, int], b: Mapping[Cell, int]) -> float:
    """Total variation distance, in [0, 1], between the distributions of two counts over cells."""
    total_a, total_b = sum(a.values()), sum(b.values())
    return 0.5 * sum(abs(a.get(c, 0) / total_a - b.get(c, 0) / total_b) for c in {*a, *b})


def marginal_distance(a: Mapping[Cell, int], b: Mapping[Cell, int]) -> tuple[float, str]:
    """The largest total variation distance between class marginals, in [0, 1], and the class that has it."""
    worst = (0.0, "")
    for i in range(len(next(iter(a), ()))):
        marginals = []
        for counts in (a, b):
            marginal: Counter[tuple[str]] = Counter()
            for cell, n in counts.items():
                marginal[(cell[i],)] += n
            marginals.append(marginal)
        name = next(iter(a))[i].split("=", 1)[0]
        worst = max(worst, (cell_distance(*marginals), name))
    return worst


def co_occurrence(counts: Mapping[tuple[str, ...], int]) -> dict[tuple[str, str], float]:
    """Share of rows that have both classes of a pair; keys of `counts` are the classes of a row."""
    total = sum(counts.values())
    pairs: Counter[tuple[str, str]] = Counter()
    for classes, n in counts.items():
        for pair in combinations(sorted(classes), 2):
            pairs[pair] += n
    return {p: n / total for p, n in pairs.items()}

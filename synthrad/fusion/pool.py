"""What every strategy checks and counts, and how rows leave a pool."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from synthrad.errors import InputError
from synthrad.fusion.cells import Cell, text
from synthrad.records import Manifest

LEAST_SUBJECTS = 10  # a class of fewer subjects is not balanced: its few patients would be multiplied


def pool_order(synthetic: Manifest) -> np.ndarray:
    """Row positions in an order that belongs to the pool: by a hash of each image's digest.

    As good as a shuffle, the same for every arm and seed, and rows that top up a pool change nothing among the others.
    """
    paths = synthetic.column(f"channel:{synthetic.info.channels[0]}")
    keys = [
        (hashlib.sha256((digest or path).encode()).hexdigest(), path)
        for digest, path in zip(synthetic.column("digest"), paths, strict=True)
    ]
    return np.array(sorted(range(len(keys)), key=lambda i: (*keys[i], i)), dtype=int)


def take(
    synthetic: Manifest,
    of_pool: Sequence[Cell],
    wanted: Mapping[Cell, int],
    where: str,
    skip: Mapping[Cell, int] | None = None,
) -> np.ndarray:
    """Positions of the first `wanted` rows of each cell in pool order, after `skip` rows of it.

    Raises:
        InputError: cell, wanted and available number, and how many to sample.
    """
    rows: dict[Cell, list[int]] = {}
    for i in pool_order(synthetic):
        rows.setdefault(of_pool[i], []).append(int(i))
    skip = skip or {}
    short = [
        (n + skip.get(c, 0) - len(rows.get(c, [])), c, n + skip.get(c, 0))
        for c, n in sorted(wanted.items())
        if n and len(rows.get(c, [])) < n + skip.get(c, 0)
    ]
    if short:
        facts = "; ".join(f"cell {text(c)}: {n} wanted, {n - lack} available" for lack, c, n in short[:10])
        more = f" and {len(short) - 10} more cells" if len(short) > 10 else ""
        repair = "; ".join(f"{lack} more of {text(c)}" for lack, c, _ in short[:10])
        raise InputError(
            where,
            f"a pool of {len(synthetic)} rows that cannot fill the arm ({facts}{more})",
            "as many rows of each cell as the arm adds",
            f"sample {sum(s[0] for s in short)} more rows ({repair}{more}), or lower the arm's dose",
        )
    chosen = [rows[c][skip.get(c, 0) : skip.get(c, 0) + n] for c, n in sorted(wanted.items()) if n]
    return np.array([i for block in chosen for i in block], dtype=int)


def check_real(real: Manifest, where: str) -> None:
    """Real training rows and nothing else.

    Raises:
        InputError: a row of another split or source.
    """
    _check_all(
        real, "split", "train", where, "rows of `real`", 'pass manifest.where(split="train", source="real")'
    )
    _check_all(real, "source", "real", where, "rows of `real`", "synthetic rows come in by `synthetic`")


def check_synthetic(synthetic: Manifest, where: str) -> None:
    """Synthetic rows of split train: a real row here would enter unseen, another split's row would leak.

    Raises:
        InputError: a row of another split or source.
    """
    _check_all(
        synthetic, "source", "synthetic", where, "rows of `synthetic`", "import the set with `--synthetic`"
    )
    _check_all(
        synthetic, "split", "train", where, "rows of `synthetic`", 'pass synthetic.where(split="train")'
    )


def _check_all(manifest: Manifest, column: str, value: str, where: str, what: str, repair: str) -> None:
    others = Counter(v for v in manifest.column(column) if v != value)
    if others:
        found = ", ".join(f"{n} of {column} {v}" for v, n in sorted(others.items()))
        raise InputError(where, f"{what}: {found}", f"{column} {value} only", repair)


def count_groups(
    groups: Sequence[Sequence[Hashable]], subjects: np.ndarray
) -> tuple[Counter[Hashable], dict[Hashable, int]]:
    """Rows and distinct subjects of each group; a row may be in several."""
    rows: Counter[Hashable] = Counter()
    who: dict[Hashable, set[str]] = {}
    for names, subject in zip(groups, subjects, strict=True):
        for name in names:
            rows[name] += 1
            who.setdefault(name, set()).add(subject)
    return rows, {name: len(s) for name, s in who.items()}


def balanced_targets(
    rows: Mapping[str, int], subjects: Mapping[str, int], to: str | int, cap: float
) -> tuple[dict[str, int], list[str]]:
    """t_c = max(n_c, min(to, cap * n_c)), rounded up, for classes of at least 10 subjects; and what to log.

    Args:
        to: median or max of n_c over these classes, or a number of rows.
    """
    names = sorted(n for n in rows if subjects[n] >= LEAST_SUBJECTS)
    skipped = [f"{n} ({subjects[n]} subjects)" for n in sorted(rows) if n not in names]
    lines = [f"skipped, fewer than {LEAST_SUBJECTS} subjects: {', '.join(skipped)}"] if skipped else []
    if not names:
        return {}, [*lines, f"no class has {LEAST_SUBJECTS} subjects: nothing to balance"]
    counts = [rows[n] for n in names]
    goal = (
        {"median": float(np.median(counts)), "max": float(max(counts))}.get(to)
        if isinstance(to, str)
        else float(to)
    )
    targets = {n: max(rows[n], int(np.ceil(min(goal, cap * rows[n]) - 1e-9))) for n in names}
    capped = [n for n in names if cap * rows[n] < goal]
    lines.append(f"balanced to {goal:g} rows: " + ", ".join(f"{n} {rows[n]} -> {targets[n]}" for n in names))
    if capped:
        lines.append(f"held back by the cap of {cap:g} times: {', '.join(capped)}")
    return targets, lines


def check_number(key: str, value: float, least: float) -> None:
    """Refuse what is no number or below `least`.

    Raises:
        InputError: names the config key.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
        raise InputError(key, repr(value), f"a number of at least {least:g}")


def check_choice(key: str, value: str, known: Sequence[str]) -> None:
    """Refuse a word that is none of `known`.

    Raises:
        InputError: names the config key.
    """
    if value not in known:
        raise InputError(key, repr(value), f"one of {', '.join(known)}")


def check_to(key: str, to: str | int) -> None:
    """Refuse a balancing goal that is neither median, max nor a number of rows.

    Raises:
        InputError: names the config key.
    """
    if to in ("median", "max"):
        return
    if isinstance(to, str):
        raise InputError(key, repr(to), "median, max or a number of rows")
    check_number(key, to, 1)

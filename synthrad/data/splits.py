"""Splits by subject, stratified over several labels; subjects that share a picture stay together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthrad.errors import InputError
from synthrad.manifest_table import SPLITS


def split_by_subject(
    subjects: Sequence[str], labels: np.ndarray, fractions: Sequence[float], seed: int
) -> list[str]:
    """Assign each row a split so that no subject crosses and each label keeps its share.

    Iterative stratification (Sechidis et al., ECML 2011, algorithm 1) over subjects: the label with the fewest
    remaining subjects is served first, each of its subjects goes where that label is most wanted, ties go where
    rows are most wanted. Large subjects go first, so that one of many images finds a split with room for it.

    Args:
        subjects: one name a row.
        labels: [rows, K]: 1 present, 0 absent, NaN unknown (counts as not present).
        fractions: shares of train, val, audit, test; they sum to 1, a share of 0 leaves that split empty.
        seed: the same seed gives the same splits, whatever the order of rows.

    Raises:
        InputError: bad fractions, or fewer subjects than splits with a share.
    """
    shares = checked_fractions(fractions)
    names, owner = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    wanted = [s for s, f in zip(SPLITS, shares, strict=True) if f > 0]
    if len(names) < len(wanted):
        raise InputError(
            "--fractions",
            f"{len(names)} subject(s) for the splits {', '.join(wanted)}",
            f"at least {len(wanted)} subjects, so that none is empty",
            "give a fraction of 0 to the splits you can do without",
        )
    sizes = np.bincount(owner, minlength=len(names))
    labels = np.asarray(labels, dtype=float).reshape(len(owner), -1)
    counts = np.zeros((len(names), labels.shape[1]))
    np.add.at(counts, owner, labels == 1)
    place = _fill(_stratify(counts, sizes, shares, seed), sizes, shares)
    return [SPLITS[p] for p in place[owner]]


def checked_fractions(fractions: Sequence[float]) -> np.ndarray:
    """Shares of train, val, audit and test that sum to 1.

    Raises:
        InputError: other numbers.
    """
    shares = np.asarray(list(fractions), dtype=float)
    if shares.shape != (4,) or (shares < 0).any() or not abs(shares.sum() - 1) <= 1e-6:
        raise InputError(
            "--fractions",
            " ".join(str(f) for f in fractions),
            "four numbers >= 0 that sum to 1 (train val audit test)",
            "e.g. --fractions 0.55 0.1 0.1 0.25",
        )
    return shares / shares.sum()


def checked_seed(seed: int) -> int:
    """The seed.

    Raises:
        InputError: below 0, which no generator of random numbers takes.
    """
    if seed < 0:
        raise InputError("--seed", str(seed), "a whole number from 0 on")
    return seed


def _stratify(counts: np.ndarray, sizes: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """Split number of each subject; counts [subjects, K] rows with a label, sizes [subjects] rows."""
    has = counts > 0
    rng = np.random.default_rng(checked_seed(seed))
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    want_label = shares[:, None] * counts.sum(axis=0)
    want_rows = shares * sizes.sum()
    closed = np.where(shares > 0, 0.0, -np.inf)
    place = np.full(len(sizes), -1)
    while (place < 0).any():
        left = has[place < 0].sum(axis=0)
        rarest = int(np.argmin(np.where(left > 0, left, np.inf))) if left.any() else None
        for s in order:
            if place[s] >= 0 or (rarest is not None and not has[s, rarest]):
                continue
            need = want_rows + closed if rarest is None else want_label[:, rarest] + closed
            best = np.flatnonzero(need >= need.max() - 1e-9)
            if len(best) > 1:
                rows = want_rows[best]
                best = best[rows >= rows.max() - 1e-9]
            place[s] = best[0] if len(best) == 1 else rng.choice(best)
            want_label[place[s]] -= counts[s]
            want_rows[place[s]] -= sizes[s]
    return place


def _fill(place: np.ndarray, sizes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Give every split with a share at least one subject: the smallest of the split that has most rows to spare."""
    place = place.copy()
    for k in np.flatnonzero(shares > 0):
        if (place == k).any():
            continue
        rows = np.bincount(place, weights=sizes, minlength=len(shares)) - shares * sizes.sum()
        rows[np.bincount(place, minlength=len(shares)) < 2] = -np.inf
        giver = np.flatnonzero(place == int(np.argmax(rows)))
        place[giver[np.argmin(sizes[giver])]] = k
    return place


def picture_owners(subjects: Sequence[str], digests: Sequence[str], copies: Sequence[tuple[int, int]] = ()) -> list[str]:
    """One name for all subjects that share a picture (equal digests, or near copies: pairs of rows), so that a split keeps them together."""
    parent = {s: s for s in subjects}

    def find(s: str) -> str:
        while parent[s] != s:
            parent[s] = parent[parent[s]]
            s = parent[s]
        return s

    def join(one: str, other: str) -> None:
        a, b = sorted((find(one), find(other)))
        parent[b] = a

    first: dict[str, str] = {}
    for subject, digest in zip(subjects, digests, strict=True):
        if digest:
            join(first.setdefault(digest, subject), subject)
    for i, j in copies:
        join(subjects[i], subjects[j])
    return [find(s) for s in subjects]

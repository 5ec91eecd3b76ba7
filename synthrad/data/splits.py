"""Splits by subject, stratified over several labels; near copies of images, by digest and by eye."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synthrad.data.images import fit, read_image
from synthrad.errors import InputError
from synthrad.progress import progress
from synthrad.records import SPLITS, Manifest

THUMBNAIL = 16  # pixels a side: large enough to tell two patients apart, blind to recompression and resizing
LIKENESS = 0.995  # correlation of thumbnails above which two images count as one picture


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
    shares = _checked(fractions)
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


def _checked(fractions: Sequence[float]) -> np.ndarray:
    shares = np.asarray(list(fractions), dtype=float)
    if shares.shape != (4,) or (shares < 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise InputError(
            "--fractions",
            " ".join(str(f) for f in fractions),
            "four numbers >= 0 that sum to 1 (train val audit test)",
            "e.g. --fractions 0.55 0.1 0.1 0.25",
        )
    return shares / shares.sum()


def _stratify(counts: np.ndarray, sizes: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """Split number of each subject; counts [subjects, K] rows with a label, sizes [subjects] rows."""
    has = counts > 0
    rng = np.random.default_rng(seed)
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


def near_copies(manifest: Manifest, likeness: float = LIKENESS) -> list[tuple[int, int]]:
    """Pairs of rows (i < j) that show the same picture: equal digests, or thumbnails that correlate above `likeness`.

    Decodes every image once. Rows of equal digest are paired with the first of them only, so that k copies give
    k - 1 pairs rather than k^2.

    Raises:
        InputError: an image that cannot be read.
    """
    first: dict[str, int] = {}
    pairs: list[tuple[int, int]] = []
    unique = []
    for i, digest in enumerate(manifest.column("digest")):
        seen = first.setdefault(digest, i) if digest else i
        pairs += [(seen, i)] if seen != i else []
        unique += [i] if seen == i else []
    bar = progress(unique, desc="comparing images", unit="image")
    thumbnails = [thumbnail([*manifest[i].channels]) for i in bar]
    pairs += [(unique[a], unique[b]) for a, b in similar_pairs(np.array(thumbnails, np.float32), likeness)]
    return sorted(pairs)


def thumbnail(channels: Sequence) -> np.ndarray:
    """All channels at 16 x 16, each with mean 0, together of length 1 (or 0 where they are flat): float32 [C * 256]."""
    parts = [
        fit(read_image(p).astype(np.float32), (THUMBNAIL, THUMBNAIL), "squeeze").ravel() for p in channels
    ]
    flat = np.concatenate([p - p.mean() for p in parts])
    length = np.linalg.norm(flat)
    return flat / length if length > 1e-3 else np.zeros_like(flat)


def similar_pairs(vectors: np.ndarray, likeness: float, block: int = 2048) -> list[tuple[int, int]]:
    """Pairs (a < b) of unit rows of `vectors` [n, d] whose product is above `likeness`; block x block at a time."""
    found = []
    for top in range(0, len(vectors), block):
        for left in range(top, len(vectors), block):
            product = vectors[top : top + block] @ vectors[left : left + block].T
            rows, columns = np.nonzero(product > likeness)
            rows, columns = rows + top, columns + left
            found += [(int(a), int(b)) for a, b in zip(rows, columns, strict=True) if a < b]
    return found


def picture_owners(subjects: Sequence[str], digests: Sequence[str]) -> list[str]:
    """One name for all subjects that share a picture (equal digests), so that a split keeps them together."""
    parent = {s: s for s in subjects}

    def find(s: str) -> str:
        while parent[s] != s:
            parent[s] = parent[parent[s]]
            s = parent[s]
        return s

    first: dict[str, str] = {}
    for subject, digest in zip(subjects, digests, strict=True):
        a, b = (
            sorted((find(first.setdefault(digest, subject)), find(subject)))
            if digest
            else (find(subject),) * 2
        )
        parent[b] = a
    return [find(s) for s in subjects]

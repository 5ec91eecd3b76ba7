"""Splits that a dataset is published with: its test rows stay test, the others are divided by subject."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from synthrad.data.splits import picture_owners, split_by_subject
from synthrad.data.writing import Draft
from synthrad.errors import InputError

FRACTIONS = (0.55, 0.1, 0.1, 0.25)


def add_official_split(parser: argparse.ArgumentParser, what: str) -> None:
    """The option --official-split; `what` says which rows are the test split."""
    parser.add_argument(
        "--official-split",
        action="store_true",
        help=f"{what} are the test split, the others are divided among train, val and audit "
        "(--fractions with a test share of 0)",
    )


def divide(draft: Draft, args: argparse.Namespace, facts: Sequence[np.ndarray] = ()) -> None:
    """Give a split to the rows that have none, by subject and stratified by labels; call it once digests are noted.

    Args:
        draft: with subjects, digests, labels and the published splits. args: --fractions and --seed.
        facts: [rows] of 0 and 1 each, kept as even among the splits as the labels are.

    A subject (or the owner of the same picture) that has a published split keeps it in all rows. Where rows are published
    as test, the others go to train, val and audit. Near copies among those stay in one split; one of a published test row does
    not become a test row: `finish` refuses it, or leaves it out.

    Raises:
        InputError: a share of test beside a published one. InputErrors: the draft's faults so far.
    """
    draft.raise_faults()
    copies = draft.leaks(args)
    splits, subjects, digests = (draft.columns[c] for c in ("split", "subject", "digest"))
    owners = np.array(picture_owners(subjects, digests))
    splits[np.isin(owners, owners[splits == "test"]) & (splits == "")] = "test"
    left = np.flatnonzero(splits == "")
    owners = np.array(picture_owners(subjects, digests, [(i, j) for i, j, _ in copies.pairs if splits[i] == splits[j] == ""]))
    shares = np.array(args.fractions or FRACTIONS, dtype=float)
    if len(left) < len(splits):
        if args.fractions and shares[3]:
            raise InputError("--fractions", f"a share of {shares[3]:g} for test beside a published test split", "0",
                             "e.g. --fractions 0.8 0.1 0.1 0")
        shares[3] = 0
        shares /= shares.sum() or 1
    if len(left):
        every = [*(draft.columns[f"label:{c}"] for c in draft.info.classes), *facts]
        table = np.array([f[left] for f in every], dtype=float).T if every else np.zeros((len(left), 0))
        splits[left] = split_by_subject(owners[left], table, shares, args.seed)

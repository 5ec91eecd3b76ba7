import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthrad.data.splits import picture_owners, split_by_subject
from synthrad.errors import InputError
from synthrad.manifest_table import SPLITS

SHARES = (0.55, 0.1, 0.1, 0.25)


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 60), st.integers(0, 100), st.integers(0, 4), st.integers(0, 3))
def test_no_subject_crosses_and_no_split_is_empty(count, seed, classes, closed):
    rng = np.random.default_rng(seed)
    subjects = [f"s{i}" for i in [*range(count), *rng.integers(0, count, 2 * count)]]
    labels = np.where(rng.random((len(subjects), classes)) < 0.3, 1.0, np.nan)
    shares = np.array(SHARES)
    shares[closed] = 0
    splits = split_by_subject(subjects, labels, shares / shares.sum(), seed)
    assert len(splits) == len(subjects)
    assert len(set(zip(subjects, splits, strict=True))) == len(set(subjects))
    assert set(splits) == {s for s, f in zip(SPLITS, shares, strict=True) if f > 0}


def test_shares_of_rows_and_of_rare_labels():
    rng = np.random.default_rng(0)
    subjects = [f"s{i}" for i in rng.integers(0, 300, 900)]
    labels = (rng.random((900, 3)) < (0.5, 0.1, 0.03)).astype(float)
    splits = np.array(split_by_subject(subjects, labels, SHARES, 0))
    for name, share in zip(SPLITS, SHARES, strict=True):
        assert abs((splits == name).mean() - share) < 0.03
        got = labels[splits == name].sum(axis=0) / labels.sum(axis=0)
        assert np.abs(got - share).max() < 0.08, name


def test_seed_decides_and_the_order_of_rows_does_not():
    subjects = np.array([f"s{i % 40}" for i in range(120)])
    labels = np.random.default_rng(1).random((120, 2)).round()
    base = split_by_subject(subjects, labels, SHARES, 5)
    assert (
        base == split_by_subject(subjects, labels, SHARES, 5) != split_by_subject(subjects, labels, SHARES, 6)
    )
    turned = split_by_subject(subjects[::-1], labels[::-1], SHARES, 5)
    assert dict(zip(subjects, base, strict=True)) == dict(zip(subjects[::-1], turned, strict=True))


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.5, 0.5, -0.5), (0.5, 0.1, 0.1, 0.1), (np.nan, 0.5, 0.25, 0.25), (np.inf, 0, 0, 0)])
def test_bad_fractions(shares):
    with pytest.raises(InputError, match="fractions"):
        split_by_subject(["a", "b", "c", "d"], np.zeros((4, 0)), shares, 0)


def test_a_bad_seed():
    with pytest.raises(InputError, match="--seed: found -1"):
        split_by_subject(list("abcd"), np.zeros((4, 0)), SHARES, -1)


def test_too_few_subjects_is_an_empty_split():
    with pytest.raises(InputError, match="at least 4 subjects"):
        split_by_subject(["a", "b", "c"], np.zeros((3, 1)), SHARES, 0)


def test_subjects_that_share_a_picture_have_one_owner():
    owners = picture_owners(list("abcde"), ["1", "2", "1", "", ""], [(1, 3)])
    assert owners == ["a", "b", "a", "b", "e"]
    assert len(set(picture_owners(list("abcd"), ["1", "1", "2", "3"], [(1, 2), (2, 3)]))) == 1

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synthrad.data.images import files_digest
from synthrad.data.splits import near_copies, split_by_subject
from synthrad.errors import InputError
from synthrad.records import SPLITS, DatasetInfo, Manifest, empty_columns

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


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.5, 0.5, -0.5), (0.5, 0.1, 0.1, 0.1)])
def test_bad_fractions(shares):
    with pytest.raises(InputError, match="fractions"):
        split_by_subject(["a", "b", "c", "d"], np.zeros((4, 0)), shares, 0)


def test_too_few_subjects_is_an_empty_split():
    with pytest.raises(InputError, match="at least 4 subjects"):
        split_by_subject(["a", "b", "c"], np.zeros((3, 1)), SHARES, 0)


def manifest_of(folder, arrays):
    info = DatasetInfo("d", "d", roots={"here": str(folder)})
    columns = empty_columns(info, len(arrays))
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{i}.png")
        columns["channel:image"][i], columns["subject"][i] = f"{i}.png", f"s{i}"
        columns["digest"][i] = files_digest([folder / f"{i}.png"])
    return Manifest(pd.DataFrame(columns), info)


def test_near_copies_finds_copies_and_only_them(tmp_path):
    rng = np.random.default_rng(0)
    a, b, c = (np.kron(rng.integers(0, 200, (8, 8)), np.ones((8, 8))).astype(np.uint8) for _ in range(3))
    brighter = (a * 0.8 + 30).astype(np.uint8)
    half = a[::2, ::2]
    flat = np.full((64, 64), 9, np.uint8)
    manifest = manifest_of(tmp_path, [a, b, a, c, brighter, half, flat, flat + 1])
    pairs = near_copies(manifest)
    assert (0, 2) in pairs and (0, 4) in pairs and (0, 5) in pairs
    assert {i for p in pairs for i in p} == {0, 2, 4, 5}
    assert all(i < j for i, j in pairs)

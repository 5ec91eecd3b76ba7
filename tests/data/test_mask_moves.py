"""Moved masks: bent ones, and parts that move inside their organ."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from synthrad.data.mask_moves import check_transform, move
from synthrad.errors import InputError

LAYERS = {"organ": ("organ",), "lesion": ("a", "b")}


def disc(size, y, x, r):
    a, b = np.mgrid[:size, :size]
    return (a - y) ** 2 + (b - x) ** 2 <= r**2


def picture(*lesions, size=64):
    """An organ of radius 24 in the middle, and discs (y, x, radius, value)."""
    masks = np.zeros((2, size, size), np.int64)
    masks[0][disc(size, 32, 32, 24)] = 1
    for y, x, r, value in lesions:
        masks[1][disc(size, y, x, r)] = value
    return masks


def parts(layer, value):
    return ndimage.label(layer == value, np.ones((3, 3)))[1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.tuples(st.integers(20, 44), st.integers(20, 44), st.integers(1, 4), st.integers(1, 2)), min_size=1, max_size=4))
def test_what_lies_inside_its_organ_stays_inside(seed, lesions):
    masks = picture(*lesions)
    moved = move(masks, LAYERS, "within:organ", np.random.default_rng(seed))
    assert np.array_equal(moved[0], masks[0]) and moved.dtype == masks.dtype
    assert not (moved[1][moved[0] == 0] > 0).any()
    for value in (1, 2):
        before, after = (m[1] == value for m in (masks, moved))
        assert bool(before.any()) == bool(after.any())
        if before.sum() > 40:
            assert 0.5 < after.sum() / before.sum() < 1.6


def test_a_lesion_goes_all_over_its_organ_and_never_onto_another():
    masks, seen, counts = picture((32, 20, 4, 1), (32, 44, 4, 2)), np.zeros((64, 64)), []
    for seed in range(200):
        moved = move(masks, LAYERS, "within:organ", np.random.default_rng(seed))
        seen += moved[1] > 0
        counts.append((parts(moved[1], 1), parts(moved[1], 2), (moved[1] == 1).sum()))
        assert np.array_equal(moved, move(masks, LAYERS, "within:organ", np.random.default_rng(seed)))
    assert {c[:2] for c in counts} == {(1, 1)}
    assert 0.6 < np.mean([c[2] for c in counts]) / (masks[1] == 1).sum() < 1.4 and np.std([c[2] for c in counts]) > 0
    inner = disc(64, 32, 32, 18)
    assert (seen[inner] > 0).mean() > 0.95 and not seen[~disc(64, 32, 32, 24)].any()
    turned = seen / seen.sum()
    assert abs((turned * np.mgrid[:64, :64][0]).sum() - 32) < 2 and abs((turned * np.mgrid[:64, :64][1]).sum() - 32) < 2


def test_a_part_outside_its_organ_stays_and_nothing_moves_onto_it():
    masks = picture((5, 5, 3, 1), (32, 32, 6, 2))
    for seed in range(30):
        moved = move(masks, LAYERS, "within:organ", np.random.default_rng(seed))
        assert np.array_equal(moved[1] == 1, masks[1] == 1)
        assert not np.array_equal(moved[1], masks[1])


def test_a_part_that_reaches_out_reaches_out_no_further():
    masks = picture((32, 54, 5, 1))
    share = (masks[0] > 0)[masks[1] > 0].mean()
    assert 0.5 < share < 1
    for seed in range(30):
        moved = move(masks, LAYERS, "within:organ", np.random.default_rng(seed))
        assert (moved[0] > 0)[moved[1] > 0].mean() >= share


def test_what_fits_nowhere_stays_and_without_an_organ_nothing_moves():
    full = picture((32, 32, 24, 1))
    assert np.array_equal(move(full, LAYERS, "within:organ", np.random.default_rng(0))[1] > 0, full[1] > 0)
    bare = picture((32, 32, 5, 1))
    bare[0] = 0
    assert np.array_equal(move(bare, LAYERS, "within:organ", np.random.default_rng(0)), bare)


def test_elastic_bends_what_affine_only_turns():
    masks = np.zeros((2, 64, 64), np.int64)
    masks[0, 20:44, 12:52] = 1
    masks[1, 26:38, 26:38] = 2
    corners = []
    for transform in ("affine", "elastic"):
        moved = np.stack([move(masks, LAYERS, transform, np.random.default_rng(s)) for s in range(40)])
        assert set(np.unique(moved)) == {0, 1, 2} and moved.dtype == np.int64
        overlap = [((m[0] > 0) & (masks[0] > 0)).sum() / ((m[0] > 0) | (masks[0] > 0)).sum() for m in moved]
        assert 0.6 < np.mean(overlap) < 0.97
        assert all(((m[1] > 0) & (m[0] > 0)).sum() > 0.9 * (m[1] > 0).sum() for m in moved)  # one move for all layers
        # how far a straight edge is from a line: the top of each column
        tops = [np.array([np.argmax(m[0][:, x] > 0) for x in range(22, 42)]) for m in moved]
        corners.append(np.mean([np.abs(t - np.polyval(np.polyfit(np.arange(20), t, 1), np.arange(20))).max() for t in tops]))
    assert corners[1] > corners[0] + 0.1


def test_none_and_flip():
    masks = picture((32, 20, 4, 1))
    assert np.array_equal(move(masks, LAYERS, "none", np.random.default_rng(0)), masks)
    found = {np.array_equal(move(masks, LAYERS, "flip", np.random.default_rng(s)), masks[..., ::-1]) for s in range(20)}
    assert found == {True, False}


@pytest.mark.parametrize("transform, layers, words", [
    ("turn", None, "none, flip, affine, elastic, within:<layer>"), ("afine", None, "did you mean affine"),
    ("within:orgn", LAYERS, "did you mean organ"), ("within:organ", {"organ": ("organ",)}, "take affine"), ("flip", {"lung": ("left lung",)}, "without 'right lung'"), ("within:", LAYERS, "a layer whose"),
])
def test_moves_that_nobody_knows(transform, layers, words):
    with pytest.raises(InputError, match=words):
        check_transform(transform, layers, "mask_transform")
    check_transform("within:organ", LAYERS, "mask_transform")

"""Run lengths against masks drawn by hand, and back again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from synthrad.data.run_lengths import contradiction, decode, united
from synthrad.errors import InputError

# 3 rows, 4 columns; numbers run down the columns: 0 1 2 | 3 4 5 | 6 7 8 | 9 10 11
DRAWN = np.array([[0, 0, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1]], dtype=bool)


def runs(mask):
    """(start, length) of the runs down the columns."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel().astype(np.int8), [0]])))
    return edges[::2], edges[1::2] - edges[::2]


def relative(mask):
    starts, lengths = runs(mask)
    gaps = starts - np.concatenate([[0], (starts + lengths)[:-1]]) if len(starts) else starts
    return " ".join(f"{g} {n}" for g, n in zip(gaps, lengths, strict=True)) or "-1"


def absolute(mask):
    return " ".join(f"{s + 1} {n}" for s, n in zip(*runs(mask), strict=True)) or "-1"


def test_masks_drawn_by_hand():
    np.testing.assert_array_equal(decode("1 2 2 3 3 1", DRAWN.shape, "relative", "f"), DRAWN)
    np.testing.assert_array_equal(decode("2 2 6 3 12 1", DRAWN.shape, "absolute", "f"), DRAWN)
    assert relative(DRAWN) == "1 2 2 3 3 1" and absolute(DRAWN) == "2 2 6 3 12 1"


def test_the_published_example_of_siim():
    """The rows of the challenge's data page: a run of 23 pixels at pixel 387620 of a 1024 x 1024 picture, then 996 pixels on one of 33."""
    mask = decode("387620 23 996 33 986 43", (1024, 1024), "relative", "f")
    rows, columns = np.nonzero(mask)
    assert mask.sum() == 23 + 33 + 43 and set(columns) == {378, 379, 380}
    first = rows[columns == 378]
    assert (first.min(), first.max()) == (387620 % 1024, 387620 % 1024 + 22)
    assert rows[columns == 379].min() == 387620 % 1024 + 23 + 996 - 1024  # the next column, a little higher


@pytest.mark.parametrize("text", ["-1", " -1", "-1.0"])
@pytest.mark.parametrize("form", ["relative", "absolute"])
def test_empty(text, form):
    assert not decode(text, (3, 4), form, "f").any()


def test_whole_picture_and_overlap():
    assert decode("0 12", (3, 4), "relative", "f").all() and decode("1 12", (3, 4), "absolute", "f").all()
    assert decode("1 6 4 3", (3, 4), "absolute", "f").sum() == 6
    assert decode("0 0 0 1", (3, 4), "relative", "f").sum() == 1


@pytest.mark.parametrize("text", ["", "1", "1 2 3", "a b", "1.5 2", "9" * 30 + " 1", "1 2,3 4"])
def test_no_pairs_of_whole_numbers(text):
    with pytest.raises(InputError, match="row 3: found run lengths that are no pairs"):
        decode(text, (3, 4), "relative", "row 3")


@pytest.mark.parametrize(
    ("text", "form"), [("0 13", "relative"), ("11 2", "relative"), ("5 5 5 5", "relative"), ("-3 2", "relative"), ("0 1", "absolute"), ("12 2", "absolute"),
                       ("3 -2", "absolute"), (f"{2**62} {2**62}", "relative")]
)
def test_runs_that_leave_the_picture(text, form):
    with pytest.raises(InputError, match="row 3: found runs that leave the picture"):
        decode(text, (3, 4), form, "row 3")


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_round_trips(mask):
    np.testing.assert_array_equal(decode(relative(mask), mask.shape, "relative", "f"), mask)
    np.testing.assert_array_equal(decode(absolute(mask), mask.shape, "absolute", "f"), mask)


def test_regions_of_one_image_are_united():
    regions = [("row 2", "0 3"), ("row 3", "6 2"), ("row 4", "1 1")]
    assert united(regions, (4, 2), "relative").T.ravel().tolist() == [1, 1, 1, 0, 0, 0, 1, 1]
    assert not united([("row 2", "-1")], (4, 2), "relative").any()


def test_none_and_some_contradict_each_other():
    some, none = ("row 2", "0 3"), ("row 3", "-1")
    assert contradiction([]) == contradiction([some, some]) == contradiction([none, none]) == []
    assert contradiction([some, none]) == ["row 3: found -1, which says none, and run lengths in row 2 of the same image; remove one"]

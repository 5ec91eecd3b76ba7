"""What every strategy shares, by itself: the order of a pool, rows of cells, groups, targets and checks of arguments."""

import numpy as np
import pytest

from synthrad.errors import InputError
from synthrad.fusion.pool import (
    balanced_targets,
    check_choice,
    check_number,
    check_real,
    check_synthetic,
    check_to,
    count_groups,
    pool_order,
    take,
)

A, B = ("a=0",), ("a=1",)


@pytest.fixture
def pool(manifest_of):
    """12 rows of cell A and 8 of B."""
    return manifest_of([[0]] * 12 + [[1]] * 8, "synthetic")


def cells(manifest):
    return [(f"a={int(v)}",) for v in manifest.column("label:a")]


def test_the_order_belongs_to_the_images_and_not_to_the_rows(pool):
    turned = pool.take(np.random.default_rng(0).permutation(20))
    order, again = (list(m.column("digest")[pool_order(m)]) for m in (pool, turned))
    assert order == again and order != list(pool.column("digest")) and sorted(pool_order(pool)) == list(range(20))
    moved = pool.with_columns({"channel:image": [f"{k}.png" for k in range(20)]})
    assert np.array_equal(pool_order(moved), pool_order(pool))


def test_without_digests_the_order_goes_by_path_and_repeated_rows_keep_theirs(pool):
    bare = pool.with_columns({"digest": [""] * 20})
    turned = bare.take(range(19, -1, -1))
    assert list(bare.column("channel:image")[pool_order(bare)]) == list(turned.column("channel:image")[pool_order(turned)])
    assert list(pool_order(pool.take([3, 3, 3]))) == [0, 1, 2]
    assert pool_order(pool.take([])).shape == (0,)


def test_rows_are_the_first_of_their_cell_after_those_to_skip(pool):
    order = {c: [i for i in pool_order(pool) if cells(pool)[i] == c] for c in (A, B)}
    assert list(take(pool, cells(pool), {B: 3, A: 2}, "x")) == [*order[A][:2], *order[B][:3]]
    assert list(take(pool, cells(pool), {A: 2, B: 3}, "x", skip={A: 10})) == [*order[A][10:], *order[B][:3]]
    for nothing in ({}, {A: 0, ("a=?",): 0}):
        assert take(pool, cells(pool), nothing, "x").tolist() == []


def test_a_short_pool_counts_what_is_skipped_and_tells_every_number(pool):
    with pytest.raises(InputError) as e:
        take(pool, cells(pool), {A: 3, B: 2, (): 1}, "Matched", skip={A: 10, B: 7})
    assert str(e.value) == (
        "Matched: found a pool of 20 rows that cannot fill the arm (cell (all rows): 1 wanted, 0 available; cell a=0: 13 wanted, "
        "12 available; cell a=1: 9 wanted, 8 available); expected as many rows of each cell as the arm adds.\n"
        "  Repair: sample 3 more rows (1 more of (all rows); 1 more of a=0; 1 more of a=1), or lower the arm's dose"
    )


def test_ten_short_cells_are_told_and_all_are_counted(pool):
    wanted = {(f"b={k:02d}",): 2 for k in range(13)}
    with pytest.raises(InputError) as e:
        take(pool, cells(pool), wanted, "x")
    assert "cell b=09: 2 wanted, 0 available and 3 more cells)" in e.value.found and "b=10" not in str(e.value)
    assert e.value.repair.startswith("sample 26 more rows (2 more of b=00; ") and "b=09 and 3 more cells)" in e.value.repair


def test_rows_of_the_wrong_kind_are_counted_by_kind(manifest_of):
    real, made = manifest_of([[0]] * 4), manifest_of([[0]] * 4, "synthetic")
    check_real(real, "x")
    check_synthetic(made, "x")
    mixed = real + manifest_of([[0]] * 3, split=["test", "val", "test"], tag="t")
    with pytest.raises(InputError, match=r"^x: found rows of `real`: 2 of split test, 1 of split val; expected split train only\."):
        check_real(mixed, "x")
    with pytest.raises(InputError, match="rows of `real`: 4 of source synthetic; expected source real only"):
        check_real(made, "x")
    with pytest.raises(InputError, match="rows of `synthetic`: 4 of source real; expected source synthetic only"):
        check_synthetic(real, "x")


def test_a_row_counts_in_each_of_its_groups_and_a_subject_once():
    rows, subjects = count_groups([("a", "b"), ("a",), (), ("b",)], np.array(["p", "p", "q", "r"]))
    assert rows == {"a": 2, "b": 2} and subjects == {"a": 1, "b": 2} and rows["c"] == 0


@pytest.mark.parametrize(
    ("to", "cap", "targets"),
    [
        ("median", 9, {"a": 16, "b": 16, "c": 21}),  # nobody is cut
        ("max", 9, {"a": 21, "b": 21, "c": 21}),
        ("max", 1.25, {"a": 13, "b": 20, "c": 21}),  # 12.5 is rounded up
        (12, 9, {"a": 12, "b": 16, "c": 21}),
        (100, 1.1, {"a": 11, "b": 18, "c": 24}),
        (100, 1, {"a": 10, "b": 16, "c": 21}),
    ],
)
def test_targets(to, cap, targets):
    found, lines = balanced_targets({"a": 10, "b": 16, "c": 21}, dict.fromkeys("abc", 10), to, cap)
    assert found == targets and lines[0].startswith("balanced to ")
    goal = {"median": 16, "max": 21}.get(to, to)
    held = [n for n, v in {"a": 10, "b": 16, "c": 21}.items() if cap * v < goal]
    assert [x for x in lines if "held back" in x] == ([f"held back by the cap of {cap:g} times: {', '.join(held)}"] if held else [])


def test_a_class_of_nine_subjects_is_skipped_and_one_of_ten_is_not():
    found, lines = balanced_targets({"few": 40, "b": 10, "a": 20}, {"few": 9, "b": 10, "a": 11}, "max", 3)
    assert found == {"a": 20, "b": 20}
    assert lines == ["skipped, fewer than 10 subjects: few (9 subjects)", "balanced to 20 rows: a 20 -> 20, b 10 -> 20"]
    assert balanced_targets({"few": 40}, {"few": 9}, "max", 3) == (
        {}, ["skipped, fewer than 10 subjects: few (9 subjects)", "no class has 10 subjects: nothing to balance"])  # fmt: skip
    assert balanced_targets({}, {}, "median", 3) == ({}, ["no class has 10 subjects: nothing to balance"])


def test_the_last_digit_of_a_product_adds_no_row():
    assert 1.1 * 50 > 55 and balanced_targets({"a": 50}, {"a": 50}, 100, 1.1)[0] == {"a": 55}


def test_between_two_classes_the_median_is_rounded_up():
    assert balanced_targets({"a": 10, "b": 13}, {"a": 10, "b": 13}, "median", 9)[0] == {"a": 12, "b": 13}


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), True, "1", None])
def test_what_is_no_number_of_at_least_nought(value):
    with pytest.raises(InputError) as e:
        check_number("Matched.ratio", value, 0)
    assert str(e.value) == f"Matched.ratio: found {value!r}; expected a number of at least 0."


def test_sound_arguments_pass():
    check_number("k", 0, 0)
    check_number("k", 1.5, 1.5)
    check_choice("k", "b", ("a", "b"))
    for to in ("median", "max", 1, 250):
        check_to("k", to)


def test_bad_choices_and_goals_name_key_value_and_what_there_is():
    with pytest.raises(InputError, match=r"^k: found 'c'; expected one of a, b\.$"):
        check_choice("k", "c", ("a", "b"))
    with pytest.raises(InputError, match=r"^k: found '25'; expected median, max or a number of rows\.$"):
        check_to("k", "25")
    for to in (0, True, None):
        with pytest.raises(InputError, match="a number of at least 1"):
            check_to("k", to)

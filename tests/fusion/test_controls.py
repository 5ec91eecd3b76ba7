from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from synthrad.errors import InputError
from synthrad.fusion import (
    AugmentedReal,
    Cells,
    ClassBalanced,
    DuplicateReal,
    Matched,
    RealOnly,
    SyntheticOnly,
)

quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rng(seed=0):
    return np.random.default_rng(seed)


@quick
@given(
    labels=st.lists(st.tuples(*[st.integers(0, 1)] * 2), min_size=3, max_size=40),
    like=st.sampled_from([Matched(1), Matched(2.5), ClassBalanced()]),
    seed=st.integers(0, 5),
)
@example(labels=[(0, 0), (0, 0), (0, 0), (0, 1)], like=Matched(2.5), seed=0)  # exactly 0.05 away
def test_controls_add_what_the_arm_adds_as_real_rows(manifest_of, labels, like, seed):
    real = manifest_of(labels, subjects=[f"s{i // 2}" for i in range(len(labels))])
    duplicate, augmented = DuplicateReal(like), AugmentedReal(like)
    twice, strong = duplicate.fuse(real, None, rng(seed)), augmented.fuse(real, None, rng(seed))
    assert duplicate.adds(real) == like.adds(real) and not duplicate.needs(real)
    assert len(twice) == len(real) + like.adds(real) == len(strong)
    assert set(twice.column("source")) == {"real"} and set(twice.column("split")) == {"train"}
    repeats = twice[len(real) :]
    assert Counter(Cells().resolve(real).of(repeats)) == like.needs(real)
    assert set(repeats.column("digest")) <= set(real.column("digest"))
    assert list(twice.column("digest")) == list(strong.column("digest"))  # the same repeats, only transformed
    seeds = strong.table["augment"]
    assert seeds[: len(real)].isna().all() and seeds[len(real) :].notna().all()
    assert seeds.dropna().is_unique and twice.table["augment"].isna().all()
    assert strong.digest == augmented.fuse(real, None, rng(seed)).digest


def test_augmented_as_the_masks_of_the_arm_were_moved(manifest_of):
    real = manifest_of([[1]] * 6 + [[0]] * 6)
    made = AugmentedReal(Matched(1), how="elastic").fuse(real, None, rng())
    assert list(made.column("origin:augment")) == [""] * 12 + ["elastic"] * 12
    with pytest.raises(InputError, match="did you mean elastic"):
        AugmentedReal(Matched(1), how="elastik")


def test_repeats_are_balanced_over_subjects(manifest_of):
    real = manifest_of(
        [[1]] * 12 + [[0]] * 36, subjects=["many"] * 10 + ["p", "q"] + list(map(str, range(36)))
    )
    repeats = DuplicateReal(Matched(2)).fuse(real, None, rng())[48:]
    assert Counter(repeats.where(**{"label:a": 1.0}).column("subject")) == {"many": 8, "p": 8, "q": 8}


def test_a_cell_without_real_rows_goes_to_the_nearest_and_says_so(manifest_of):
    real = manifest_of([[1, 1]] * 10 + [[1, 0]] * 20 + [[0, 0]] * 5)
    arm = ClassBalanced(to="max", over="single")
    assert arm.needs(real) == {("a=0", "b=1"): 20}
    control = DuplicateReal(arm)
    repeats = control.fuse(real, None, rng())[35:]
    assert Counter(Cells().of(repeats)) == {("a=1", "b=1"): 20}  # as near as a=0, b=0, and more rows
    assert any("no real row of a=0, b=1: its 20 repeats come from" in line for line in control.log)


def test_a_control_follows_the_arm_where_the_pool_decides(manifest_of):
    real = manifest_of([[0, 0]] * 9 + [[0, 1]] * 5 + [[1, 0]] * 5 + [[1, 1]])
    pool = manifest_of([[0, 0]] * 30 + [[0, 1]] * 30 + [[1, 0]] * 30, "synthetic")
    made = Matched(1).fuse(real, pool, rng()).where(source="synthetic")
    repeats = DuplicateReal(Matched(1)).fuse(real, pool, rng())[20:]
    assert Counter(Cells().of(repeats)) == Counter(Cells().of(made))


@pytest.mark.parametrize(
    "like", [RealOnly(), SyntheticOnly(), DuplicateReal(Matched())], ids=lambda a: type(a).__name__
)
def test_arms_without_controls_are_refused(like):
    with pytest.raises(InputError, match="like: found"):
        AugmentedReal(like)


def test_a_control_of_an_arm_that_adds_nothing_is_real_only(manifest_of):
    real = manifest_of([[1]] * 5)
    assert DuplicateReal(Matched(0)).fuse(real, None, rng()) is real
    assert pd.isna(real.table["augment"]).all()


def test_rows_of_another_split_are_refused(manifest_of):
    with pytest.raises(InputError, match="1 of split test"):
        DuplicateReal(Matched()).fuse(manifest_of([[1], [0]], split=["train", "test"]), None, rng())

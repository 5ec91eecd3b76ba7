from collections import Counter
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthrad.errors import InputError
from synthrad.fusion import Cells, ClassBalanced, Matched, MinimalBalanced, RealOnly, SyntheticOnly

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LABELS = st.lists(st.tuples(*[st.integers(0, 1)] * 3), min_size=4, max_size=40)
ARMS = (RealOnly(), Matched(1), Matched(0.5), Matched(2), SyntheticOnly(), ClassBalanced(), MinimalBalanced())


def rng():
    return np.random.default_rng(0)


def digests(manifest, source="synthetic"):
    return list(manifest.where(source=source).column("digest"))


@quick
@given(labels=LABELS, arm=st.sampled_from(ARMS))
def test_what_every_arm_keeps(manifest_of, pool_of, labels, arm):
    """Rows added are `needs`, cell by cell; all real rows or none; split train only; the same again on a second call."""
    real = manifest_of(labels * 2)  # a half of each cell is whole
    pool = pool_of(real, 40)
    needs = arm.needs(real)
    fused = arm.fuse(real, pool, rng())
    made = fused.where(source="synthetic")
    assert Counter(Cells().resolve(real).of(made)) == needs
    assert arm.adds(real) == needs.total() == len(made)
    assert digests(fused, "real") == (digests(real, "real") if arm.keeps_real else [])
    assert set(fused.column("split")) == {"train"}
    assert len(set(digests(fused))) == len(made) and set(digests(fused)) <= set(digests(pool))
    assert (
        fused.digest == arm.fuse(real, pool, np.random.default_rng(7)).digest
    )  # seeds train on the same rows
    assert arm.log


@quick
@given(labels=LABELS, low=st.floats(0, 1.5), more=st.floats(1, 2))
def test_matched_counts_proportions_and_nested_doses(manifest_of, pool_of, labels, low, more):
    with patch("synthrad.fusion.strategies.MOST_DISTANCE", 1.0):  # rounding in sets as small as these has its own test
        real = manifest_of(labels)
        pool = pool_of(real, 5)
        have, needs = Counter(Cells().of(real)), Matched(low).needs(real)
        assert needs.total() == int(np.floor(low * len(real) + 0.5))
        if needs:
            scale = needs.total() / len(real)
            assert all(abs(needs[c] - scale * n) < 1 for c, n in have.items())
        small, large = Matched(low).fuse(real, pool, rng()), Matched(low + more).fuse(real, pool, rng())
        assert set(digests(small)) <= set(digests(large))


def test_a_ratio_too_small_for_its_cells_is_an_error(manifest_of):
    real = manifest_of([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)] * 3 + [[0, 0, 0]] * 4)
    with pytest.raises(InputError, match=r"for '[abc]'; expected at most 0\.05\.\s+Repair: raise Matched\.ratio above 0\.1 "):
        Matched(0.1).needs(real)  # 3 rows for 8 cells
    assert Matched(1).needs(real).total() == 28


def test_rows_too_few_for_their_cells_match_the_marginals(manifest_of):
    real = manifest_of([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)] * 3)
    arm = Matched(0.1)  # 2 rows; by largest remainders both would be normal but for c
    assert sum(n * np.array([p[-1] == "1" for p in c]) for c, n in arm.needs(real).items()).tolist() == [1, 1, 1]
    assert "2 rows are few for 8 cells: class marginals matched instead" in arm.log


def test_pool_order_survives_a_top_up(manifest_of, pool_of):
    real = manifest_of([[0], [1]] * 5)
    pool = pool_of(real, 3)
    topped = pool + pool_of(real, 3, tag="more")
    first = [d for d in digests(Matched(6).fuse(real, topped, rng())) if not d.startswith("more")]
    assert first == digests(Matched(3).fuse(real, pool, rng()))


@pytest.mark.parametrize(
    "arm", [a for a in ARMS if not isinstance(a, RealOnly)], ids=lambda a: type(a).__name__
)
@pytest.mark.parametrize("split", ["val", "audit", "test"])
def test_rows_of_another_split_are_refused(manifest_of, pool_of, arm, split):
    real = manifest_of([[0], [1]] * 12)
    pool = pool_of(real, 12)
    with pytest.raises(InputError, match=f"1 of split {split}"):
        arm.fuse(real + manifest_of([[1]], split=split, tag="t"), pool, rng())
    with pytest.raises(InputError, match=f"1 of split {split}"):
        Matched().fuse(real, pool + manifest_of([[1]], "synthetic", split, tag="t"), rng())


def test_real_and_synthetic_rows_are_not_mistaken_for_each_other(manifest_of, pool_of):
    real = manifest_of([[0], [1]] * 3)
    pool = pool_of(real, 2)
    with pytest.raises(InputError, match="1 of source synthetic"):
        Matched().fuse(real + pool.take([0]), pool, rng())
    with pytest.raises(InputError, match="1 of source real"):
        SyntheticOnly().fuse(real, pool + real.take([0]), rng())
    with pytest.raises(InputError, match="no synthetic set"):
        Matched().fuse(real, None, rng())
    assert RealOnly().fuse(real, None, rng()) is real


def test_a_short_pool_names_cell_numbers_and_repair(manifest_of):
    real = manifest_of([[0]] * 4 + [[1]] * 6)
    pool = manifest_of([[0]] * 4 + [[1]] * 2, "synthetic")
    with pytest.raises(InputError) as error:
        Matched(1).fuse(real, pool, rng())
    assert "cell a=1: 6 wanted, 2 available" in error.value.found
    assert "sample 4 more rows (4 more of a=1)" in error.value.repair


def test_matched_falls_back_to_marginals_where_the_pool_lacks_a_cell(manifest_of):
    real = manifest_of([[0, 0]] * 9 + [[0, 1]] * 5 + [[1, 0]] * 5 + [[1, 1]])
    pool = manifest_of([[0, 0]] * 30 + [[0, 1]] * 30 + [[1, 0]] * 30, "synthetic")
    arm = Matched(1)
    made = arm.fuse(real, pool, rng()).where(source="synthetic")
    assert len(made) == 20 and made.labels.sum(axis=0).tolist() == [6, 6]  # the marginals of real
    assert any("no row of 1 wanted cells [a=1, b=1" in line for line in arm.log)
    assert any("total variation distance to the real cells" in line for line in arm.log)


def test_a_pool_that_cannot_match_the_marginals_is_an_error_with_the_numbers(manifest_of):
    real = manifest_of([[0]] * 8 + [[1]] * 2)
    with pytest.raises(InputError, match=r"distance of 0\.2000 for 'a'; expected at most 0\.05"):
        Matched(1).fuse(real, manifest_of([[0]] * 30, "synthetic"), rng())


def test_too_many_cells_are_matched_by_marginals(manifest_of, pool_of):
    labels = [[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8) for _ in range(10)]
    arm = Matched(1, max_cells=4)
    with pytest.raises(InputError, match="raise max_cells"):
        arm.needs(manifest_of([*labels, *[[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]] * 5]))
    real = manifest_of([*labels, *[[0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 1]] * 2])
    needs = arm.needs(real)
    assert len(needs) <= 4 and needs.total() == len(real)
    assert Counter(Cells().of(arm.fuse(real, pool_of(real, 4), rng()).where(source="synthetic"))) == needs


def test_synthetic_only_on_synthetic_validation(manifest_of, pool_of):
    real, val = manifest_of([[0]] * 6 + [[1]] * 4), manifest_of([[0], [1]], split="val", tag="v")
    arm = SyntheticOnly(select="synthetic_val", held_out=0.5)
    assert arm.needs(real) == {("a=0",): 9, ("a=1",): 6} and arm.adds(real) == 10
    pool = pool_of(real, 2)
    fused, held = arm.fuse(real, pool, rng()), arm.selection(real, val, pool)
    assert len(fused) == 10 and len(held) == 5 and not set(digests(fused)) & set(digests(held))
    assert set(held.column("split")) == {"val"} and set(held.column("source")) == {"synthetic"}
    assert SyntheticOnly().selection(real, val, pool) is val
    with pytest.raises(InputError, match="9 wanted, 6 available"):
        arm.fuse(real, pool_of(real, 1), rng())


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Matched(-1), "Matched.ratio"),
        (lambda: Matched(float("nan")), "Matched.ratio"),
        (lambda: ClassBalanced(cap=0.5), "ClassBalanced.cap"),
        (lambda: ClassBalanced(to="mean"), "ClassBalanced.to"),
        (lambda: ClassBalanced(over="all"), "ClassBalanced.over"),
        (lambda: MinimalBalanced(at_least="some"), "MinimalBalanced.at_least"),
        (lambda: SyntheticOnly(select="val"), "SyntheticOnly.select"),
    ],
)
def test_bad_arguments_name_the_key(make, key):
    with pytest.raises(InputError) as error:
        make()
    assert error.value.where == key

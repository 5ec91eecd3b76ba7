from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthrad.errors import InputError
from synthrad.fusion import Cells, ClassBalanced, GroupBalanced, MinimalBalanced

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rng():
    return np.random.default_rng(0)


def test_class_balanced_reaches_the_median_with_single_label_cells(manifest_of, pool_of):
    real = manifest_of(
        [[1, 0, 0]] * 40 + [[0, 1, 0]] * 20 + [[0, 0, 1]] * 10 + [[0, 0, 0]] * 50 + [[1, 1, 1]] * 2
    )
    arm = ClassBalanced()
    assert arm.needs(real) == {
        ("a=0", "b=0", "c=1"): 10
    }  # 42, 22, 12: c to 22, and not through the crowded cell
    assert any("overshoot 0" in line for line in arm.log)
    assert any(line.startswith("co-occurrence of a and b") for line in arm.log)
    after = arm.fuse(real, pool_of(real, 3), rng()).labels.sum(axis=0)
    assert after.tolist() == [42, 22, 22]


def test_the_cap_holds_a_class_back_and_rare_subjects_skip_it(manifest_of):
    labels = [[1, 0, 0]] * 200 + [[0, 1, 0]] * 10 + [[0, 0, 1]] * 30
    subjects = [*map(str, range(210)), *[f"r{i % 9}" for i in range(30)]]
    arm = ClassBalanced(to="max", cap=3)
    assert arm.needs(manifest_of(labels, subjects=subjects)) == {("a=0", "b=1", "c=0"): 20}
    assert any("fewer than 10 subjects: c (9 subjects)" in line for line in arm.log)
    assert any("cap of 3 times: b" in line for line in arm.log)


def rows_with_a_rare_class(draw):
    """20-60 rows of three classes, and a fourth on at most 9 of them."""
    rows = draw(st.lists(st.tuples(*[st.integers(0, 1)] * 3), min_size=20, max_size=60))
    rare = draw(st.sets(st.integers(0, len(rows) - 1), max_size=9))
    return [(*row, int(i in rare)) for i, row in enumerate(rows)]


@quick
@given(
    labels=st.composite(rows_with_a_rare_class)(),
    cap=st.floats(1, 4),
    to=st.sampled_from(["median", "max", 25]),
    over=st.sampled_from(["observed", "single"]),
)
def test_every_balanced_class_reaches_its_target(manifest_of, labels, cap, to, over):
    real = manifest_of(labels)
    n = real.labels.sum(axis=0)
    balanced = n[n >= 10]  # every row is a subject
    arm = ClassBalanced(to=to, cap=cap, over=over)
    needs = arm.needs(real)
    if not len(balanced):
        assert not needs and any("nothing to balance" in line for line in arm.log)
        return
    goal = {"median": np.median(balanced), "max": balanced.max()}.get(to, to)
    added = np.zeros(4)
    for cell, number in needs.items():
        classes = Cells().positives(cell)
        assert classes, "a normal row was added"
        assert over == "observed" or len(classes) == 1
        added += number * np.isin([*"abcd"], classes)
    targets = np.maximum(n, np.minimum(goal, cap * n))
    assert (n + added >= targets - 1e-6)[n >= 10].all()
    if over == "single":
        assert (n + added < targets + 1)[n >= 10].all()
    names = [*"abcd"]
    short = {c for c, m, t in zip(names, n, targets, strict=True) if m >= 10 and t > m}
    clean = [set(p) for p in map(Cells().positives, Cells().of(real)) if all(n[names.index(c)] >= 10 for c in p)]
    if over == "single" or short <= set().union(*clean):  # skipped classes grow only where nothing else helps
        assert not added[n < 10].any()


def test_a_skipped_class_comes_along_only_where_a_class_has_no_cell_without_it(manifest_of):
    labels = [[1, 0, 1]] * 3 + [[1, 0, 0]] * 11 + [[0, 0, 0]] * 9  # c has 3 subjects
    arm = ClassBalanced(to=20)
    assert arm.needs(manifest_of(labels)) == {("a=1", "b=0", "c=0"): 6}
    assert not any("come with them" in line for line in arm.log)
    arm.needs(manifest_of([[1, 1, 0]] * 6 + [[0, 1, 1]] * 6))  # b is always seen with a or c, both skipped
    assert "8 positives of skipped classes come with them: no other cells hold what is lifted" in arm.log


@pytest.mark.parametrize("over", ["observed", "single"])
def test_a_deficit_is_shared_among_attributes_as_the_real_rows_are(manifest_of, over):
    labels = [[1, 0]] * 80 + [[0, 1]] * 40
    real = manifest_of(labels, attributes={"sex": ["F", "M"] * 40 + ["F"] * 30 + ["M"] * 10})
    arm = ClassBalanced(to="max", cap=1.5, over=over, cells=Cells(attributes=["sex"]))
    assert arm.needs(real) == {("a=0", "b=1", "sex=F"): 15, ("a=0", "b=1", "sex=M"): 5}
    assert any("20 rows in 2 cells, overshoot 0" in line for line in arm.log)


def test_single_class_cells_keep_the_observed_attributes(manifest_of):
    real = manifest_of([[1, 1]] * 10 + [[1, 0]] * 20, attributes={"sex": ["F"] * 10 + ["M"] * 20})
    needs = ClassBalanced(to="max", over="single", cells=Cells(attributes=["sex"])).needs(real)
    assert needs == {("a=0", "b=1", "sex=F"): 20}


def test_minimal_balanced_fills_rare_combinations_of_two_subjects_or_more(manifest_of, pool_of):
    labels = [[1, 1, 0]] * 3 + [[1, 0, 1]] * 5 + [[0, 1, 1]] * 2 + [[1, 0, 0]] + [[0, 0, 0]] * 29
    subjects = [*"abc", *"defgh", "alone", "alone", *map(str, range(30))]
    real = manifest_of(labels, subjects=subjects)
    arm = MinimalBalanced(at_least=6)
    assert arm.needs(real) == {("a=1", "b=1", "c=0"): 3, ("a=1", "b=0", "c=1"): 1}
    assert any("combinations of a single subject: a=0, b=1, c=1" in line for line in arm.log)
    automatic = MinimalBalanced(budget=0.25)  # 10 rows of 40: k = 9 adds 6 + 4
    assert automatic.needs(real) == {("a=1", "b=1", "c=0"): 6, ("a=1", "b=0", "c=1"): 4}
    assert not MinimalBalanced(budget=0.0).needs(real)
    assert len(automatic.fuse(real, pool_of(real, 4), rng())) == 50


@quick
@given(st.lists(st.tuples(*[st.integers(0, 1)] * 3), min_size=8, max_size=60), st.floats(0, 1))
def test_minimal_balanced_uses_its_budget_and_no_more(manifest_of, labels, budget):
    real = manifest_of(labels)
    have = Counter(c for c in Cells().of(real) if len(Cells().positives(c)) >= 2)
    able = {c: n for c, n in have.items() if n >= 2}
    needs = MinimalBalanced(budget=budget).needs(real)
    assert needs.total() <= budget * len(real) + 1e-6 and set(needs) <= set(able)
    if able:
        k = max(needs[c] + able[c] for c in needs) if needs else min(able.values())
        assert needs == Counter({c: k - n for c, n in able.items() if n < k})
        assert sum(max(0, k + 1 - n) for n in able.values()) > budget * len(real) - 1e-6


def test_group_balanced_lifts_small_groups_and_keeps_their_labels(manifest_of):
    labels = [[0]] * 20 + [[1]] * 10 + [[0]] * 5 + [[1]] * 5 + [[1]] * 4 + [[0]] * 2
    sex = ["F"] * 30 + ["M"] * 10 + ["X"] * 4 + [""] * 2
    real = manifest_of(labels, attributes={"sex": sex})
    arm = GroupBalanced(by=["sex"], to="max", cap=2)
    assert arm.needs(real) == {("sex=M",): 10}
    assert any("sex=X (4 subjects)" in line for line in arm.log)
    assert any("2 real rows without a value of sex" in line for line in arm.log)
    pool = manifest_of(
        [[1]] * 40 + [[0]] * 6, "synthetic", attributes={"sex": ["M"] * 46}
    )  # skewed by other arms
    made = arm.fuse(real, pool, rng()).where(source="synthetic")
    assert len(made) == 10 and made.labels.sum() == 5 and set(made.column("attribute:sex")) == {"M"}
    with pytest.raises(InputError, match="cell sex=M: 10 wanted, 8 available"):
        arm.fuse(real, pool.take(range(8)), rng())


def test_an_unknown_attribute_names_the_key(manifest_of):
    with pytest.raises(InputError, match="cells.attributes: found 'sex'"):
        GroupBalanced(by=["sex"]).needs(manifest_of([[1]] * 3))

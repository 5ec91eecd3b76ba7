from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthrad.fusion.allocation import (
    balance,
    cell_distance,
    largest_remainder,
    marginal_distance,
    match_marginals,
)

quick = settings(max_examples=50, deadline=None)


@quick
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(0, 200))
def test_largest_remainder_sums_up_and_stays_within_one_of_the_quota(weights, total):
    shares = largest_remainder(weights, total)
    quotas = [total * w / sum(weights) for w in weights]
    assert sum(shares) == total
    assert all(np.floor(q + 1e-9) <= s <= np.ceil(q - 1e-9) for s, q in zip(shares, quotas, strict=True))
    given_up = [
        q - np.floor(q + 1e-9) for s, q in zip(shares, quotas, strict=True) if s <= np.floor(q + 1e-9)
    ]
    taken = [q - np.floor(q + 1e-9) for s, q in zip(shares, quotas, strict=True) if s > np.floor(q + 1e-9)]
    assert not taken or not given_up or min(taken) >= max(given_up) - 1e-6


def test_largest_remainder_of_a_whole_multiple_is_exact():
    assert largest_remainder([3, 1, 7], 22) == [6, 2, 14]
    assert largest_remainder([1, 1, 1], 2) == [1, 1, 0]


@quick
@given(st.data())
def test_balance_is_optimal_in_both_objectives(data):
    classes = data.draw(st.integers(1, 3))
    possible = [c for c in product((0, 1), repeat=classes) if any(c)]
    cells = data.draw(st.lists(st.sampled_from(possible), min_size=1, max_size=4, unique=True))
    membership = np.array(cells).T
    deficits = np.array([data.draw(st.integers(0, 4)) if row.any() else 0 for row in membership])
    x = balance(membership, deficits)
    best = min(
        (int((membership @ np.array(y) - deficits).sum()), sum(y))
        for y in product(range(int(deficits.max(initial=0)) + 1), repeat=len(cells))
        if (membership @ np.array(y) >= deficits).all()
    )
    assert (membership @ x >= deficits).all() and (x >= 0).all()
    assert (int((membership @ x - deficits).sum()), int(x.sum())) == best


def test_least_overshoot_comes_before_fewest_rows():
    # one crowded cell could serve both classes in 5 rows with overshoot 3; single cells need 7 rows and overshoot 0
    x = balance(np.array([[1, 1, 0], [1, 0, 1]]), np.array([5, 2]))
    assert x.tolist() == [2, 3, 0]


@quick
@given(st.data())
def test_marginals_are_matched_as_well_as_any_selection_of_single_exchanges(data):
    cells = list(product(("a=0", "a=1"), ("b=0", "b=1")))
    target = Counter({c: data.draw(st.integers(1, 9)) for c in cells})
    limits = {c: data.draw(st.integers(0, 6)) for c in cells}
    total = data.draw(st.integers(1, 8))
    if sum(limits.values()) < total:
        with pytest.raises(ValueError):
            match_marginals(target, total, limits, {})
        return
    found = match_marginals(target, total, limits, {})
    assert found.total() == total and all(found[c] <= limits[c] for c in cells)

    def error(x):
        return sum(
            (
                sum(n for c, n in x.items() if p in c)
                - total / target.total() * sum(n for c, n in target.items() if p in c)
            )
            ** 2
            for p in ("a=0", "a=1", "b=0", "b=1")
        )

    for give, take in product(cells, cells):  # no exchange of one row is better
        if give != take and found[give] and found[take] < limits[take]:
            other = found.copy()
            other[give] -= 1
            other[take] += 1
            assert error(other) >= error(found) - 1e-6


def test_distances():
    a, b = Counter({("p=0", "q=0"): 5, ("p=1", "q=1"): 5}), Counter({("p=0", "q=1"): 5, ("p=1", "q=0"): 5})
    assert cell_distance(a, b) == 1.0
    assert marginal_distance(a, b)[0] == 0.0
    assert marginal_distance(a, Counter({("p=0", "q=0"): 4, ("p=1", "q=0"): 6})) == (0.5, "q")

import itertools
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from synthrad.errors import InputError
from synthrad.statistics.exchangeability import SHAPE, TESTS, Exchange


def exchange(members=60, others=50, strata=None, **more):
    member = np.arange(members + others) < members
    return Exchange(member, np.zeros(members + others) if strata is None else strata, **more)


def test_against_closed_forms_of_one_stratum():
    """The leading run and the top are hypergeometric, the ranks Wilcoxon's; permutations come within their own error."""
    made, rng = exchange(permutations=20_000), np.random.default_rng(0)
    for shift in (0.0, 0.3):
        scores = rng.standard_normal(110) + shift * (np.arange(110) < 60)
        found = made.test(scores)
        order = np.argsort(-scores)
        leading = next(k for k, i in enumerate(order) if i >= 60)
        exact_run = np.prod([(60 - k) / (110 - k) for k in range(leading)])
        exact_top = stats.hypergeom(110, 60, 6).sf((order[:6] < 60).sum() - 1)
        exact_ranks = stats.mannwhitneyu(scores[:60], scores[60:], alternative="greater")
        assert found.run == leading and found.top_of == 6 and found.top_expected == pytest.approx(6 * 60 / 110, abs=0.05)
        assert found.p["run"] == pytest.approx(exact_run, abs=0.015) and found.p["top"] == pytest.approx(exact_top, abs=0.015)
        assert found.p["ranks"] == pytest.approx(exact_ranks.pvalue, abs=0.015)
        assert found.auc == pytest.approx(exact_ranks.statistic / 3000)
        assert found.combined == min(1, 4 * min(found.p.values())) and found.smallest_rate == 1 / 51


def test_every_assignment_within_strata_is_as_likely():
    """A set so small that all assignments can be listed: the p of the ranks is their share."""
    import synthrad.statistics.exchangeability as module

    member, strata = np.array([1, 1, 0, 0, 1, 0], bool), np.array([0, 0, 0, 0, 1, 1])
    scores = np.array([3.0, 1.0, 2.0, 0.5, 9.0, 8.0])
    fewest, module.FEWEST = module.FEWEST, 1
    try:
        found = Exchange(member, strata, permutations=20_000).test(scores)
    finally:
        module.FEWEST = fewest
    weight = np.array([4, 2, 3, 1, 0, 0]) / 5 + np.array([0, 0, 0, 0, 2, 1]) / 3
    every = [sum(weight[list(a)]) + weight[b] for a in itertools.combinations(range(4), 2) for b in (4, 5)]
    assert found.p["ranks"] == pytest.approx(np.mean(np.array(every) >= weight[member].sum() - 1e-9), abs=0.015)


@pytest.mark.parametrize("law", ["gumbel", "standard_normal"])
def test_clean_scores_alarm_no_more_often_than_they_may(law):
    rng = np.random.default_rng(1)
    made = exchange(strata=rng.integers(1, 3, 110), permutations=499)
    alarms = sum(made.test(getattr(rng, law)(size=110)).combined <= 0.05 for _ in range(400))
    assert stats.beta.ppf(0.005, alarms + 0.5, 400.5 - alarms) < 0.05


def test_each_test_sees_what_it_is_for():
    made, rng = exchange(permutations=1999), np.random.default_rng(2)
    clean = rng.gumbel(size=110)
    one, some, all_ = clean.copy(), clean.copy(), clean.copy()
    one[3] = clean.max() + 18
    some[:9] = clean.max() + rng.random(9)
    all_[:60] += 1
    assert made.test(one).p["tail"] < 0.005 < 0.4 < made.test(one).p["run"]
    assert made.test(some).p["run"] < 0.01 and made.test(some).p["top"] < 0.05 and made.test(some).run >= 9
    assert made.test(all_).p["ranks"] < 0.01
    assert set(made.test(clean).p) == set(TESTS)


def test_a_few_copies_that_chance_does_not_make_are_seen_together():
    """Five at 13 deviations, as noised copies of radiographs lie: a `run` of five has p = (198 / 288)^5 = 0.15."""
    made, rng, seen = exchange(198, 90), np.random.default_rng(4), Counter()
    for _ in range(50):
        scores = rng.gumbel(size=288)
        scores[:5] = scores[5:].mean() + scores[5:].std() * rng.normal(13, 2, 5)
        result = made.test(scores)
        seen.update(t for t, p in result.p.items() if p <= 0.05 / 28)
    assert seen["tail"] >= 48 and max(seen["run"], seen["top"], seen["ranks"]) <= 5


def test_the_tail_is_as_rare_as_it_says_under_its_own_law():
    made, rng = exchange(60, 50, permutations=9), np.random.default_rng(5)
    p = np.array([made.test(np.expm1(SHAPE * rng.gumbel(size=110)) / SHAPE).p["tail"] for _ in range(3000)])
    for level in (0.01, 0.05, 0.3):
        assert stats.binomtest(int((p <= level).sum()), len(p), level).pvalue > 0.001


def test_ties_are_no_evidence():
    made = exchange()
    found = made.test(np.zeros(110))
    assert found.run == 0 and found.auc == 0.5 and found.combined == 1
    flat = np.zeros(110)
    flat[:60] = 1.0
    assert made.test(flat).p["run"] < 0.01 and made.test(flat).p["tail"] == 1


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="19 and 50 subjects"):
        exchange(19, 50)
    with pytest.raises(InputError, match="0 and 0 subjects"):  # members and non-members never share a stratum
        exchange(strata=np.arange(110) < 60)
    with pytest.raises(InputError, match="finite"):
        exchange().test(np.full(110, np.nan))

import numpy as np

from synthrad.study.gathering import _copies


def test_a_source_of_copies_is_named_with_its_numbers_and_a_fair_one_is_not():
    rng = np.random.default_rng(0)
    null = rng.normal(0.8, 0.03, 40)
    line = _copies("leaky", np.r_[rng.normal(0.8, 0.03, 20), np.full(30, 0.999)], null)
    assert "'leaky' holds near copies" in line and "of 50 images" in line and f"more than {null.max():.3f}" in line
    assert _copies("fair", rng.normal(0.8, 0.03, 50), null) == ""

"""The mixed model against the balanced layout's moments, and what it says where it fails."""

import numpy as np
import pytest
from scipy.stats import norm

from synthrad.statistics.layouts import two_way
from synthrad.statistics.mixed import mixed_model


def crossed(rng, seeds=5, subjects=25, seed=0.02, subject=0.03, residual=0.03, mean=0.01):
    return mean + rng.normal(0, seed, (seeds, 1)) + rng.normal(0, subject, (1, subjects)) + rng.normal(0, residual, (seeds, subjects))


def test_reml_of_balanced_data_is_the_layout():
    """Where no component is at its bound REML equals the moments of the two-way layout (Searle et al., 1992, section 4.8)."""
    d = crossed(np.random.default_rng(0))
    found, layout = mixed_model(d), two_way(d)
    assert found.converged and found.value == pytest.approx(layout.value)
    components = [(layout.ms_seed - layout.ms_residual) / 25, (layout.ms_subject - layout.ms_residual) / 5, layout.ms_residual]
    assert [found.variance_seed, found.variance_subject, found.variance_residual] == pytest.approx(components, rel=1e-3)
    error = layout.variance**0.5
    assert (found.low, found.high) == pytest.approx((layout.value - 1.96 * error, layout.value + 1.96 * error), rel=1e-3)
    assert found.p == pytest.approx(norm.sf(layout.value / error), rel=1e-3)
    low, high = layout.interval()
    assert low < found.low and high > found.high  # Wald's interval knows no degrees of freedom


def test_what_did_not_come_out_is_said():
    rng = np.random.default_rng(1)
    assert "needs 3 seeds" in mixed_model(crossed(rng, seeds=2)).note
    assert "needs 3 seeds and 10 subjects, has 5 and 9" in mixed_model(crossed(rng, subjects=9)).note
    assert "more than 800" in mixed_model(np.zeros((5, 200))).note
    assert "all differences are equal" in mixed_model(np.full((5, 20), 0.3)).note
    failed = [m for m in (mixed_model(crossed(np.random.default_rng(s), subjects=12, seed=0, subject=0)) for s in range(6)) if m.note]
    assert failed and all(m.converged or (m.low is None and m.p is None and "not converged" in m.note) for m in failed)

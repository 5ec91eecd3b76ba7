"""The mixed model with crossed random effects of seed and subject, fitted by statsmodels beside the two-way layout."""

from __future__ import annotations

import re
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from synthrad.statistics.layouts import FEWEST_SUBJECTS

MOST_CELLS = 800  # seeds x subjects: beyond that statsmodels' dense matrices take many seconds a comparison
FEWEST = 3  # seeds: a variance of two is a guess


@dataclass(frozen=True)
class MixedFit:
    """D_si = mean + seed + subject + residual by restricted maximum likelihood (REML).

    Args:
        value, low, high: the mean difference with Wald's normal interval, which knows no degrees of freedom: with few seeds it is
            narrower than the layout's. p: one-sided, of a gain. None where the fit failed.
        variance_seed, variance_subject, variance_residual: components.
        note: "" or why nothing, or something doubtful, came out: not converged, a component at its bound, too few.
    """

    value: float | None
    low: float | None
    high: float | None
    p: float | None
    variance_seed: float | None
    variance_subject: float | None
    variance_residual: float | None
    converged: bool
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def mixed_model(differences: np.ndarray, confidence: float = 0.95) -> MixedFit:
    """Fit the model to differences [S, n] without gaps; what does not come out is said in `note`, never hidden."""
    seeds, subjects = differences.shape
    if seeds < FEWEST or subjects < FEWEST_SUBJECTS:
        return _nothing(f"not tested: needs {FEWEST} seeds and {FEWEST_SUBJECTS} subjects, has {seeds} and {subjects}")
    if differences.size > MOST_CELLS:
        return _nothing(f"not fitted: {seeds} seeds x {subjects} subjects are more than {MOST_CELLS} numbers")
    spread = float(differences.std())
    if not spread > 1e-12:
        return _nothing("not tested: all differences are equal")
    from statsmodels.regression.mixed_linear_model import MixedLM
    from statsmodels.tools.sm_exceptions import ConvergenceWarning

    table = pd.DataFrame({"d": differences.ravel() / spread, "seed": np.repeat(np.arange(seeds), subjects),
                          "subject": np.tile(np.arange(subjects), seeds), "all": 1})
    parts = {"seed": "0 + C(seed)", "subject": "0 + C(subject)"}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            fit = MixedLM.from_formula("d ~ 1", groups="all", vc_formula=parts, re_formula="0", data=table).fit(reml=True)
        except (np.linalg.LinAlgError, ValueError) as e:
            return _nothing(f"the fit failed: {' '.join(str(e).split())[:200]}")
    doubts = (" ".join(str(w.message).split())[:120] for w in said if issubclass(w.category, ConvergenceWarning))
    notes = list(dict.fromkeys(d for d in doubts if not re.search("Retrying|optimization failed", d)))  # that is `converged`
    components = dict(zip(fit.model.exog_vc.names, (float(v) * spread**2 for v in fit.vcomp), strict=True))
    value, error = float(fit.fe_params.iloc[0]) * spread, float(fit.bse_fe.iloc[0]) * spread
    found = (components["seed"], components["subject"], float(fit.scale) * spread**2)
    if not fit.converged or not np.isfinite(error) or error <= 0:
        return MixedFit(value, None, None, None, *found, False, "; ".join(["not converged, no interval", *notes]))
    half = float(norm.ppf(0.5 + confidence / 2)) * error
    return MixedFit(value, value - half, value + half, float(norm.sf(value / error)), *found, True, "; ".join(notes))


def _nothing(why: str) -> MixedFit:
    return MixedFit(None, None, None, None, None, None, None, False, why)

"""All test metrics of a cases table as measurements."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from synthrad.measurements import Measurement
from synthrad.metrics import classification, segmentation


def summarise(cases: pd.DataFrame, fewest: Mapping[str, int] | None = None) -> list[Measurement]:
    """Segmentation and classification metrics, per task, net, arm, seed, class and test set.

    Args:
        fewest: task -> subjects with and without a finding that a class needs (see classification.summarise).
    """
    return segmentation.summarise(cases) + classification.summarise(cases, fewest=fewest)

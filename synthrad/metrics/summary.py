"""All test metrics of a cases table as measurements."""

from __future__ import annotations

import pandas as pd

from synthrad.measurements import Measurement
from synthrad.metrics import classification, segmentation


def summarise(cases: pd.DataFrame) -> list[Measurement]:
    """Segmentation and classification metrics, per task, net, arm, seed, class and test set."""
    return segmentation.summarise(cases) + classification.summarise(cases)

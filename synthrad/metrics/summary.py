"""All test metrics of a cases table as measurements."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from synthrad.measurements import Measurement
from synthrad.metrics import classification, segmentation
from synthrad.records import Manifest


def prevalences(train: Manifest) -> dict[str, float]:
    """Share of images that show each label class and each layer/structure, among those where it is known; NaN: nowhere."""
    found = {}
    for kind in ("label", "area"):
        for name in train.info.classes if kind == "label" else train.names("area"):
            values = train.column(f"{kind}:{name}").astype(float)
            known = values[~np.isnan(values)]
            found[name] = float((known > 0).mean()) if len(known) else float("nan")
    return found


def summarise(
    cases: pd.DataFrame, fewest: Mapping[str, int] | None = None, prevalence: Mapping[str, float] | None = None
) -> list[Measurement]:
    """Segmentation and classification metrics, per task, net, arm, seed, class and test set.

    Args:
        fewest: task -> subjects with and without a finding that a class needs (see classification.summarise).
        prevalence: class or layer/structure -> share of the training images, by which classes are rare; None: of the test images.
    """
    return segmentation.summarise(cases, prevalence) + classification.summarise(cases, fewest, prevalence)

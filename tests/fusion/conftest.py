"""Small manifests without files: fusion reads tables only."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest

from synthrad.dataset_info import DatasetInfo
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest

CLASSES = ("a", "b", "c", "d", "e")


def make_manifest(
    labels: Sequence[Sequence[float]],
    source: str = "real",
    split: str | Sequence[str] = "train",
    subjects: Sequence[str] | None = None,
    attributes: dict[str, Sequence[str]] | None = None,
    areas: dict[str, Sequence[float]] | None = None,
    scores: dict[str, Sequence[float]] | None = None,
    tag: str = "",
) -> Manifest:
    """A manifest of len(labels) rows; every row its own subject unless `subjects` says otherwise."""
    n = len(labels)
    values = np.array(labels, dtype=float).reshape(n, -1)
    classes = CLASSES[: values.shape[1]]
    attributes, areas = attributes or {}, areas or {}
    info = DatasetInfo(
        "toy", "toy", classes, {"l": ("x", "y")} if areas else {}, attributes=tuple(attributes)
    )
    columns = empty_columns(info, n)
    columns["source"][:] = source
    columns["split"][:] = split
    columns["subject"] = np.array(
        subjects if subjects is not None else [f"{tag}{source}{i}" for i in range(n)], dtype=object
    )
    columns["channel:image"] = np.array([f"{tag}{source}{i}.png" for i in range(n)], dtype=object)
    columns["digest"] = np.array([f"{tag}{source}{i}" for i in range(n)], dtype=object)
    columns |= {f"label:{c}": values[:, k] for k, c in enumerate(classes)}
    columns |= {f"attribute:{a}": np.array(v, dtype=object) for a, v in attributes.items()}
    columns |= {f"area:{a}": np.array(v, dtype=float) for a, v in areas.items()}
    columns |= {f"score:{s}": np.array(v, dtype=float) for s, v in (scores or {}).items()}
    return Manifest(pd.DataFrame(columns), info)


def make_pool(real: Manifest, copies: int, **kwargs) -> Manifest:
    """A synthetic pool with `copies` rows of every real row's labels and attributes, `kwargs` as in make_manifest."""
    labels = np.tile(real.labels, (copies, 1))
    attributes = {a: list(real.column(f"attribute:{a}")) * copies for a in real.names("attribute")}
    areas = {a: list(real.column(f"area:{a}")) * copies for a in real.names("area")}
    return make_manifest(labels, "synthetic", attributes=attributes, areas=areas, **kwargs)


@pytest.fixture
def manifest_of() -> Callable[..., Manifest]:
    """The function make_manifest."""
    return make_manifest


@pytest.fixture
def pool_of() -> Callable[..., Manifest]:
    """The function make_pool."""
    return make_pool

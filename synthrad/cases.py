"""Case: one item of a batch; and the cases table, what a test leaves for inference.

The cases table (`cases.parquet`) has one row per test image, class and seed. Columns:

    kind            segmentation | classification
    task, net, arm  names in the study; seed: int
    image, subject  Record.digest and Record.subject; external: name of the external manifest or ""
    layer           mask layer ("" for classification); class_name
    tp fp fn tn     pixels (segmentation, else 0)
    probability, target, threshold   classification, else NaN; target NaN = unknown
    attribute:<n>   attributes of the image, for subgroups
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from synthrad.errors import InputError
from synthrad.files import write_durably

if TYPE_CHECKING:
    import torch

CASE_COLUMNS = ("kind", "task", "net", "arm", "seed", "image", "subject", "external", "layer", "class_name",
                "tp", "fp", "fn", "tn", "probability", "target", "threshold")


@dataclass
class Case:
    """One image, or a batch of them.

    Args:
        image: float [C, H, W] (batched [B, C, H, W]) in [-1, 1].
        masks: int64 [L, H, W]; 0 background, k structure k - 1; -1 = layer unknown for this image.
        labels: float [K]: 0, 1, NaN unknown; of a training image a share between them, where its label is soft.
        index: row of the manifest (batched: int64 [B]).
        attributes: float [A] one-hot attribute values in the order the datamodule states; may be empty.
    """

    image: torch.Tensor
    masks: torch.Tensor
    labels: torch.Tensor
    index: torch.Tensor
    attributes: torch.Tensor


def collate(cases: list[Case]) -> Case:
    """Stack cases to a batch."""
    import torch

    names = ("image", "masks", "labels", "index", "attributes")
    return Case(**{n: torch.stack([getattr(c, n) for c in cases]) for n in names})


def write_cases(path: Path | str, table: pd.DataFrame) -> None:
    """Write a cases table durably, sorted, so that the same fit gives the same bytes."""
    missing = [c for c in CASE_COLUMNS if c not in table]
    if missing:
        raise InputError(str(path), f"a cases table without {missing}", f"the columns {CASE_COLUMNS}")
    keys = ["kind", "task", "net", "arm", "seed", "external", "subject", "image", "layer", "class_name"]
    buffer = io.BytesIO()
    table.sort_values(keys, kind="stable").to_parquet(buffer, index=False)
    write_durably(path, buffer.getvalue())


def read_cases(paths: list[Path | str]) -> pd.DataFrame:
    """Read and stack cases tables."""
    return pd.concat([pd.read_parquet(p) for p in paths], ignore_index=True)

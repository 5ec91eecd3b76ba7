"""The folder of a phantom set in the making: files go to a hidden draft, the finished set appears at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from synthrad.data.drafts import draft_folder, settle
from synthrad.data.images import files_digest
from synthrad.data.writing import write_masks
from synthrad.dataset_info import HERE, DatasetInfo
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest


class PhantomFolder:
    """Rows and files of a set; use as a context, then `finish` inside it.

    Args:
        out: folder to make or to replace (only one that a `prepare` made).
        info: without roots. rows: how many. origins: names of the origin columns.
    """

    def __init__(self, out: Path | str, info: DatasetInfo, rows: int, origins: tuple[str, ...]):
        self.out = Path(out).resolve()
        self.info = replace(info, roots={HERE: str(self.out)})
        self.columns = empty_columns(self.info, rows)
        self.columns |= {f"origin:{name}": np.full(rows, "", dtype=object) for name in origins}

    def __enter__(self) -> PhantomFolder:
        self._opened = draft_folder(self.out)
        self._draft = self._opened.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._opened.__exit__(*error)

    def add(
        self,
        row: int,
        images: Mapping[str, np.ndarray],
        masks: Mapping[str, np.ndarray | None],
        values: Mapping[str, object],
    ) -> None:
        """Write the channels [h, w] and the mask layers of a row (None = unknown); values are its other columns."""
        stem, paths = f"{row:06d}", []
        for channel, pixels in images.items():
            name = f"images/{stem}.png" if len(images) == 1 else f"images/{channel}/{stem}.png"
            paths.append(self._draft / name)
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(paths[-1], format="PNG", compress_level=6)
            self.columns[f"channel:{channel}"][row] = name
        self.columns["digest"][row] = files_digest(paths)
        write_masks(self.columns, self.info, row, self._draft, stem, masks)
        for column, value in values.items():
            self.columns[column][row] = value

    def finish(self) -> Manifest:
        """Put everything in place, dataset.yaml last, and read it back."""
        return settle(self._draft, self.out, self.columns, self.info)

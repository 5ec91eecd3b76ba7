"""The folder of a phantom set in the making: files go to a hidden draft, the finished set appears at once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from synthrad.data.images import files_digest, write_mask
from synthrad.data.writing import MARK
from synthrad.errors import InputError
from synthrad.records import HERE, DatasetInfo, Manifest, empty_columns, file_digest


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
        ours = (self.out / "dataset.yaml").exists() or (self.out / MARK).exists()
        if self.out.exists() and not self.out.is_dir():
            raise InputError(str(self.out), "a file", "a folder", "name another folder")
        if self.out.is_dir() and any(self.out.iterdir()) and not ours:
            raise InputError(
                str(self.out),
                "a folder with other files in it",
                "a new or empty folder",
                "name another folder, or empty this one yourself",
            )
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / MARK).touch()
        self._draft = Path(tempfile.mkdtemp(dir=self.out, prefix=".draft-"))
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._draft, ignore_errors=True)

    def add(
        self,
        row: int,
        images: Mapping[str, np.ndarray],
        masks: Mapping[str, np.ndarray | None],
        values: Mapping[str, object],
    ) -> None:
        """Write the channels [h, w] and the mask layers of a row (None = unknown); values are its other columns."""
        stem, paths, mask_paths = f"{row:06d}", [], []
        for channel, pixels in images.items():
            name = f"images/{stem}.png" if len(images) == 1 else f"images/{channel}/{stem}.png"
            paths.append(self._draft / name)
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(paths[-1], format="PNG", compress_level=6)
            self.columns[f"channel:{channel}"][row] = name
        for layer, structures in self.info.layers.items():
            mask = masks[layer]
            mask_paths.append(None if mask is None else self._draft / "masks" / layer / f"{stem}.png")
            if mask is None:
                continue
            write_mask(mask_paths[-1], mask)
            self.columns[f"mask:{layer}"][row] = f"masks/{layer}/{stem}.png"
            shares = np.bincount(mask.ravel(), minlength=len(structures) + 1) / mask.size
            for k, structure in enumerate(structures):
                self.columns[f"area:{layer}/{structure}"][row] = shares[k + 1]
        self.columns["digest"][row] = file_digest(paths[0]) if len(paths) == 1 else files_digest(paths)
        self.columns["mask_digest"][row] = files_digest(mask_paths)
        for column, value in values.items():
            self.columns[column][row] = value

    def finish(self) -> Manifest:
        """Put everything in place, dataset.yaml last, and read it back."""
        (self.out / "dataset.yaml").unlink(missing_ok=True)
        for part in ("images", "masks"):
            shutil.rmtree(self.out / part, ignore_errors=True)
            os.replace(self._draft / part, self.out / part)
        Manifest(pd.DataFrame(self.columns), self.info).write(self.out)
        return Manifest.read(self.out)

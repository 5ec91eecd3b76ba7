"""ImageGrid: the same seeds and conditions drawn again and again during training, for TensorBoard and as PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from synthrad.callbacks.checks import EveryImages, undisturbed
from synthrad.conditioning import Condition
from synthrad.data.sheets import Block, Panel, pictures, png, sheet
from synthrad.errors import InputError
from synthrad.files import write_durably


class ImageGrid(EveryImages):
    """Draw a grid every so many images and at the end of the fit: each image above its masks' contours and what was asked for.

    Args:
        every_images: images shown between two grids.
        number, columns: pictures in a grid, and in one of its rows. Conditions are those of training rows
            spread over the table.
        seed: seeds of the pictures are seed, seed + 1, ...
    """

    def __init__(self, every_images: int = 10_000, number: int = 32, columns: int = 8, seed: int = 0):
        super().__init__(every_images, first=0)
        if number < 1 or columns < 1:
            raise InputError("ImageGrid", f"number {number}, columns {columns}", "at least 1 each")
        self.number, self.columns, self.seed = number, columns, seed

    def at_mark(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write `<log_dir>/grids/images<count>.png` and add the picture to TensorBoard, on the first process."""
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # a broadcast: every process must ask
        if not trainer.is_global_zero:
            return
        count, seen = min(self.number, len(trainer.datamodule.train)), pl_module.images_seen
        rows = np.linspace(0, len(trainer.datamodule.train) - 1, count).round().astype(int)  # neighbours may be one patient's
        condition = trainer.datamodule.conditions(rows.tolist())
        with undisturbed(pl_module):
            drawn = pl_module.sample(condition, range(self.seed, self.seed + count))
        spec: dict[str, Any] | None = getattr(pl_module, "spec", None)
        layers = spec["layers"] if spec else {}
        panels = [Panel(p, asked(condition, k, spec["classes"]) if spec else "")
                  for k, p in enumerate(pictures(drawn, [len(s) for s in layers.values()]))]
        heading = f"{seen:,} images seen; the same seeds and conditions in every grid"
        page = sheet(heading, [Block("", panels)], min(self.columns, count), layers)
        for logger in trainer.loggers:
            if isinstance(logger, L.pytorch.loggers.TensorBoardLogger):
                logger.experiment.add_image("samples", np.asarray(page), seen, dataformats="HWC")
        write_durably(folder / "grids" / f"images{seen:09d}.png", png(page))


def asked(condition: Condition, k: int, classes: list[str]) -> str:
    """The classes that image k was asked to show, and its attributes: short enough for a caption."""
    labels = [] if condition.labels is None else [c for c, v in zip(classes, condition.labels[k], strict=True) if v == 1]
    given = condition.attributes[k].values() if condition.attributes else ()
    return ", ".join([*labels, *(v for v in given if v)])

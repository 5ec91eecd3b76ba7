"""What a trained net predicts, as files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from synthrad.cases import Case
from synthrad.data.images import write_mask
from synthrad.files import write_durably


class WritePredictions(Callback):
    """Writes what a task's `predict_step` gives, name -> Tensor of a batch, below a folder.

    A tensor [B, H, W] of whole numbers is a mask layer: an indexed PNG an image, `LAYER/ROW-DIGEST.png` (0 background, k structure k - 1; on the grid that masks are judged on, to which `data.size` letterboxes pictures), in a folder
    of its own for each external set. A tensor [B] is a column. `predictions.csv` has a row an image: its set ("" = the dataset's own), row and first file in the manifest, and
    every column, a mask's being the path of its PNG.

    Args:
        folder: where; it is made.
    """

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self._rows: list[dict[str, Any]] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget earlier rows."""
        self._rows = []

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: dict[str, Tensor], batch: Case, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Write a batch's masks, keep its rows."""
        external, manifest = trainer.datamodule.test_manifests[dataloader_idx]
        digests = manifest.column("digest")
        for place, row in enumerate(batch.index.tolist()):
            facts: dict[str, Any] = {"set": external, "row": row, "image": str(manifest[row].channels[0])}
            for name, values in outputs.items():
                if values.ndim == 1:
                    facts[name] = float(values[place])
                    continue
                path = Path(external, name, f"{row:05d}-{digests[row][:10]}.png")
                write_mask(self.folder / path, values[place].cpu().numpy())
                facts[name] = path.as_posix()
            self._rows.append(facts)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write predictions.csv, with the rows of all processes, on the first."""
        rows = self._rows
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, rows)
            rows = [row for part in parts for row in part]
        if not trainer.is_global_zero:
            return
        buffer = io.StringIO()
        pd.DataFrame(rows).sort_values(["set", "row"]).to_csv(buffer, index=False)
        write_durably(self.folder / "predictions.csv", buffer.getvalue().encode())
        print(f"synthrad predict: wrote {len(rows):,} images' predictions to {self.folder}", flush=True)

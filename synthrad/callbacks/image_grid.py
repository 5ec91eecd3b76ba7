"""ImageGrid: the same seeds and conditions drawn again and again during training, for TensorBoard and as PNG."""

from __future__ import annotations

import io
from pathlib import Path

import lightning as L
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from synthrad.records import write_durably

COLOURS = np.array([[230, 60, 60], [60, 180, 75], [70, 120, 230], [245, 190, 40], [170, 80, 200], [60, 200, 210],
                    [240, 130, 50], [180, 220, 60]], dtype=np.float32)


def tile(pictures: np.ndarray, columns: int) -> np.ndarray:
    """[n, H, W, 3] to one picture with `columns` columns, black where n does not fill the last row."""
    n, h, w, k = pictures.shape
    rows = -(-n // columns)
    grid = np.zeros((rows * columns, h, w, k), pictures.dtype)
    grid[:n] = pictures
    return grid.reshape(rows, columns, h, w, k).swapaxes(1, 2).reshape(rows * h, columns * w, k)


def draw_pairs(image: Tensor, masks: Tensor | None) -> np.ndarray:
    """Each image (first channel) above its copy with one mask layer after the other in colour.

    image: [n, C, H, W] in [-1, 1]; masks: int64 [n, L, H, W] or None. Returns uint8 [n, H (1 + L), W, 3].
    """
    grey = ((image[:, 0].float().cpu().numpy() + 1) * 127.5).clip(0, 255)
    base = np.repeat(grey[..., None], 3, -1)
    parts = [base]
    for layer in range(0 if masks is None else masks.shape[1]):
        index = masks[:, layer].cpu().numpy()
        tint = COLOURS[(index - 1) % len(COLOURS)]
        parts.append(np.where(index[..., None] > 0, 0.5 * base + 0.5 * tint, base))
    return np.concatenate(parts, 1).round().astype(np.uint8)


class ImageGrid(L.Callback):
    """Draw a grid of pictures every so many images and at the end of the fit.

    Args:
        every_images: images shown between two grids.
        number, columns: pictures in a grid, and in one of its rows. Conditions are those of the first training rows.
        seed: seeds of the pictures are seed, seed + 1, ...
    """

    def __init__(self, every_images: int = 10_000, number: int = 32, columns: int = 8, seed: int = 0):
        self.every_images, self.number, self.columns, self.seed = every_images, number, columns, seed
        self._next = 0

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object) -> None:
        """Draw when the next mark is passed."""
        if pl_module.images_seen >= self._next:
            self._next = (pl_module.images_seen // self.every_images + 1) * self.every_images
            self.draw(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the last grid."""
        self.draw(trainer, pl_module)

    def draw(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write `<log_dir>/grids/images<count>.png` and add the picture to TensorBoard, on the first process."""
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # a broadcast: every process must ask
        if not trainer.is_global_zero:
            return
        count = min(self.number, len(trainer.datamodule.train))
        state = torch.get_rng_state()  # pictures must not change what is trained
        drawn = pl_module.sample(trainer.datamodule.conditions(range(count)), range(self.seed, self.seed + count))
        torch.set_rng_state(state)
        grid = tile(draw_pairs(drawn.image, drawn.masks), self.columns)
        for logger in trainer.loggers:
            if isinstance(logger, L.pytorch.loggers.TensorBoardLogger):
                logger.experiment.add_image("samples", grid, pl_module.images_seen, dataformats="HWC")
        buffer = io.BytesIO()
        Image.fromarray(grid).save(buffer, format="PNG")
        write_durably(folder / "grids" / f"images{pl_module.images_seen:09d}.png", buffer.getvalue())

    def state_dict(self) -> dict[str, int]:
        """The next mark."""
        return {"next": self._next}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue at the next mark."""
        self._next = int(state_dict["next"])

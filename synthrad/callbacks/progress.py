"""A progress bar that counts images."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from synthrad.progress import progress


class ImageProgress(Callback):
    """One bar for the whole training, in images; it shows the newest loss and validation score.

    Args:
        title: stands before the bar.
        every_seconds: least time between two drawings; None: as synthrad.progress has it.
    """

    def __init__(self, title: str = "training", every_seconds: float | None = None):
        self.title = title
        self.every_seconds = every_seconds
        self._bar: tqdm | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar at the step where training starts."""
        if trainer.is_global_zero:
            self._bar = progress(desc=self.title, unit="image", every_seconds=self.every_seconds, maxinterval=60)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch's images, of all ranks."""
        if self._bar is None:
            return
        images = len(getattr(batch, "image", batch)) * trainer.world_size
        most = pl_module.hparams.get("max_images")  # generators stop at a number of images
        if self._bar.total is None and most:
            self._bar.total = most
            self._bar.n = self._bar.initial = max(0, trainer.fit_loop.total_batch_idx) * images
        elif self._bar.total is None and trainer.max_steps > 0:
            self._bar.total = _batches(trainer, pl_module) * images
            self._bar.n = self._bar.initial = max(0, trainer.fit_loop.total_batch_idx) * images
        self._bar.update(images)
        if self._bar.n == self._bar.last_print_n:  # drawn just now
            shown = {k: f"{float(v):.3f}" for k, v in trainer.progress_bar_metrics.items()}
            self._bar.set_postfix(shown, refresh=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _batches(trainer: Trainer, pl_module: LightningModule) -> int:
    """Batches until max_steps."""
    if not pl_module.automatic_optimization:  # several optimizers make several steps of a batch
        return round(trainer.max_steps * (trainer.fit_loop.total_batch_idx + 1) / max(1, trainer.global_step))
    together, epoch = trainer.accumulate_grad_batches, trainer.num_training_batches
    if math.isinf(epoch):
        return trainer.max_steps * together
    epochs, steps = divmod(trainer.max_steps, -(-int(epoch) // together))  # the last step of an epoch is of what is left
    return epochs * int(epoch) + steps * together

"""Checkpoints that a kill, a full disk or a NaN cannot spoil.

Every checkpoint has a name of its own (its step), is written through a temporary file of the same folder with fsync
and os.replace, and gets a sha256 beside it. A file without a matching sha256 is taken for unfinished; the file before
it is still there. Lightning stages in $TMPDIR instead, which tears `last.ckpt` where that is another filesystem.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from synthrad.checkpoints import is_valid, read_checkpoint, sidecar
from synthrad.errors import InputError, RunError
from synthrad.files import write_durably


def step_of(path: Path | str) -> int:
    """The optimizer step in a checkpoint's name."""
    found = re.search(r"(\d+)\.ckpt$", str(path))
    return int(found.group(1)) if found else -1


def newest_valid(folder: Path | str, kind: str = "last") -> Path | None:
    """The newest checkpoint of a folder (or of its `checkpoints`) that is whole, or None. kind: last or best."""
    found = [*Path(folder).glob(f"{kind}-*.ckpt"), *Path(folder).glob(f"checkpoints/{kind}-*.ckpt")]
    for path in sorted(found, key=step_of, reverse=True):
        if is_valid(path):
            return path
        warnings.warn(f"{path} is torn or unfinished (its sha256 does not match): skipped", stacklevel=2)
    return None


def _tensors(tree: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors of nested mappings and lists, with their names."""
    if isinstance(tree, torch.Tensor):
        yield name, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(tree, list | tuple):
        for i, value in enumerate(tree):
            yield from _tensors(value, f"{name}.{i}")


class DurableCheckpointIO(CheckpointIO):
    """Writes checkpoints durably, refuses non-finite weights, reads with weights_only and checks the sha256."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Path | str, storage_options: Any = None) -> None:
        """Write one checkpoint.

        Raises:
            RunError: a weight is NaN or infinite.
            OSError: the disk is full, the folder is not writable; what was there before is intact.
        """
        for name, tensor in _tensors(checkpoint.get("state_dict", {})):
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise RunError(
                    f"{path}: weight {name!r} is not finite at step {checkpoint.get('global_step')}; the checkpoint was "
                    "not written and the one before it is intact. Lower the learning rate or look at the data."
                )
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        data = buffer.getvalue()
        # an old sha256 of the same name must not vouch for the new bytes, nor the new one for the old bytes:
        # between the two writes the file is simply not valid
        write_durably(path, data)
        write_durably(sidecar(path), hashlib.sha256(data).hexdigest().encode())

    def load_checkpoint(
        self, path: Path | str, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read one checkpoint; `weights_only` is always on, because a checkpoint must not run code.

        Raises:
            InputError: missing, torn, or holding more than tensors and plain values.
        """
        return read_checkpoint(path, map_location)

    def remove_checkpoint(self, path: Path | str) -> None:
        """Remove a checkpoint: its sha256 first, so that half a removal is not valid."""
        sidecar(path).unlink(missing_ok=True)
        Path(path).unlink(missing_ok=True)


class DurableCheckpoint(Checkpoint):
    """Keeps the newest two states to resume from (`last-<step>.ckpt`) and the best weights (`best-<step>.ckpt`).

    Args:
        folder: where; None: `checkpoints` in the trainer's default_root_dir.
        monitor: metric of the validation that chooses the best; None: no best is kept.
        mode: max or min.
        every_steps: save a state every so many optimizer steps; None: by time alone.
        every_seconds: save a state when this much time has passed since the one before.
        keep: how many states to keep.
        save_final: save the state at the end of training as well, so that the same command finds nothing left to do.
    """

    def __init__(
        self,
        folder: Path | str | None = None,
        monitor: str | None = None,
        mode: str = "max",
        every_steps: int | None = None,
        every_seconds: float = 120.0,
        keep: int = 2,
        save_final: bool = True,
    ):
        super().__init__()
        self.folder = Path(folder) if folder is not None else None
        self.monitor, self.mode, self.keep, self.save_final = monitor, mode, keep, save_final
        self.every_steps, self.every_seconds = every_steps, every_seconds
        self.best_score: float | None = None
        self.best_step, self._told = -1, ""
        self.after_validation: Callable[[Path], None] | None = None  # Preemption stops there
        self._saved_at, self._saved_step, self._pending = time.monotonic(), -1, False

    @property
    def best_model_path(self) -> str:
        """The best checkpoint, "" where there is none; Lightning asks for it as ckpt_path="best"."""
        found = newest_valid(self.folder, "best") if self.folder is not None and self.best_step >= 0 else None
        return str(found) if found else self._told

    @best_model_path.setter
    def best_model_path(self, path: str) -> None:
        """Lightning tells the process that started others (ddp_spawn, ddp_fork) what these found."""
        self._told = path

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Settle the folder."""
        if self.folder is None:
            self.folder = Path(trainer.default_root_dir) / "checkpoints"
        self._saved_at = time.monotonic()

    def save_last(self, trainer: Trainer) -> Path:
        """Write the state to resume from and drop older ones."""
        path = self.folder / f"last-{trainer.global_step:09d}.ckpt"
        self._saved_at, self._saved_step, self._pending = time.monotonic(), trainer.global_step, False
        trainer.save_checkpoint(path)
        self._drop(trainer, "last", self.keep)
        return path

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where a state is due; at a step with a validation, after it (on_validation_end)."""
        by_step = self.every_steps is not None and trainer.global_step % self.every_steps == 0
        by_time = time.monotonic() - self._saved_at >= self.every_seconds
        if trainer.world_size > 1:  # clocks differ between ranks, and saving is collective
            by_time = bool(trainer.strategy.broadcast(by_time))
        if not (by_step or by_time or self._pending) or trainer.global_step == self._saved_step:
            return
        if self.validation_follows(trainer, batch_idx) and not self._pending:
            self._pending = True
        else:
            self.save_last(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the best weights; save a state that waited for this validation."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if self.monitor is not None:
            self._keep_best(trainer)
        if self._pending or self.after_validation is not None:
            saved = self.save_last(trainer)
            if self.after_validation is not None:
                self.after_validation(saved)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say of which dataset the state is, so that a fit on another one is not resumed from it."""
        data = trainer.datamodule
        info = next((m.info for m in (getattr(data, "real", None), getattr(data, "train", None)) if m is not None), None)
        if info is not None:
            checkpoint["dataset"] = {"id": info.id, "channels": list(info.channels), "classes": list(info.classes),
                                     "layers": {k: list(v) for k, v in info.layers.items()}}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final state."""
        if self.save_final and trainer.global_step != self._saved_step:
            self.save_last(trainer)

    def _keep_best(self, trainer: Trainer) -> None:
        if self.monitor not in trainer.callback_metrics:
            raise InputError("monitor", repr(self.monitor), f"one of {sorted(trainer.callback_metrics)}",
                             "name a metric that the validation logs")
        self.offer(trainer, float(trainer.callback_metrics[self.monitor]))

    def offer(self, trainer: Trainer, score: float) -> None:
        """Keep the weights as they are now if this score is the best so far; every process calls it with the same one."""
        if not math.isfinite(score):
            return
        better = self.best_score is None or (score > self.best_score if self.mode == "max" else score < self.best_score)
        if better:
            self.best_score, self.best_step = score, trainer.global_step
            trainer.save_checkpoint(self.folder / f"best-{trainer.global_step:09d}.ckpt", weights_only=True)
            self._drop(trainer, "best", 1)

    def _drop(self, trainer: Trainer, kind: str, keep: int) -> None:
        """Remove what is older; files beyond the current step belong to a run that was cut off later: remove those too."""
        if not trainer.is_global_zero:
            return
        files = sorted(self.folder.glob(f"{kind}-*.ckpt"), key=step_of)
        now = [f for f in files if step_of(f) <= trainer.global_step]
        for path in [*now[:-keep], *(f for f in files if step_of(f) > trainer.global_step)]:
            trainer.strategy.checkpoint_io.remove_checkpoint(path)

    @staticmethod
    def validation_follows(trainer: Trainer, batch_idx: int) -> bool:
        """Whether Lightning validates after this batch, at the same step."""
        every = trainer.val_check_batch
        if not trainer.enable_validation or every in (None, 0) or not math.isfinite(every):
            return False
        done = trainer.fit_loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch_idx
        return (done + 1) % every == 0

    def state_dict(self) -> dict[str, Any]:
        """The best so far."""
        return {"best_score": self.best_score, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best so far."""
        self.best_score, self.best_step = state_dict["best_score"], state_dict["best_step"]

"""Checks: what is measured on the samples of a generator every so many images while it trains, and kept as JSON lines."""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from synthrad.conditioning import Condition, Images
from synthrad.errors import InputError, RunError
from synthrad.files import write_durably

STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e9edf1",
         "axes.axisbelow": True}  # of the curves


def short(value: float, digits: int = 8) -> float | None:
    """A number for JSON, which knows no NaN."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


@contextmanager
def undisturbed(pl_module: L.LightningModule) -> Iterator[None]:
    """Nothing inside changes what is trained: torch's random state, on the CPU and the module's device, is put back."""
    cuda = [pl_module.device] if pl_module.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), torch.no_grad():
        yield


class EveryImages(L.Callback, ABC):
    """Something at a mark every so many images, and at the end of the fit.

    Args:
        every_images: images shown between two marks. first: those before the first mark.
    """

    def __init__(self, every_images: int, first: int):
        if every_images < 1:
            raise InputError(type(self).__name__, f"every_images {every_images}", "at least 1")
        self.every_images, self._next = every_images, first

    @abstractmethod
    def at_mark(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Called on every process."""

    def _at_mark(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        clocks = _clocks(trainer)
        for each in clocks:
            each.stop_clock()  # this is none of their training
        with getattr(pl_module, "gathered", nullcontext)():
            self.at_mark(trainer, pl_module)
        for each in clocks:
            each.start_clock()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object) -> None:
        """At the next mark."""
        if pl_module.images_seen >= self._next:
            self._next = (pl_module.images_seen // self.every_images + 1) * self.every_images
            self._at_mark(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """At the end."""
        self._at_mark(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The next mark."""
        return {"next": self._next}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the next mark."""
        self._next = int(state_dict["next"])


class Checks(EveryImages):
    """A check every so many images and at the end of the fit: one line of `<log_dir>/<name>.jsonl`; at the end `<name>.png`.

    Every check draws the same seeds under the same conditions, so that checks differ by the weights alone. The first process
    computes; a check waits for no other one, and the others wait for it at their next step. All lines are in the checkpoint:
    a resumed fit may log to another folder.

    Args:
        every_images: images shown between two checks; the first comes after as many.
        number: samples.
        seed: seeds of the samples are seed, seed + 1, ...; conditions are those of training rows in random order.
        block: samples drawn at once.
    """

    name = ""
    shown: tuple[str, ...] = ()  # fields of a line that TensorBoard shows
    data_needs: tuple[str, ...] = ("conditions", "case", "train")

    def __init__(self, every_images: int, number: int, seed: int, block: int):
        if number < 10 or block < 1:
            raise InputError(type(self).__name__, f"number {number}, block {block}", "number at least 10, block at least 1")
        super().__init__(every_images, first=every_images)
        self.number, self.seed, self.block = number, seed, block
        self.lines: list[str] = []
        self.checked: int | None = None  # images seen at the newest check, on every process
        self.folder = Path()  # of the log, known from the start of the fit
        self.ready = False  # on the first process, if there is anything to compare with
        self._seconds, self._started = 0.0, None

    # ---- what a subclass says

    @abstractmethod
    def prepare(self, trainer: L.Trainer, pl_module: L.LightningModule) -> bool:
        """Get ready, on the first process; whether anything can be measured."""

    @abstractmethod
    def measure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """The fields of a line; images, step and check_seconds are added."""

    @abstractmethod
    def picture(self, lines: Sequence[dict[str, Any]]) -> bytes:
        """PNG of all lines."""

    # ---- the fit

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse what cannot be checked before the first step."""
        if stage != "fit":
            return
        for thing, key, names in ((pl_module, "model", ("sample", "images_seen")), (trainer.datamodule, "data", self.data_needs)):
            if missing := [n for n in names if not hasattr(thing, n)]:
                raise InputError(key, f"{type(thing).__name__} without {missing}", "a generator and its GenerationDataModule",
                                 f"leave the callback {type(self).__name__} out of a fit that trains no generator")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read the real images, on the first process."""
        self.folder = Path(trainer.log_dir or trainer.default_root_dir)  # here: to ask for it is a broadcast to all processes
        if trainer.is_global_zero:
            with undisturbed(pl_module):
                self.ready = self.prepare(trainer, pl_module)
        for each in _clocks(trainer):
            each.start_clock()  # reading was none of their training

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check the final generator and draw the curve."""
        super().on_train_end(trainer, pl_module)
        if trainer.is_global_zero and self.lines:
            write_durably(self.folder / f"{self.name}.png", self.picture([json.loads(x) for x in self.lines]))

    def state_dict(self) -> dict[str, Any]:
        """The next mark, the time so far and all lines."""
        return {**super().state_dict(), "seconds": self.trained_seconds, "lines": list(self.lines)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the next mark."""
        super().load_state_dict(state_dict)
        self._seconds = float(state_dict["seconds"])
        self.lines = list(state_dict["lines"])

    # ---- the clock of the training, which stands still while anything is checked or drawn

    @property
    def trained_seconds(self) -> float:
        """Seconds of training so far, without checks and grids."""
        return self._seconds + (0.0 if self._started is None else time.monotonic() - self._started)

    def start_clock(self) -> None:
        """Count from now on."""
        self._started = time.monotonic()

    def stop_clock(self) -> None:
        """Count no further."""
        self._seconds, self._started = self.trained_seconds, None

    # ---- a check

    def at_mark(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure and write, on the first process, once for a number of images seen.

        Raises:
            RunError: the generator draws NaN or Inf.
        """
        seen = self.checked = pl_module.images_seen
        if not self.ready or (self.lines and json.loads(self.lines[-1])["images"] == seen):
            return
        begun = time.monotonic()
        with undisturbed(pl_module):
            line = {"images": seen, "step": trainer.global_step, **self.measure(trainer, pl_module)}
        line["check_seconds"] = short(time.monotonic() - begun, 4)
        self.lines.append(json.dumps(line))
        write_durably(self.folder / f"{self.name}.jsonl", "".join(f"{x}\n" for x in self.lines).encode())
        for logger in trainer.loggers:
            if isinstance(logger, L.pytorch.loggers.TensorBoardLogger):
                for key in self.shown:
                    if line[key] is not None:
                        logger.experiment.add_scalar(f"{self.name}/{key}", line[key], seen)

    def samples(self, data: Any, pl_module: L.LightningModule) -> Iterator[tuple[Condition, Images]]:
        """`number` samples, block by block, with what was asked for."""
        rows = np.resize(np.random.default_rng(self.seed).permutation(len(data.train)), self.number)
        for start in range(0, self.number, self.block):
            chosen = [int(r) for r in rows[start : start + self.block]]
            condition = data.conditions(chosen)
            drawn = pl_module.sample(condition, range(self.seed + start, self.seed + start + len(chosen)))
            if not torch.isfinite(drawn.image).all():
                raise RunError(f"{type(self).__name__}: samples after {pl_module.images_seen:,} images hold NaN or Inf. Repair: "
                               "resume from the last checkpoint with a lower model.lr.")
            yield condition, drawn


def _clocks(trainer: L.Trainer) -> list[Checks]:
    return [c for c in trainer.callbacks if isinstance(c, Checks)]

"""Clean stops: a signal sets a flag, the flag is read at the end of a batch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from synthrad.callbacks.durable_checkpoint import DurableCheckpoint
from synthrad.errors import Stopped

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))


def as_interrupt(error: SystemExit) -> BaseException:
    """KeyboardInterrupt where Lightning made a bare exit of a signal that came outside of a step, else the error itself.

    Its exit on SIGTERM has code 0: a caller would take the fit for finished.
    """
    if not (isinstance(error, SIGTERMException) or isinstance(error.__context__, KeyboardInterrupt)):
        return error
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning leaves it ignored
    return KeyboardInterrupt()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let signals that Lightning answers with a bare exit be KeyboardInterrupts again, see `as_interrupt`."""
    try:
        yield
    except SystemExit as e:
        raise as_interrupt(e) from e


class Preemption(Callback):
    """Stops at the end of the batch after SIGTERM, SIGUSR1 or Ctrl-C, with a checkpoint, and says how to go on.

    Saving inside a handler can catch a step half done; so handlers only set a flag. They are installed in
    on_train_start, because Lightning installs its own after on_fit_start. All ranks agree on the flag at batch end,
    so that a signal to one of them stops all at the same step. A second Ctrl-C stops at once, and so does any signal before
    the first step, see Watch.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}
        self._ready = True  # False: no step was begun, nothing can be half done

    def watch(self) -> None:
        """Install the handlers; until on_train_start a signal stops at once."""
        self.received, self._ready = None, False
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in SIGNALS}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self._ready:
            raise Stopped(f"stopped by {signal.Signals(number).name} before the first step: nothing is lost. The same command resumes.")
        if self.received == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the handlers."""
        if not self._before:
            self.watch()
        self._ready = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop where a signal has come; at a step with a validation, after it: resuming would skip it.

        Raises:
            Stopped: the signal was answered; the same command resumes.
        """
        flag = self._agreed(trainer, pl_module)
        if not flag:
            return
        keeper = self._keeper(trainer)
        if keeper is not None and keeper.validation_follows(trainer, batch_idx):
            keeper.after_validation = lambda saved: self._stop(trainer, flag, saved)
        else:
            self._stop(trainer, flag, keeper and keeper.save_last(trainer))

    def _agreed(self, trainer: Trainer, pl_module: LightningModule) -> int:
        flag = self.received or 0
        if trainer.world_size > 1:
            flags = torch.tensor([flag], device=pl_module.device)
            torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
            flag = int(flags)
        return flag

    @staticmethod
    def _keeper(trainer: Trainer) -> DurableCheckpoint | None:
        return next((c for c in trainer.callbacks if isinstance(c, DurableCheckpoint)), None)

    def _stop(self, trainer: Trainer, flag: int, saved: Path | None) -> None:
        where = f"; saved {saved}" if saved is not None else "; nothing keeps checkpoints here"
        self._restore()
        raise Stopped(
            f"stopped by {signal.Signals(flag).name} at step {trainer.global_step}{where}. The same command resumes."
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the handlers back; stop here where a signal came after the last batch (another fit may follow this one)."""
        self._restore()
        if flag := self._agreed(trainer, pl_module):
            keeper = self._keeper(trainer)
            self._stop(trainer, flag, keeper and keeper.save_last(trainer))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the handlers back."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}


class Watch(Callback):
    """The first of all callbacks: lets a signal stop at once while the others get ready, which may take minutes."""

    def __init__(self, preemption: Preemption):
        self.preemption = preemption

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before any other callback's."""
        self.preemption.watch()

"""Random state in checkpoints: Lightning saves none, so a resumed run would draw other noise."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class RandomState(Callback):
    """Saves the states of python, numpy and torch (CPU and CUDA) of every rank and restores them before the next batch.

    Where nothing is resumed, ranks start apart. States are restored at the start of the first batch after a resume, not when the checkpoint is read: making the
    loaders' iterators draws from torch's generator in between. A rank that the checkpoint does not know (it was written by fewer)
    gets the state of rank 0 shifted by its own seed, because equal states would make ranks draw the same noise.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """All states, as plain values and tensors (weights_only can read them): rank 0's, and `others`. Every rank must call it."""
        states = [_state()]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            states = [states[0]] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(states, _state())
        return {**states[0], "others": states[1:]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hold the states until the first batch."""
        self._waiting = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let processes drop out and draw different numbers: all were seeded alike."""
        if trainer.global_rank:
            _seed(int(np.random.SeedSequence([torch.initial_seed() % 2**64, trainer.global_rank]).generate_state(1, np.uint64)[0] >> 1))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Restore, once."""
        if self._waiting is None:
            return
        first, self._waiting = self._waiting, None
        states = [first, *first.get("others", [])]
        if trainer.global_rank < len(states):
            _restore(states[trainer.global_rank])
            return
        _seed(int(torch.as_tensor(first["torch"]).cpu().to(torch.int64).sum()) + trainer.global_rank)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _state() -> dict[str, Any]:
    """Of this process."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "python": list(random.getstate()[1]),
        "python_gauss": random.getstate()[2],
        "numpy": [name, [int(k) for k in keys], int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": [s.cpu() for s in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    }


def _restore(state: dict[str, Any]) -> None:
    random.setstate((3, tuple(state["python"]), state["python_gauss"]))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu().to(torch.uint8))
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all([s.cpu().to(torch.uint8) for s in state["cuda"]])

"""Batches without end, a pure function of seed and batch number: shuffled, resumable, and the same for any worker count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerStatus
from torch.utils.data import DataLoader, Dataset, Sampler

from synthrad.cases import Case
from synthrad.data.stored import StoredBatch, as_case, as_stored
from synthrad.errors import InputError


class EndlessBatches(Sampler):
    """Batches of (row, draw): row of the dataset, draw = running number of the draw over the whole training.

    Draw d is item d mod N of the permutation of epoch d div N, made from (seed, epoch): no state but the number of
    batches done, so a resume continues exactly, also in the middle of an epoch. With several ranks, batch b of rank r
    takes the draws of batch b * world_size + r of the single order.

    Args:
        rows: N.
        batch_size: draws a batch.
        seed: of the permutations.
        length: batches one pass of Lightning's epoch gives.
    """

    def __init__(self, rows: int, batch_size: int, seed: int, length: int):
        self.rows, self.batch_size, self.seed, self.length = rows, batch_size, seed, length
        self.start = 0
        self._epoch, self._order = -1, np.empty(0, dtype=int)

    def __len__(self) -> int:
        return self.length

    def row_of(self, draw: int) -> int:
        """Row of one draw."""
        epoch, item = divmod(draw, self.rows)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
        return int(self._order[item])

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rank, world = 0, 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        for batch in range(self.start, self.start + self.length):
            first = (batch * world + rank) * self.batch_size
            yield [(self.row_of(d), d) for d in range(first, first + self.batch_size)]


class EndlessLoader(DataLoader):
    """A DataLoader of EndlessBatches that knows how many batches it gave: Lightning saves and restores that.

    It has a torch generator of its own, so that making its iterator draws nothing from the global one.
    """

    def __init__(self, dataset: Dataset, batches: EndlessBatches, collate_fn: Callable[[list], Any], **options: Any):
        own = torch.Generator()
        own.manual_seed(batches.seed)
        super().__init__(dataset, batch_sampler=batches, collate_fn=collate_fn, generator=own, **options)
        self.batches = batches
        self.done = 0

    def __iter__(self) -> Iterator[Any]:
        # Lightning does not exhaust a loader of known length: what was given so far is known only here
        self.batches.start = self.done
        for batch in super().__iter__():
            self.done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Batches given so far, and what they depend on."""
        return {"done": self.done, "rows": self.batches.rows, "batch_size": self.batches.batch_size}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue after the batches that were given.

        Raises:
            InputError: the data changed since.
        """
        own = (self.batches.rows, self.batches.batch_size)
        if (state_dict["rows"], state_dict["batch_size"]) != own:
            raise InputError("data.manifest, data.batch_size", f"{own[0]} training rows in batches of {own[1]}",
                             f"{state_dict['rows']} rows in batches of {state_dict['batch_size']}, as the checkpoint was trained on",
                             "resume with the same data, or begin in another folder")
        self.done = state_dict["done"]


class EndlessDataModule(LightningDataModule):
    """A data module that keeps the place of its training loader in checkpoints by itself.

    Lightning restores a loader's place only where it takes the epoch for unfinished and has not asked for the loader before it
    reads the checkpoint (`estimated_stepping_batches` does): a fit by max_epochs, or one that goes on after its end, would start
    again at the first batch.

    Datasets give a StoredBatch for a list of items (`__getitems__`). A trainer that runs gets it as it is and converts it on its
    device; whoever else asks for a loader gets Cases.
    """

    def __init__(self) -> None:
        super().__init__()
        self._loader: EndlessLoader | None = None
        self._place: dict[str, int] = {}  # of a checkpoint, until there is a loader

    @property
    def collated(self) -> Callable[[StoredBatch], StoredBatch | Case]:
        """What a loader that is asked for now does with a batch of its dataset."""
        running = self.trainer is not None and self.trainer.state.status == TrainerStatus.RUNNING
        return as_stored if running else as_case

    def on_after_batch_transfer(self, batch: StoredBatch | Case, dataloader_idx: int) -> Case:
        """Lightning's hook, for batches of every loader: the steps of a module see Cases."""
        if not isinstance(batch, StoredBatch):
            return batch
        # the precision of a trainer (64-true, bf16-true) is applied before the transfer, when there were no floats yet
        return self.trainer.precision_plugin.convert_input(batch.case()) if self.trainer is not None else batch.case()

    def endless(self, *args: Any, **options: Any) -> EndlessLoader:
        """The EndlessLoader of these arguments, at the place where the checkpoint left it."""
        self._loader = EndlessLoader(*args, **options)
        if self._place:
            self._loader.load_state_dict(self._place)
        return self._loader

    def state_dict(self) -> dict[str, int]:
        """The place of the training loader."""
        return {} if self._loader is None else self._loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from there."""
        self._place = dict(state_dict)
        if self._loader is not None and self._place:
            self._loader.load_state_dict(self._place)

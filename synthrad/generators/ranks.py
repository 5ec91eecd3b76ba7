"""Training on several processes: what they must agree on, and what they must not share."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from synthrad.errors import InputError


def mean_of_ranks(value: Tensor) -> Tensor:
    """The mean of a detached tensor over all processes, the same on each; itself where there is one."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    total = value.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def unsynced(model: torch.nn.Module, quiet: bool) -> AbstractContextManager:
    """A context in which gradients are added up here and not yet exchanged, where `quiet`."""
    return model.no_sync() if quiet and isinstance(model, DistributedDataParallel) else nullcontext()


def seed_apart(rank: int) -> None:
    """Give each process random numbers of its own: all were seeded alike, and would draw the same pictures."""
    if rank:
        words = [torch.initial_seed() % 2**64, rank]
        torch.manual_seed(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1))


def check_wrapping(model: torch.nn.Module) -> None:
    """Refuse DDP that waits for the gradients of both nets when one of them is trained.

    Raises:
        InputError: it does.
    """
    if isinstance(model, DistributedDataParallel) and not model.find_unused_parameters:
        raise InputError("trainer.strategy", "ddp, which expects a gradient for every parameter in each backward pass",
                         "ddp_find_unused_parameters_true: generator and discriminator are trained in turn",
                         "add --trainer.strategy=ddp_find_unused_parameters_true")

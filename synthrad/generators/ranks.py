"""Training on several processes: what they must agree on, and what they must not share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
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
    if not quiet:
        return nullcontext()
    return model.no_sync() if isinstance(model, DistributedDataParallel) else _unsynced_parts(model)


@contextmanager
def _unsynced_parts(model: torch.nn.Module) -> Iterator[None]:
    nets = [net for net in model.children() if isinstance(net, FSDPModule)]
    for net in nets:
        net.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        for net in nets:
            net.set_requires_gradient_sync(True)


def weights_of(net: torch.nn.Module) -> list[tuple[torch.nn.Module, str, torch.nn.Parameter]]:
    """Each weight with the module that holds it and its name there."""
    return [(module, name, weight) for module in net.modules() for name, weight in module.named_parameters(recurse=False)]


def put(module: torch.nn.Module, name: str, tensor: Tensor) -> None:
    """Let a module that is not trained hold a tensor as a weight."""
    module.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=False))


@contextmanager
def whole(net: torch.nn.Module, here: bool) -> Iterator[None]:
    """Let a net of which each process keeps a part (sharding.keep_parts) be whole inside, on the process that says `here`.

    Every process must enter; nothing changes for a net that is whole anyway.
    """
    parts = []
    for module, name, weight in weights_of(net):
        if hasattr(weight, "full_tensor"):
            gathered = weight.full_tensor()
            if here:
                parts.append((module, name, weight))
                put(module, name, gathered)
    if parts:
        net.to(memory_format=torch.channels_last)  # as in a process that has all of it
    try:
        yield
    finally:
        for module, name, weight in parts:
            setattr(module, name, weight)


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

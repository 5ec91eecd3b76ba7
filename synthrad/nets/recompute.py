"""Activation checkpointing of the blocks of nets that we did not write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def computed_again(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Let blocks keep nothing between their forward and backward pass but their inputs (Chen et al. 2016).

    What they need more for their gradient is computed again then: less memory, more time, the same gradients.
    Nothing changes where no gradient is asked for.
    """
    blocks = blocks if torch.is_grad_enabled() else ()
    for block in blocks:
        block.forward = partial(checkpoint, type(block).forward.__get__(block), use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # the class's own again

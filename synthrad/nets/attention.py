"""Attention of MONAI's blocks: by scaled_dot_product_attention (`flash`) or by the plain product, whichever is faster here."""

from __future__ import annotations

import functools
import statistics
import time
from typing import NamedTuple

import torch
from monai.networks.blocks.selfattention import SABlock
from torch import nn

CLEARLY = 0.8  # of flash's time is what the plain product may take to be chosen: it needs more memory, and times of single runs wander
IMAGES, ROUNDS = 2, 5
LOW = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Attended(NamedTuple):
    """The attention of one level of a net: feature maps, heads, and places that attend to each other."""

    channels: int
    heads: int
    places: int


class Measured(NamedTuple):
    """Whether to use flash, and milliseconds of a forward and backward pass of one block of each size, with it and without."""

    flash: bool
    with_flash: float
    plain: float


@functools.cache
def measure(blocks: tuple[Attended, ...], device: torch.device, precision: str) -> Measured:
    """Time attention blocks of these sizes both ways; once a process, and without touching the state of random numbers.

    Args:
        precision: as Trainer.precision names it.
    """
    found: dict[bool, list[float]] = {True: [], False: []}
    for block in dict.fromkeys(blocks):
        times = _times(block, device, precision)
        for flash, own in times.items():
            found[flash].append(statistics.median(own))
    with_flash, plain = sum(found[True]), sum(found[False])
    return Measured(not plain < CLEARLY * with_flash, with_flash, plain)


def _times(block: Attended, device: torch.device, precision: str) -> dict[bool, list[float]]:
    """Milliseconds of some rounds in alternation, after one that does not count."""
    dtype = torch.float64 if precision == "64-true" else torch.float32
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        net = SABlock(block.channels, block.heads, qkv_bias=True, use_combined_linear=False).to(device, dtype)
    x = torch.linspace(-1, 1, IMAGES * block.places * block.channels, device=device, dtype=dtype).sin()
    x = x.view(IMAGES, block.places, block.channels).requires_grad_()
    times: dict[bool, list[float]] = {True: [], False: []}
    for k in range(ROUNDS + 1):
        for flash in times:
            set_flash(net, flash)
            try:
                begin = _now(device)
                with torch.enable_grad(), torch.autocast(device.type, LOW.get(precision), enabled=precision in LOW):
                    loss = net(x).float().square().mean()
                loss.backward()
                spent = _now(device) - begin
            except torch.OutOfMemoryError:
                spent = float("inf")
            if k:
                times[flash].append(spent)
    return times


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * time.perf_counter()


def set_flash(net: nn.Module, flash: bool) -> None:
    """Let all attention of a net be computed so; its weights stay."""
    for module in net.modules():
        if hasattr(module, "use_flash_attention"):
            module.use_flash_attention = flash

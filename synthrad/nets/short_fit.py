"""Short fits of nets that judge pictures for synthrad itself; the nets of a study are fitted by Lightning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from synthrad.cases import Case
from synthrad.progress import progress


def fit_briefly(net: nn.Module, batches: Iterator[Case], loss: Callable[[Tensor, Case], Tensor], steps: int, lr: float,
                device: torch.device, title: str) -> None:
    """Fit a net in place, for a fixed number of steps: AdamW, one cycle of the rate, nothing selected.

    Args:
        net: image [B, C, H, W] to logits; it is left on the device.
        batches: at least `steps` of them, on any device.
        loss: of logits (float32, on the device) and the batch as it came.
        title: of the progress bar.
    """
    net.to(device).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, pct_start=0.1)
    with torch.enable_grad():
        for batch in progress(islice(batches, steps), total=steps, desc=title, unit="step"):
            image = batch.image.to(device).contiguous(memory_format=torch.channels_last)
            value = loss(net(image).float(), batch)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            schedule.step()


def likeliest(logits: Tensor, structures: list[int]) -> Tensor:
    """uint8 [B, L, H, W]: the likeliest structure of each layer, 0 = background.

    Args:
        logits: [B, sum(1 + n), H, W]. structures: n of each layer.
    """
    parts = logits.split([1 + n for n in structures], dim=1)
    return torch.stack([p.argmax(dim=1) for p in parts], dim=1).to(torch.uint8)

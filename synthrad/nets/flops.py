"""What one answer of a net costs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def forward_flops(net: nn.Module, image: Tensor) -> int:
    """Floating-point operations of one forward pass in evaluation; a multiplication and an addition are two.

    Products of matrices and convolutions are counted (torch.utils.flop_counter), attention as such products; norms and activations are not.

    Args:
        image: [1, C, H, W], on the net's device.
    """
    was = net.training
    net.eval()
    try:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.enable_grad():  # with gradients no fused layer hides its products
            net(image)
    finally:
        net.train(was)
    return int(counter.get_total_flops())

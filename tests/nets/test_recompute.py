"""Blocks that keep nothing: the same gradients, less kept."""

import pytest
import torch
from torch import nn

from synthrad.nets.recompute import computed_again


def kept(net, x):
    """Numbers that the graph of one pass holds, and the gradients."""
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t.numel()) or t, lambda t: t):
        loss = net(x).square().sum()
    net.zero_grad()
    loss.backward()
    return sum(held), [p.grad.clone() for p in net.parameters()]


def test_the_same_gradients_from_less_and_the_blocks_as_before():
    torch.manual_seed(0)
    net = nn.Sequential(*[nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 8)) for _ in range(3)])
    x = torch.randn(16, 8, requires_grad=True)
    plain, gradients = kept(net, x)
    with computed_again(list(net)):
        fewer, again = kept(net, x)
    assert fewer < plain / 2 and all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))
    assert all("forward" not in vars(block) for block in net)


def test_nothing_changes_without_gradients_and_blocks_are_themselves_after_an_error():
    block = nn.Linear(2, 2)
    with torch.no_grad(), computed_again([block]):
        assert "forward" not in vars(block)
    with pytest.raises(ValueError, match="stop"), computed_again([block]):
        assert "forward" in vars(block)
        raise ValueError("stop")
    assert "forward" not in vars(block)

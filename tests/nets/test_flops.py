import pytest
import torch
from torch import nn

from synthrad.nets.attentive_probe import AttentiveProbe
from synthrad.nets.flops import forward_flops


def test_products_are_counted_by_hand():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 8 * 8, 5)).train()
    assert forward_flops(net, torch.zeros(1, 1, 8, 8)) == 2 * (9 * 4 * 64 + 256 * 5) and net.training
    assert float(net[1].running_var.mean()) == 1.0  # no batch was seen


@pytest.mark.parametrize("tokens", [3, 50])
def test_attention_is_counted(tokens):
    width, probe = 16, AttentiveProbe(16, 2, heads=2)
    by_hand = 2 * width * width * (1 + 2 * tokens + 1) + 2 * 2 * width * tokens + 2 * 2 * 4 * width * width + 2 * width * 2
    assert forward_flops(probe, torch.zeros(1, tokens, width)) == by_hand

"""What nets around a pretrained backbone share, on a net of two convolutions."""

import pytest
import torch
from torch import nn

from synthrad.errors import InputError
from synthrad.nets.pretrained_net import PretrainedNet


class Small(PretrainedNet):
    BACKBONE = "body"

    def __init__(self, **options):
        super().__init__(**options)
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Dropout(0.5))
        self.head = nn.Conv2d(2, 1, 1)
        self._tune()

    def forward(self, image):
        return self.head(self.body(self.shown(image)))


def test_a_frozen_backbone_stays_as_it_is_and_its_head_learns():
    with pytest.warns(UserWarning, match="random features that do not learn"):
        net = Small(tuning="frozen").train()
    assert net.frozen and not net.body.training and net.head.training
    before = {k: v.clone() for k, v in net.body.state_dict().items()}
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.5)
    head = net.head.weight.clone()
    net(torch.randn(4, 1, 8, 8)).square().sum().backward()
    optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in net.body.state_dict().items())  # statistics of batches among them
    assert not torch.equal(net.head.weight, head)


def test_a_whole_net_learns():
    net = Small(weights="null").train()
    assert net.weights is None and not net.frozen and net.body.training and all(p.requires_grad for p in net.parameters())


def test_pictures_are_enlarged_by_the_scale_and_to_whole_steps():
    assert Small(scale=1.5).shown(torch.zeros(1, 1, 10, 8), 4).shape == (1, 1, 16, 12)
    same = torch.randn(1, 1, 8, 8)
    assert torch.equal(Small().shown(same, 4), same)
    for scale in (0, -1, float("nan")):
        with pytest.raises(InputError, match="model.net.scale"):
            Small(scale=scale)

import numpy as np
import pytest
import torch

from synthrad.nets.siamese import CLOSEST, Siamese, closeness, contrastive_loss


def test_logits_are_scaled_cosines_and_closeness_is_minus_log_distance():
    torch.manual_seed(0)
    net = Siamese(2).eval()
    images = torch.randn(3, 2, 32, 48)
    with torch.no_grad():
        features, logits = net.embed(images), net(images)
    assert torch.allclose(features.norm(dim=1), torch.ones(3)) and torch.allclose(logits, logits.T, atol=1e-5)
    assert torch.allclose(logits.diagonal(), net.log_scale.exp().expand(3), atol=1e-4)
    found = closeness(features, features)
    assert found[0, 1].item() == pytest.approx(-np.log(float((features[0] - features[1]).double().norm())), abs=1e-3)
    assert found[1, 1].item() > 6 and found.max() <= -np.log(CLOSEST) + 1e-9


def test_loss_is_that_of_the_paper():
    logits, owner = torch.tensor([[9.0, 2, 0, 1], [2, 9, 1, 0], [0, 1, 9, 3], [1, 0, 3, 9]]), torch.tensor([0, 0, 1, 1])
    first = -2 + np.log(np.exp(2) + np.exp(0) + np.exp(1))
    third = -3 + np.log(np.exp(0) + np.exp(1) + np.exp(3))
    assert contrastive_loss(logits, owner).item() == pytest.approx((first + third) / 2, rel=1e-5)

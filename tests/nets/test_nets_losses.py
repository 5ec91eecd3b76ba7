import math

import pytest
import torch

from synthrad.nets.losses import dice_loss, label_loss, layers_loss


def test_unknown_labels_are_left_out():
    logits = torch.tensor([[0.0, 2.0], [-1.0, 5.0]])
    labels = torch.tensor([[1.0, math.nan], [0.0, math.nan]])
    one = (math.log(2) + math.log1p(math.exp(-1))) / 2
    assert float(label_loss(logits, labels)) == pytest.approx(one)
    weighted = (3 * math.log(2) + math.log1p(math.exp(-1))) / 2
    assert float(label_loss(logits, labels, torch.tensor([3.0, 1.0]))) == pytest.approx(weighted)
    assert float(label_loss(logits, torch.full_like(labels, math.nan))) == 0


def test_dice_loss_by_hand():
    scores = torch.tensor([[[[4.0, -4.0]], [[-4.0, 4.0]], [[-9.0, -9.0]]]])  # background, one; the third is shown by nobody
    p = torch.softmax(scores, 1)[0, 1, 0]
    by_hand = 1 - (2 * p[1] + 1) / (p.sum() + 1 + 1)
    assert float(dice_loss(scores, torch.tensor([[[0, 1]]]))) == pytest.approx(float(by_hand))
    assert float(dice_loss(scores, torch.zeros(1, 1, 2, dtype=torch.long))) == 0


def test_a_layer_unknown_in_an_image_teaches_nothing_there():
    torch.manual_seed(0)
    logits = [torch.randn(2, 2, 4, 4, requires_grad=True), torch.randn(2, 3, 4, 4, requires_grad=True)]
    masks = torch.stack([torch.randint(0, 2, (2, 4, 4)), torch.randint(0, 3, (2, 4, 4))], 1)
    masks[1, 0] = -1
    loss = layers_loss(logits, masks, 0.5)
    parts = [torch.nn.functional.cross_entropy(x, t) + 0.5 * dice_loss(x, t)
             for x, t in ((logits[0][:1], masks[:1, 0]), (logits[1], masks[:, 1]))]
    assert float(loss.detach()) == pytest.approx(float(sum(parts).detach() / 2))
    loss.backward()
    assert float(logits[0].grad[1].abs().max()) == 0 and float(logits[0].grad[0].abs().max()) > 0
    nothing = layers_loss(logits, torch.full_like(masks, -1))
    nothing.backward()
    assert float(nothing) == 0

import math

import pytest
import torch

from synthrad.nets.losses import (
    balanced_loss,
    dice_loss,
    effective_number_weights,
    focusing_loss,
    label_loss,
    layers_loss,
    prior_log_odds,
)


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


def test_focal_loss_is_that_of_torchvision():
    from torchvision.ops import sigmoid_focal_loss

    torch.manual_seed(0)
    logits, labels = 4 * torch.randn(50, 3), (torch.rand(50, 3) > 0.7).float()
    ours = focusing_loss(logits, labels, (2.0, 2.0), (0.25, 0.75))
    assert torch.allclose(ours, sigmoid_focal_loss(logits, labels, alpha=0.25, gamma=2.0, reduction="mean"), rtol=1e-5)
    assert torch.allclose(focusing_loss(logits, labels, (0.0, 0.0)), label_loss(logits, labels), rtol=1e-5)


def test_asymmetric_loss_by_hand():
    logits = torch.tensor([[0.0, -5.0, 2.0]])
    p, q = torch.tensor(2.0).sigmoid().item(), torch.tensor(2.0).sigmoid().item() - 0.05
    there = -(1 - p) ** 1 * math.log(p)
    absent = -(q**4) * math.log(1 - q)
    assert float(focusing_loss(logits[:, 2:], torch.tensor([[1.0]]), (1.0, 4.0), margin=0.05)) == pytest.approx(there)
    assert float(focusing_loss(logits[:, 2:], torch.tensor([[0.0]]), (1.0, 4.0), margin=0.05)) == pytest.approx(absent)
    assert float(focusing_loss(logits[:, 2:], torch.tensor([[0.3]]), (1.0, 4.0), margin=0.05)) == pytest.approx(0.3 * there + 0.7 * absent)
    assert float(focusing_loss(logits[:, 1:2], torch.tensor([[0.0]]), (0.0, 4.0), margin=0.05)) < 1e-30  # below the margin


@pytest.mark.parametrize("loss", [lambda x, t: focusing_loss(x, t, (0.0, 0.5), margin=0.05), lambda x, t: balanced_loss(x, t, torch.full((2, x.shape[1]), 0.7))])
def test_unknown_labels_and_far_logits(loss):
    logits = torch.tensor([[0.0, 200.0], [-200.0, 5.0]], requires_grad=True)
    labels = torch.tensor([[1.0, math.nan], [0.0, math.nan]])
    value = loss(logits, labels)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(logits.grad).all() and float(logits.grad[:, 1].abs().max()) == 0
    assert float(loss(logits[:, :1], labels[:, :1]).detach()) == pytest.approx(float(value.detach()))
    assert float(loss(logits, torch.full_like(labels, math.nan)).detach()) == 0


def test_weights_of_effective_numbers_by_hand():
    counts, beta = torch.tensor([[10.0, 0.0], [990.0, 100.0]]), 0.99
    there, absent = (1 - beta) / (1 - beta**10), (1 - beta) / (1 - beta**990)
    weights = effective_number_weights(counts, beta)
    assert weights[:, 0].tolist() == pytest.approx([2 * there / (there + absent), 2 * absent / (there + absent)])
    assert torch.isfinite(weights).all() and weights.sum(0).tolist() == pytest.approx([2, 2])
    assert effective_number_weights(counts, 0.0).tolist() == [[1, 1], [1, 1]]
    nearly = effective_number_weights(counts[:, :1], 1 - 1e-9)
    assert float(nearly[0, 0] / nearly[1, 0]) == pytest.approx(99, rel=1e-4)  # inverse counts
    logits, labels = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.25, 0.0]])
    by_hand = (math.log(2) * (0.25 * weights[0, 0] + 0.75 * weights[1, 0]) + weights[1, 1] * math.log1p(math.e)) / 2
    assert float(balanced_loss(logits, labels, weights)) == pytest.approx(float(by_hand))


def test_adjusted_logits_forget_how_rare_a_finding_is():
    """Logits that fit the training rows once the log-odds are added say what a set with as many present as absent ones would."""
    counts = torch.tensor([[99.5], [899.5]])
    shift = prior_log_odds(counts)
    assert float(shift) == pytest.approx(math.log(100 / 900))
    labels = torch.cat([torch.ones(100, 1), torch.zeros(900, 1)])
    logit = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([logit], max_iter=50)

    def closure():
        optimizer.zero_grad()
        loss = label_loss(logit.expand(1000, 1) + shift, labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert abs(float(logit)) < 1e-3 and torch.isfinite(prior_log_odds(torch.zeros(2, 1))).all()

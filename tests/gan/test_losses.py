import math

import pytest
import torch

from synthrad.gan import losses


def test_logistic_losses():
    real, fake = torch.tensor([0.3, -2.0]), torch.tensor([1.0])
    sig = torch.sigmoid
    torch.testing.assert_close(losses.generator_loss(fake), -sig(fake).log().mean())
    torch.testing.assert_close(losses.discriminator_loss(real, fake), -sig(real).log().mean() - (1 - sig(fake)).log().mean())


def test_r1_of_a_linear_discriminator_is_half_gamma_times_its_squared_norm():
    weight = torch.randn(2, 3, 3)
    x = torch.randn(5, 2, 3, 3, requires_grad=True)
    penalty = losses.r1_penalty((x * weight).sum((1, 2, 3)), x, gamma=10.0)
    torch.testing.assert_close(penalty, 5 * weight.square().sum())


def test_penalties_reach_parameters_through_second_derivatives():
    torch.manual_seed(0)
    x = torch.randn(2, 1, 2, 2).double().requires_grad_()
    weight = torch.randn(1, 1, 2, 2).double().requires_grad_()
    r1 = lambda w: losses.r1_penalty((torch.tanh(x * w)).sum((1, 2, 3)), x, 2.0)  # noqa: E731
    assert torch.autograd.gradcheck(r1, weight) and torch.autograd.gradgradcheck(r1, weight)
    ws, y = torch.randn(2, 2, 3).double().requires_grad_(), torch.randn(2, 1, 2, 2).double()
    matrix = torch.randn(3, 4).double().requires_grad_()

    def path(m):
        images = torch.tanh(ws.sum(1) @ m).reshape(2, 1, 2, 2)
        return losses.path_penalty(losses.path_lengths(images, ws, y), torch.tensor(0.5).double())[0]

    # the running mean is detached, so derivatives of the lengths are what can be checked
    lengths = lambda m: losses.path_lengths(torch.tanh(ws.sum(1) @ m).reshape(2, 1, 2, 2), ws, y)  # noqa: E731
    assert torch.autograd.gradcheck(lengths, matrix) and torch.autograd.gradgradcheck(lengths, matrix)
    assert torch.autograd.grad(path(matrix), matrix)[0].abs().sum() > 0


def test_path_length_of_a_linear_map():
    ws = torch.randn(3, 2, 4, requires_grad=True)
    images = (2 * ws[:, 0])[:, None, None, :].expand(-1, 1, 2, -1)
    noise = torch.randn(3, 1, 2, 4)
    expected = (2 * noise.sum(2)[:, 0] / math.sqrt(8)).square().sum(1).div(2).sqrt()  # mean over two layers, one unused
    torch.testing.assert_close(losses.path_lengths(images, ws, noise), expected)
    penalty, mean = losses.path_penalty(torch.tensor([1.0, 3.0]), torch.tensor(0.0), decay=0.5)
    assert mean.item() == 1 and penalty.item() == 2


def test_moving_average_halves_old_weights_each_half_life():
    average, source = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    torch.nn.init.constant_(average.weight, 0.0)
    torch.nn.init.constant_(source.weight, 8.0)
    for _ in range(4):
        losses.update_average(average, source, losses.half_life_decay(25, 100))
    assert average.weight.item() == pytest.approx(4, abs=1e-5)
    assert losses.half_life_decay(16, 0) == 0

import math

import pytest
import torch

from synthrad.gan import losses
from synthrad.nets.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator

NARROW = {"channel_base": 32, "channel_max": 4, "mapping_depth": 1}


def real_nets():
    """A generator and a discriminator in float64 whose every weight matters (biases and noise strengths too)."""
    torch.manual_seed(0)
    g = StyleGAN2Generator((8, 8), 2, c_dim=2, z_dim=3, w_dim=3, **NARROW).double()
    d = StyleGAN2Discriminator((8, 8), 2, c_dim=2, group=2, **NARROW).double()
    for p in [*g.parameters(), *d.parameters()]:
        p.data += 0.1 * torch.randn_like(p)
    return g, d


def slope_along(value, parameters, step=1e-6):
    """Central difference of a scalar function along a random direction of the parameters, and that direction."""
    direction = [torch.randn_like(p) for p in parameters]
    ends = []
    for sign in (1, -1):
        for p, v in zip(parameters, direction, strict=True):
            p.data += sign * step * v
        ends.append(float(value()))
        for p, v in zip(parameters, direction, strict=True):
            p.data -= sign * step * v
    return (ends[0] - ends[1]) / (2 * step), direction


def numeric_gradient(value, x, step=1e-6):
    """Central differences of a function of x by each entry of it: [*outputs, *x.shape]."""
    columns = []
    for i in range(x.numel()):
        shift = torch.zeros_like(x).view(-1)
        shift[i] = step
        with torch.no_grad():
            columns.append((value(x + shift.view(x.shape)) - value(x - shift.view(x.shape))) / (2 * step))
    return torch.stack(columns, -1).reshape(*columns[0].shape, *x.shape)


def test_r1_and_its_gradient_through_the_real_discriminator():
    _, d = real_nets()
    x, c, gamma = torch.randn(2, 2, 8, 8).double(), torch.tensor([[1.0, 0], [0, 1]]).double(), 3.0
    penalty = lambda: losses.r1_penalty(d(y := x.clone().requires_grad_(), c), y, gamma)  # noqa: E731
    gradient = numeric_gradient(lambda y: d(y, c).sum(), x)
    slow = sum(gamma / 2 * sum(v**2 for v in g.flatten().tolist()) for g in gradient) / 2  # eq. of Mescheder et al. 2018, mean over images
    assert penalty().item() == pytest.approx(slow, rel=1e-6)
    parameters = list(d.parameters())
    double = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    numeric, direction = slope_along(penalty, parameters)
    found = sum((g * v).sum() for g, v in zip(double, direction, strict=True) if g is not None).item()
    assert found == pytest.approx(numeric, rel=1e-5) and abs(found) > 1e-3


def test_path_lengths_and_their_gradient_through_the_real_generator():
    g, _ = real_nets()
    z, c, y = torch.randn(2, 3).double(), torch.tensor([[1.0, 0], [0, 1]]).double(), torch.randn(2, 2, 8, 8).double()
    noise = [m.double() for m in g.draw_noise(2, "cpu")]
    styles = lambda: g.mapping(z, c)[:, None].repeat(1, g.num_ws, 1)  # noqa: E731

    def lengths(create_graph=True):
        ws = styles()
        return losses.path_lengths(g.synthesize(ws, noise), ws, y, create_graph)

    jacobian = numeric_gradient(lambda ws: g.synthesize(ws, noise), styles().detach())  # [2, 2, 8, 8, 2, layers, 3]
    for i in range(2):
        assert jacobian[i, :, :, :, 1 - i].abs().max() == 0  # each picture has its own styles
        product = torch.einsum("chw,chwld->ld", y[i] / math.sqrt(8 * 8), jacobian[i, :, :, :, i])  # J^T y, y ~ N(0, I) / sqrt(H W)
        slow = math.sqrt(sum(row.square().sum().item() for row in product) / g.num_ws)
        assert lengths()[i].item() == pytest.approx(slow, rel=1e-6)
    assert torch.equal(lengths(False), lengths())
    mean = torch.tensor(0.3).double()
    whole = lambda: losses.path_penalty(lengths(), mean, batch_mean=torch.tensor(0.5))[0]  # noqa: E731
    parameters = list(g.parameters())
    double = torch.autograd.grad(whole(), parameters, allow_unused=True)
    numeric, direction = slope_along(whole, parameters)
    found = sum((d * v).sum() for d, v in zip(double, direction, strict=True) if d is not None).item()
    assert found == pytest.approx(numeric, rel=1e-5) and abs(found) > 1e-3


def test_running_mean_of_path_lengths_is_a_hand_loop():
    batches = torch.rand(20, 4).double() * 3
    mean, by_hand = torch.zeros(()).double(), 0.0
    for lengths in batches:
        penalty, mean = losses.path_penalty(lengths, mean)
        by_hand = by_hand + 0.01 * (sum(lengths.tolist()) / 4 - by_hand)
        assert mean.item() == pytest.approx(by_hand) and not mean.requires_grad
        assert penalty.item() == pytest.approx(sum((v - by_hand) ** 2 for v in lengths.tolist()) / 4)
        halves = [losses.path_penalty(h, torch.tensor(by_hand), 0.0, torch.tensor(9.0))[0] for h in lengths.view(2, 2)]
        assert sum(halves).item() / 2 == pytest.approx(penalty.item())


def test_logistic_losses():
    real, fake = torch.tensor([0.3, -2.0]), torch.tensor([1.0])
    sig = torch.sigmoid
    torch.testing.assert_close(losses.generator_loss(fake), -sig(fake).log().mean())
    torch.testing.assert_close(losses.real_loss(real), -sig(real).log().mean())
    torch.testing.assert_close(losses.fake_loss(fake), -(1 - sig(fake)).log().mean())


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


def test_logits_of_pictures_alone_and_under_their_conditions_are_weighed():
    alone, under = torch.tensor([0.5, -2.0], dtype=torch.float64), torch.tensor([1.0, 3.0], dtype=torch.float64)
    slow = sum(math.log(1 + math.exp(-a)) + 0.25 * math.log(1 + math.exp(-b)) for a, b in zip(alone, under, strict=True)) / 2
    assert losses.both(losses.real_loss, torch.stack([alone, under], 1), 0.25).item() == pytest.approx(slow, rel=1e-12)
    assert torch.equal(losses.both(losses.real_loss, alone, 0.25), losses.real_loss(alone))

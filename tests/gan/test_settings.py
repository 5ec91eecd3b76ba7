import math

import pytest
import torch

from synthrad.gan.settings import condition_share, lazy_adam, settle
from synthrad.nets.stylegan2 import EqualConv, EqualLinear


@pytest.mark.parametrize(("size", "batch", "lr", "gamma", "half_life"), [
    ((256, 256), 16, 0.0025, 0.8192, 5_000), ((512, 512), 32, 0.0025, 1.6384, 10_000), ((1024, 1024), 32, 0.002, 6.5536, 10_000),
    ((32, 64), 8, 0.0025, 0.0512, 2_500),
])
def test_automatic_settings_are_those_of_the_paper(size, batch, lr, gamma, half_life):
    made = settle(size, batch, "auto", "auto", "auto")
    assert (made.lr, made.r1_gamma, made.ema_half_life_images) == (lr, pytest.approx(gamma), half_life)
    assert str(made).count("(auto)") == 3 and made.batch_images == batch
    given = settle(size, batch, 0.001, "auto", 123)
    assert (given.lr, given.r1_gamma, given.ema_half_life_images) == (0.001, pytest.approx(gamma), 123)
    assert given.derived == {"r1_gamma"} and "lr 0.001," in str(given)


def slow_adam(start, gradients, lr, beta1, beta2, eps=1e-8):
    """Kingma and Ba 2015, algorithm 1, on one number."""
    x, m, v = start, 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        x -= lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
    return x


@pytest.mark.parametrize("every", [0, 4, 16])
def test_lazy_regularisation_corrects_adam(every):
    """c = k / (k + 1) scales lr and is the power of the betas: k + 1 steps then do what k steps did."""
    k = every
    c = k / (k + 1) if k else 1.0
    weight = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    optimizer = lazy_adam([weight], 0.01, every)
    gradients = [math.sin(3.0 * t) + 0.2 for t in range(40)]
    for g in gradients:
        weight.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
    assert weight.item() == pytest.approx(slow_adam(0.7, gradients, 0.01 * c, 0.0, 0.99**c), abs=1e-12)
    group = optimizer.param_groups[0]
    cycle = k + 1 if k else 1
    assert group["lr"] * cycle == pytest.approx(0.01 * max(k, 1)) and group["betas"][1] ** cycle == pytest.approx(0.99 ** max(k, 1))
    assert group["betas"][0] == 0


@pytest.mark.parametrize("kind", ["linear", "dense", "conv"])
def test_equalized_learning_rate(kind):
    """Weights in use are c w, c = 1 / sqrt(inputs): gradients of w are c times theirs, and Adam moves them by c lr."""
    torch.manual_seed(0)
    if kind == "conv":
        layer, x, c = EqualConv(5, 4, 3, activate=False).double(), torch.randn(2, 5, 6, 6).double(), 1 / math.sqrt(5 * 9)
        slow = lambda w: torch.stack([  # noqa: E731
            torch.einsum("niab,oiab->no", torch.nn.functional.pad(x, [1] * 4)[:, :, i : i + 3, j : j + 3], w)
            for i in range(6) for j in range(6)], 2).reshape(2, 4, 6, 6)
    else:
        lr_mult = 0.01 if kind == "dense" else 1.0
        layer, x = EqualLinear(5, 4, lr_mult=lr_mult).double(), torch.randn(3, 5).double()
        c = lr_mult / math.sqrt(5)
        slow = lambda w: torch.einsum("ni,oi->no", x, w)  # noqa: E731
        assert layer.weight.std().item() * lr_mult == pytest.approx(1, abs=0.4)  # stored so that in use it is N(0, 1 / inputs)
    used = (layer.weight * c).detach().requires_grad_(True)
    expected = slow(used)
    torch.testing.assert_close(layer(x), expected)
    target = torch.randn_like(expected)
    (layer(x) * target).sum().backward()
    (gradient,) = torch.autograd.grad((expected * target).sum(), used)
    torch.testing.assert_close(layer.weight.grad, c * gradient)
    before = layer.weight.detach().clone() * c
    torch.optim.Adam([layer.weight], lr=0.01, betas=(0.0, 0.99)).step()
    moved = (layer.weight.detach() * c - before).abs()
    assert torch.allclose(moved, torch.tensor(0.01 * c).double(), rtol=1e-4)  # whatever the size of the gradient


def test_conditions_count_in_full_without_a_ramp_and_along_one():
    assert condition_share(0, None) == 1
    assert [condition_share(n, (100, 300)) for n in (0, 100, 150, 200, 300, 10**9)] == [0, 0, 0.25, 0.5, 1, 1]

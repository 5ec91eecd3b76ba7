"""Whole nets against the plain formulation that the benchmark times: outputs, gradients and both lazy regularisations."""

import copy
import sys
from pathlib import Path

import pytest
import torch

from synthrad.gan import losses
from synthrad.nets import stylegan2 as sg

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import plain_stylegan2 as plain  # noqa: E402

SIZE, C, N = (16, 32), 3, 4


def nets(kind, dtype):
    """A generator with noise and biases that are not zero, and a discriminator; the same numbers for every kind."""
    torch.manual_seed(0)
    width = {"channel_base": 256, "channel_max": 16, "mapping_depth": 2}
    g = sg.StyleGAN2Generator(SIZE, 3, C, 8, 8, **width)
    d = sg.StyleGAN2Discriminator(SIZE, 3, C, **width)
    for name, p in (*g.named_parameters(), *d.named_parameters()):
        if "bias" in name or "noise" in name:
            p.data.add_(torch.randn_like(p), alpha=0.3)
    if kind is plain:
        other = plain.Generator(SIZE, 3, C, 8, 8, **width), plain.Discriminator(SIZE, 3, C, **width)
        for new, old in zip(other, (g, d), strict=True):
            new.load_state_dict(old.state_dict())
        g, d = other
    return g.to(dtype), d.to(dtype)


def inputs(dtype):
    torch.manual_seed(1)
    g = sg.StyleGAN2Generator(SIZE, 3, C, 8, 8, channel_max=8)
    made = torch.randn(N, 8), torch.randn(N, C), torch.randn(N, 3, *SIZE), g.draw_noise(N, "cpu"), torch.randn(N, 3, *SIZE)
    return [[m.to(dtype) for m in x] if isinstance(x, list) else x.to(dtype) for x in made]


def phases(kind, dtype):
    """Name -> tensor: pictures, logits, and gradients of the four phases of an iteration."""
    g, d = nets(kind, dtype)
    z, c, real, noise, y = inputs(dtype)
    found = {"pictures": g(z, c, noise=noise), "logits": d(real, c)}

    def gradients(phase, net, loss):
        net.zero_grad(set_to_none=True)
        loss.backward()
        found.update({f"{phase} {n}": p.grad for n, p in net.named_parameters() if p.grad is not None})

    gradients("main", g, losses.generator_loss(d(g(z, c, noise=noise), c)))
    fake = g(z, c, noise=noise).detach()
    gradients("main", d, losses.real_loss(d(real, c)) + losses.fake_loss(d(fake, c)))
    ws = g.mapping(z, c)[:, None].repeat(1, g.num_ws, 1)
    lengths = losses.path_lengths(g.synthesize(ws, noise), ws, y)
    found["lengths"] = lengths
    gradients("path", g, losses.path_penalty(lengths, torch.zeros((), dtype=dtype))[0])
    seen = real.clone().requires_grad_()
    penalty = losses.r1_penalty(d(seen, c), seen, 10.0)
    found["r1"] = penalty
    gradients("r1", d, penalty)
    return {k: v.detach().clone() for k, v in found.items()}


@pytest.fixture(scope="module")
def oracle():
    return phases(plain, torch.float64)


def errors(found, oracle):
    """Largest deviation of each tensor, relative to its largest value."""
    assert found.keys() == oracle.keys() and len(found) > 80
    return {k: ((found[k] - oracle[k]).abs().max() / oracle[k].abs().max().clamp(min=1e-30)).item() for k in oracle}


def test_outputs_and_gradients_match_the_plain_formulation(oracle):
    worst = errors(phases(sg, torch.float64), oracle)
    assert max(worst.values()) < 1e-12, max(worst, key=worst.get)


def test_float32_is_within_1e_5_of_float64(oracle):
    plainly = errors(phases(plain, torch.float32), oracle)
    for name, error in errors(phases(sg, torch.float32), oracle).items():
        # R1 hardly depends on biases: their gradient is a difference of near equals, in either formulation
        assert error < max(1e-5, 2 * plainly[name]), name


def test_grouped_kernels_draw_the_same_pictures(oracle):
    g, _ = nets(plain, torch.float64)
    g.grouped = True
    z, c, _, noise, _ = inputs(torch.float64)
    torch.testing.assert_close(g(z, c, noise=noise), oracle["pictures"])


def test_low_precision_stays_near_and_keeps_pictures_and_logits_in_float32(oracle):
    g, d = nets(sg, torch.float32)
    z, c, real, noise, _ = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        pictures, logits = g(z, c, noise=noise), d(real, c)
    assert pictures.dtype == logits.dtype == torch.float32
    for low, name in ((pictures, "pictures"), (logits, "logits")):
        error = (low - oracle[name]).abs().max() / oracle[name].abs().max()
        assert error < 0.05, name
    levels = torch.unique((pictures * 2**10).round()).numel()  # a picture of 8 bits would have a few hundred values
    assert levels > 1000


def test_the_filter_and_its_derivative_keep_their_type_under_autocast():
    x = torch.randn(1, 2, 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = sg.upsample(x)
        (g,) = torch.autograd.grad(y.sum(), x)
    assert y.dtype == g.dtype == torch.float32
    assert torch.equal(y, sg.upsample(x))


def test_a_layer_does_not_change_its_input():
    torch.manual_seed(0)
    g, d = nets(sg, torch.float32)
    x = torch.randn(2, 3, *SIZE)
    before = copy.deepcopy(x)
    d(x, torch.zeros(2, C))
    assert torch.equal(x, before)

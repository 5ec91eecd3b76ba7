import math

import pytest
import torch

from synthrad.errors import InputError
from synthrad.nets.autoencoder import ImageAutoencoder

SMALL = {"channels": (8, 16), "latent_channels": 3, "res_blocks": 1}


@pytest.mark.parametrize(("channels", "factor"), [((8, 8, 16), 4), ((8, 8, 8, 16), 8)])
def test_latents_have_a_quarter_or_an_eighth_of_the_side(channels, factor):
    net = ImageAutoencoder((32, 64), 2, 4, channels, 1)
    mean, deviation = net.encode(torch.randn(2, 2, 32, 64))
    assert net.factor == factor and net.latent_shape == (4, 32 // factor, 64 // factor)
    assert mean.shape == deviation.shape == (2, *net.latent_shape) and (deviation > 0).all()
    assert net.decode(mean).shape == (2, 2, 32, 64)


def test_the_divergence_is_that_of_the_distributions():
    net, x = ImageAutoencoder((16, 16), 1, **SMALL), torch.randn(3, 1, 16, 16)
    noise = torch.randn(3, *net.latent_shape)
    made, cost, z = net(x, noise)
    mean, deviation = net.encode(x)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, deviation), normal(0.0, 1.0)).flatten(1).sum(1).mean()
    assert cost.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(z, mean + deviation * noise)
    torch.testing.assert_close(made, net.decode(z))


def test_a_codebook_gives_its_nearest_entries_and_learns():
    torch.manual_seed(0)
    net, x = ImageAutoencoder((16, 16), 1, **SMALL, bottleneck="vq", codes=8).train(), torch.randn(2, 1, 16, 16)
    before = net.quantizer.quantizer.embedding.weight.clone()
    _, cost, latents = net(x, torch.zeros(2, *net.latent_shape))
    assert cost.item() > 0 and not torch.equal(before, net.quantizer.quantizer.embedding.weight)
    net.eval()
    mean, deviation = net.encode(x)
    assert (deviation == 0).all() and latents.shape == mean.shape
    entries = net.quantizer.quantizer.embedding.weight
    assert entries.norm(dim=1).max() < 20  # no entry was thrown away because the first batch did not use it
    entries = net.quantizer.quantizer.embedding.weight
    nearest = entries[torch.cdist(mean.movedim(1, -1).reshape(-1, 3), entries).argmin(1)].reshape(2, *mean.shape[2:], 3).movedim(-1, 1)
    torch.testing.assert_close(net.decode(mean), net.net.decode(nearest))


def test_gradients_reach_every_parameter():
    for bottleneck in ("kl", "vq"):
        net = ImageAutoencoder((16, 16), 1, **SMALL, bottleneck=bottleneck, codes=8)
        made, cost, _ = net(torch.randn(2, 1, 16, 16), torch.randn(2, *net.latent_shape))
        (made.square().mean() + cost).backward()
        none = [n for n, p in net.named_parameters() if p.requires_grad and p.grad is None and "embedding" not in n]
        assert not none and math.isfinite(sum(p.grad.abs().sum() for p in net.parameters() if p.grad is not None))


@pytest.mark.parametrize(("size", "channels", "words"), [((20, 16), (8, 8, 8, 8), "divisible by 8"), ((16, 16), (8, 12), "multiples of 8")])
def test_what_cannot_be_built(size, channels, words):
    with pytest.raises(InputError, match=words):
        ImageAutoencoder(size, 1, 4, channels)

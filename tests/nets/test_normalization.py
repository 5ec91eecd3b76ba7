"""The quicker group normalization is the slow one: written out from its definition, and torch's own."""

import pytest
import torch
from torch import nn

from synthrad.nets.autoencoder import ImageAutoencoder
from synthrad.nets.diffusion_unet import ControlBranch, DiffusionUNet
from synthrad.nets.normalization import GroupNorm, quicken


def picture(*shape, dtype=torch.float64):
    torch.manual_seed(0)
    x = (3 + 2 * torch.randn(shape, dtype=torch.float64)).to(dtype).to(memory_format=torch.channels_last)
    assert not x.is_contiguous()
    return x.requires_grad_()


def written_out(x, weight, bias, groups, eps):
    """Wu and He 2018, eq. 1 to 3."""
    n, c, h, w = x.shape
    g = x.reshape(n, groups, -1)
    centred = g - g.mean(2, keepdim=True)
    y = centred / (centred.square().mean(2, keepdim=True) + eps).sqrt()
    return y.reshape(n, c, h, w) * weight[:, None, None] + bias[:, None, None]


@pytest.mark.parametrize("groups, channels", [(1, 4), (2, 6), (4, 4)])
def test_values_and_gradients_are_those_of_the_definition(groups, channels):
    x, layer = picture(3, channels, 5, 4), GroupNorm(groups, channels).double()
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    upstream = torch.randn(3, channels, 5, 4, dtype=torch.float64)
    of = (x, layer.weight, layer.bias)
    ours = layer(x)
    assert type(ours.grad_fn).__name__ == "_GroupNormBackward"
    theirs = written_out(*of, groups, layer.eps)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(torch.autograd.grad(ours, of, upstream), torch.autograd.grad(theirs, of, upstream), strict=True):
        torch.testing.assert_close(a, b)
    assert torch.autograd.grad(layer(x), x, upstream)[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("low", "level"), [(False, 0), (False, 3), (False, 60), (True, 0), (True, 3)])  # weights of 8 bits: statistics too
def test_in_bfloat16_it_is_near_the_truth(low, level):
    """Within two roundings of 8 bits; torch's is within one. Weights stay float32 under autocast, or are of 8 bits themselves."""
    layer, upstream = GroupNorm(4, 32), torch.randn(2, 32, 16, 16).bfloat16()
    nn.init.normal_(layer.weight)
    x = (picture(2, 32, 16, 16).detach() - 3 + level).bfloat16().requires_grad_()  # deviation 2
    kind = torch.bfloat16 if low else torch.float32
    parts = [p.detach().to(kind).requires_grad_() for p in (layer.weight, layer.bias)]
    exact = [v.detach().double().requires_grad_() for v in (x, *parts)]
    truth = torch.autograd.grad(written_out(*exact, 4, layer.eps), exact, upstream.double())
    layer.weight, layer.bias = (nn.Parameter(p) for p in parts)
    with torch.autocast("cpu", torch.bfloat16, enabled=not low):
        ours = torch.autograd.grad(layer(x), (x, layer.weight, layer.bias), upstream)
        torchs = torch.autograd.grad(nn.functional.group_norm(x, 4, *parts), (x, *parts), upstream)
    for a, b, t in zip(ours, torchs, truth, strict=True):
        assert a.dtype == b.dtype
        assert (a - t).abs().max() < 2**-7 * t.abs().max()


def test_it_has_no_second_derivative_in_silence():
    layer, x = GroupNorm(2, 4).double(), picture(2, 4, 3, 3)
    (first,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_elsewhere_it_is_torchs():
    layer = GroupNorm(2, 4).double()
    x = picture(2, 4, 3, 3).detach().contiguous().requires_grad_()
    assert "NativeGroupNorm" in type(layer(x).grad_fn).__name__
    with torch.no_grad():
        torch.testing.assert_close(layer(picture(2, 4, 3, 3)), nn.functional.group_norm(picture(2, 4, 3, 3), 2, layer.weight, layer.bias))


def test_nets_are_quickened_and_keep_their_parameters():
    unet = DiffusionUNet((16, 16), 3, 3, 2, (32, 32), (False, True), 1, 32)
    for net in (unet, ControlBranch(unet, 2), ImageAutoencoder((16, 16), 3, 4, (8, 16), 1)):
        kinds = {type(m) for m in net.modules() if isinstance(m, nn.GroupNorm)}
        assert kinds == {GroupNorm}
    plain = nn.Sequential(nn.GroupNorm(2, 4), nn.Sequential(nn.GroupNorm(1, 4, eps=1e-3)))
    names, own = list(plain.state_dict()), list(plain.parameters())
    quicken(plain)
    assert list(plain.state_dict()) == names and all(a is b for a, b in zip(plain.parameters(), own, strict=True))
    assert plain[1][0].eps == 1e-3

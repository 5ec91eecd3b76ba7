"""The UNet of diffusion: shapes, what it is told, and sizes that cannot be."""

import pytest
import torch

from synthrad.errors import InputError
from synthrad.nets.autoencoder import ImageAutoencoder
from synthrad.nets.diffusion_unet import ControlBranch, DiffusionUNet

SMALL = {"channels": (8, 16), "attention": (False, True), "res_blocks": 1, "head_channels": 8}


def changed(net):
    """MONAI starts the last layer at zero: an answer that says nothing."""
    torch.manual_seed(0)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return net.eval()


@torch.no_grad()
def test_time_and_condition_change_the_answer():
    net, x = changed(DiffusionUNet((16, 8), 3, 2, 4, **SMALL)), torch.randn(2, 3, 16, 8)
    t, c = torch.tensor([0.2, 0.2]), torch.randn(2, 4)
    answer = net(x, t, c)
    assert answer.shape == (2, 2, 16, 8)
    assert not torch.allclose(net(x, t + 0.5, c), answer) and not torch.allclose(net(x, t, -c), answer)
    moved = c.clone()
    moved[1] += 1
    assert torch.allclose(net(x, t, moved)[0], answer[0], atol=1e-5)  # each image has its own


@torch.no_grad()
def test_tokens_are_read():
    net, x = changed(DiffusionUNet((16, 16), 1, 1, 0, **SMALL, context_dim=6)), torch.randn(1, 1, 16, 16)
    one, other = (net(x, torch.tensor([0.5]), context=torch.randn(1, 3, 6)) for _ in range(2))
    assert not torch.allclose(one, other)


@pytest.mark.parametrize(("size", "options", "words"), [
    ((15, 16), {}, "divisible by 2"), ((16, 16), {"attention": (True,)}, "expected 2"), ((16, 16), {"head_channels": 3}, "multiples of 8")])
def test_what_cannot_be_built(size, options, words):
    with pytest.raises(InputError, match=words):
        DiffusionUNet(size, 1, 1, 0, **{**SMALL, **options})


def unet(recompute):
    net = DiffusionUNet((16, 16), 2, 2, 3, (8, 16), (False, True), 1, 8, recompute=recompute)
    net.net.out[2].conv.weight.data.normal_()
    x, t, c = torch.randn(2, 2, 16, 16), torch.rand(2), torch.randn(2, 3)
    return net, net.net.middle_block, lambda: net(x, t, c)


def branch(recompute):
    net = ControlBranch(unet(recompute)[0], 3)
    x, t, c, control = torch.randn(2, 2, 16, 16), torch.rand(2), torch.randn(2, 3), torch.randn(2, 3, 16, 16)
    for p in net.parameters():
        p.data += 0.05 * torch.randn_like(p)
    return net, net.net.middle_block, lambda: torch.cat([y.flatten() for y in (lambda down, middle: (*down, middle))(*net(x, t, c, None, control))])


def autoencoder(recompute):
    net = ImageAutoencoder((16, 16), 2, 2, (8, 16), 1, recompute=recompute)
    x, noise = torch.randn(2, 2, 16, 16), torch.randn(2, 2, 8, 8)
    return net, net.net.decoder.blocks[0], lambda: net(x, noise)[0]


@pytest.mark.parametrize("make", [unet, branch, autoencoder])
def test_blocks_computed_again_give_the_same_gradients_from_less_memory(make):
    kept, found = {}, {}
    for recompute in (False, True):
        torch.manual_seed(0)
        net, block, run = make(recompute)
        size = [0]

        def note(tensor, size=size):
            size[0] += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda y: y):
            answer = run()
        answer.square().mean().backward()
        kept[recompute], found[recompute] = size[0], {n: p.grad for n, p in net.named_parameters()}
        assert "forward" not in vars(block)
    assert kept[True] < 0.6 * kept[False]
    for name, gradient in found[False].items():
        torch.testing.assert_close(found[True][name], gradient, rtol=1e-5, atol=1e-7)

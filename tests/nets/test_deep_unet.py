import pytest
import torch
from safetensors.torch import save_file

from synthrad.errors import InputError
from synthrad.nets import DeepUnet
from synthrad.nets.deep_unet import padded_side


def test_unpadded_sides_are_those_of_the_papers():
    assert padded_side(256, 6) == 636 and padded_side(388, 5) == 572  # Akbar et al. 2024; Ronneberger et al. 2015


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_logits_and_gradients(padding):
    net = DeepUnet(depth=4, filters=4, padding=padding, supervised_levels=2, out_channels=3)
    for size in ((32, 32), (16, 48)):
        assert net.eval()(torch.rand(1, 1, *size)).shape == (1, 3, *size)
    found = net.train()(torch.rand(1, 1, 32, 64))
    assert [tuple(x.shape[-2:]) for x in found.logits] == [(32, 64), (16, 32), (8, 16)]
    assert sum(found.weights) == pytest.approx(1) and found.weights[0] == pytest.approx(2 * found.weights[1])
    sum(x.square().sum() for x in found.logits).backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("level", [0, 1])
def test_unpadded_logits_lie_where_the_picture_is(level):
    """What a logit sees lies around its own place."""
    net = DeepUnet(depth=3, filters=2, supervised_levels=1).train()
    for m in net.modules():
        if isinstance(m, torch.nn.InstanceNorm2d):  # which sees all of the picture
            m.forward = lambda x: x
        if isinstance(m, torch.nn.LeakyReLU):
            m.negative_slope = 1.0
    image = torch.rand(1, 1, 128, 128, requires_grad=True)
    logits = net(image).logits[level]
    place = 16 * (4 >> level)  # one of four pixels around the middle of the picture, whatever the pooling's grid
    four = logits[0, 0, place - 1 : place + 1, place - 1 : place + 1].sum()
    seen = torch.autograd.grad(four, image)[0][0, 0].abs()
    rows, columns = (seen.sum(d).nonzero().flatten() for d in (1, 0))
    assert rows[0] + rows[-1] == 127 and columns[0] + columns[-1] == 127 and rows[0] > 0


def test_weights_of_a_file_and_clear_errors(tmp_path):
    net = DeepUnet(depth=3, filters=2, supervised_levels=0)
    save_file(net.state_dict(), tmp_path / "unet.safetensors")
    other = DeepUnet(str(tmp_path / "unet.safetensors"), depth=3, filters=2, supervised_levels=0, in_channels=2)
    assert torch.equal(other.down[1][0].weight, net.down[1][0].weight)
    assert torch.allclose(other.down[0][0].weight.sum(1), net.down[0][0].weight.sum(1))
    with pytest.raises(InputError, match="multiples of 4"):
        net(torch.rand(1, 1, 30, 32))
    with pytest.raises(InputError, match="one pixel at the last of 3 levels"):
        DeepUnet(depth=3, filters=2, padding="same", supervised_levels=0)(torch.rand(1, 1, 4, 4))
    assert net(torch.rand(1, 1, 4, 4)).shape == (1, 2, 4, 4)
    with pytest.raises(InputError, match="0 to 1 with 3 levels"):
        DeepUnet(depth=3, supervised_levels=4)
    with pytest.raises(InputError, match="valid or same"):
        DeepUnet(padding="full")

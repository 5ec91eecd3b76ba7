import pytest
import torch
from monai.networks.blocks.selfattention import SABlock

from synthrad.nets import attention
from synthrad.nets.attention import Attended, Measured, measure, set_flash
from synthrad.nets.autoencoder import ImageAutoencoder
from synthrad.nets.diffusion_unet import DiffusionUNet

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def forgotten():
    measure.cache_clear()
    yield
    measure.cache_clear()


def blocks_of(net):
    return [m for m in net.modules() if isinstance(m, SABlock)]


def test_the_sizes_are_those_of_the_blocks():
    net = DiffusionUNet((16, 32), 2, 2, 0, (8, 16, 16), (False, True, False), 1, head_channels=8)
    assert net.attended == [Attended(16, 2, 8 * 16), Attended(16, 2, 4 * 8)]
    seen = []
    for block in blocks_of(net):
        block.register_forward_pre_hook(lambda m, args: seen.append(Attended(args[0].shape[2], m.num_heads, args[0].shape[1])))
    net(torch.zeros(1, 2, 16, 32), torch.zeros(1))
    assert set(seen) == set(net.attended)
    coder, seen = ImageAutoencoder((16, 32), 1, 2, (8, 16)), []
    for block in blocks_of(coder):
        block.register_forward_pre_hook(lambda m, args: seen.append(Attended(args[0].shape[2], m.num_heads, args[0].shape[1])))
    coder(torch.zeros(1, 1, 16, 32), torch.zeros(1, 2, 8, 16))
    assert set(seen) == set(coder.attended) == {Attended(16, 1, 8 * 16)}
    assert ImageAutoencoder((16, 32), 1, 2, (8, 16), attention=False).attended == []


def test_both_ways_give_the_same():
    net, x = DiffusionUNet((8, 8), 1, 1, 0, (8, 16), (False, True), 1, head_channels=8), torch.randn(2, 1, 8, 8)
    torch.nn.init.normal_(net.net.out[-1].conv.weight)  # it starts at zero
    t, found = torch.full((2,), 0.5), []
    for flash in (True, False):
        set_flash(net, flash)
        assert {b.use_flash_attention for b in blocks_of(net)} == {flash}
        found.append(net(x, t))
    assert torch.allclose(*found, atol=1e-5) and found[0].abs().max() > 0.1


@pytest.mark.parametrize(("plain", "flash"), [(1.0, False), (4.4, True), (9.0, True)])
def test_the_plain_product_must_be_clearly_faster(plain, flash, monkeypatch):
    given = {8: {True: [9.0, 2.0, 2.5], False: [plain / 2, 99.0, plain / 2]}, 16: {True: [2.5], False: [plain / 2]}}
    monkeypatch.setattr(attention, "_times", lambda block, *_: given[block.channels])
    sizes = (Attended(8, 1, 4), Attended(16, 1, 4), Attended(8, 1, 4))  # equal ones count once
    assert measure(sizes, CPU, "32-true") == Measured(flash, 5.0, plain)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_it_measures_once_and_leaves_the_random_state(precision):
    before, sizes = torch.get_rng_state(), (Attended(16, 2, 64),)
    found = measure(sizes, CPU, precision)
    assert found.with_flash > 0 and found.plain > 0 and torch.equal(torch.get_rng_state(), before)
    assert measure(sizes, CPU, precision) is found


def test_no_memory_for_the_plain_product_is_no_error(monkeypatch):
    ways, pass_on = [], SABlock.forward

    def forward(self, x):
        ways.append(self.use_flash_attention)
        if not self.use_flash_attention:
            raise torch.OutOfMemoryError
        return pass_on(self, x)

    monkeypatch.setattr(SABlock, "forward", forward)
    assert measure((Attended(8, 1, 16),), CPU, "32-true").flash and set(ways) == {True, False}

import numpy as np
import pytest
import torch
from scipy.signal import upfirdn

from synthrad.errors import InputError
from synthrad.nets import stylegan2 as sg


def slow_modulated(x, weight, style, demodulate):
    """Eq. 1-3 as written: one kernel an image."""
    out = []
    for image, s in zip(x, style, strict=True):
        w = weight * s[None, :, None, None]
        if demodulate:
            w = w / torch.sqrt((w**2).sum((1, 2, 3), keepdim=True) + 1e-8)
        padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
        patches = padded.unfold(1, 3, 1).unfold(2, 3, 1)
        out.append(torch.einsum("ihwab,oiab->ohw", patches, w))
    return torch.stack(out)


@pytest.mark.parametrize("demodulate", [True, False])
def test_modulated_conv_is_equations_1_to_3(demodulate):
    torch.manual_seed(0)
    x, w, s = torch.randn(3, 4, 6, 8).double(), torch.randn(5, 4, 3, 3).double(), torch.randn(3, 4).double()
    torch.testing.assert_close(sg.modulated_conv(x, w, s, demodulate), slow_modulated(x, w, s, demodulate))


def test_up_is_zero_insertion_then_flipped_kernel_then_low_pass():
    torch.manual_seed(0)
    x, w, s = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 3, 3, 3).double(), torch.randn(2, 3).double()
    sparse = torch.zeros(2, 3, 9, 9).double()  # one zero row and column more: the convolution sees full borders
    sparse[:, :, 1:8:2, 1:8:2] = x
    wide = slow_modulated(sparse, w.flip(2, 3), s, True)
    taps = np.array(sg.FIR) / 4
    slow = np.stack([[upfirdn_2d(c, taps) for c in image] for image in wide.numpy()])
    fast = sg.modulated_conv(x, w, s, up=True)
    assert fast.shape == (2, 2, 8, 8)
    np.testing.assert_allclose(fast, slow[:, :, 2:10, 2:10], atol=1e-10)


def upfirdn_2d(array, taps, up=1, down=1):
    return upfirdn(taps, upfirdn(taps, array, up, down, axis=0), up, down, axis=1)


def test_demodulated_output_has_unit_variance_at_any_style():
    torch.manual_seed(0)
    for scale in (0.01, 1.0, 100.0):
        y = sg.modulated_conv(torch.randn(8, 32, 16, 16), torch.randn(32, 32, 3, 3), scale * torch.randn(8, 32))
        assert y[:, :, 1:-1, 1:-1].std().item() == pytest.approx(1, abs=0.06)


def test_float16_does_not_overflow_where_demodulation_cancels_the_style():
    """Sums of 512 channels at style 1000 leave the range of float16; in units of their maxima they stay in it."""
    torch.manual_seed(0)
    x, w, s = torch.randn(2, 512, 8, 8), torch.randn(16, 512, 3, 3), 1000 * torch.randn(2, 512)
    exact = sg.modulated_conv(x, w, s)
    with torch.autocast("cpu", dtype=torch.float16):
        half = sg.modulated_conv(x, w, s)
        conv = sg.StyledConv(512, 16, 8, False, noise=False)
        conv.affine.bias.data += 1000
        styled = conv(x, torch.randn(2, 8), None)
        far = sg.EqualConv(512, 16, 3)
        far.weight.data *= 1e4
        assert far(x).abs().max() <= 256 * 2**0.5 + 1 and torch.isfinite(styled).all()
    assert half.dtype == torch.float16 and torch.isfinite(half).all()
    torch.testing.assert_close(half.float(), exact, rtol=0.02, atol=0.02)
    assert torch.isfinite(far(x)).all() and far(x).abs().max() > 1000  # float32 is not touched


def test_resolution_changes_against_scipy():
    x = torch.randn(1, 1, 8, 12).double()
    taps = np.array(sg.FIR)
    up = upfirdn_2d(x[0, 0].numpy(), taps / 4, up=2)
    np.testing.assert_allclose(sg.upsample(x)[0, 0], up[1:17, 1:25], atol=1e-12)
    padded = np.pad(x[0, 0].numpy(), 1)
    down = upfirdn_2d(padded, taps / 8)[3:-3:2, 3:-3:2]
    np.testing.assert_allclose(sg.downsample(x)[0, 0], down, atol=1e-12)
    flat = torch.ones(1, 2, 8, 8)
    assert sg.upsample(flat)[0, 0, 4, 4] == pytest.approx(1) and sg.downsample(flat)[0, 1, 2, 2] == pytest.approx(1)


@pytest.mark.parametrize("up", [False, True])
def test_modulated_conv_has_second_derivatives(up):
    torch.manual_seed(0)
    args = [torch.randn(2, 2, 3, 3), torch.randn(2, 2, 3, 3), torch.randn(2, 2)]
    args = [a.double().requires_grad_() for a in args]
    assert torch.autograd.gradcheck(lambda *a: sg.modulated_conv(*a, up=up), args)
    assert torch.autograd.gradgradcheck(lambda *a: sg.modulated_conv(*a, up=up), args)


@pytest.mark.parametrize("n", [1, 3, 4, 6, 8])
def test_minibatch_stddev_against_a_loop(n):
    torch.manual_seed(0)
    x = torch.randn(n, 3, 2, 2)
    y = sg.minibatch_stddev(x, 4)
    g = {1: 1, 3: 3, 4: 4, 6: 3, 8: 4}[n]
    torch.testing.assert_close(y[:, :3], x)
    for i in range(n):
        group = x[[j for j in range(n) if j % (n // g) == i % (n // g)]]
        expected = group.flatten(1).var(0, unbiased=False).add(1e-8).sqrt().mean()
        torch.testing.assert_close(y[i, 3], expected.expand(2, 2))


@pytest.mark.parametrize("size", [(16, 16), (16, 32), (32, 16)])
def test_nets_fit_sizes_and_conditions(size):
    torch.manual_seed(0)
    g = sg.StyleGAN2Generator(size, 3, c_dim=2, z_dim=8, w_dim=8, channel_base=128, channel_max=8, mapping_depth=2)
    d = sg.StyleGAN2Discriminator(size, 3, c_dim=2, channel_base=128, channel_max=8, mapping_depth=2)
    z, c, noise = torch.randn(4, 8), torch.tensor([[1.0, 0]] * 4), g.draw_noise(4, "cpu")
    image = g(z, c, noise=noise)
    assert image.shape == (4, 3, *size) and d(image, c).shape == (4,)
    other = torch.tensor([[0.0, 1]] * 4)
    assert not torch.allclose(g(z, other, noise=noise), image)
    assert not torch.allclose(d(image, other), d(image, c))
    g.w_mean.normal_()
    flat = g(z, c, truncation=0.0, noise=noise)
    torch.testing.assert_close(flat[0], flat[1])  # noise strengths start at 0: all are the mean image


def test_unconditional_nets():
    g = sg.StyleGAN2Generator((8, 8), 1, z_dim=8, w_dim=8, channel_max=8)
    d = sg.StyleGAN2Discriminator((8, 8), 1, channel_max=8)
    none = torch.zeros(2, 0)
    assert d(g(torch.randn(2, 8), none), none).shape == (2,)


@pytest.mark.parametrize("size", [(60, 60), (16, 64), (4, 4)])
def test_sizes_that_are_refused(size):
    with pytest.raises(InputError, match="powers of two"):
        sg.check_size(size)


def test_a_given_mask_moves_pixels_where_it_differs_and_starts_without_effect():
    torch.manual_seed(0)
    g = sg.StyleGAN2Generator((16, 32), 1, z_dim=8, w_dim=8, channel_base=128, channel_max=8, mapping_depth=2, mask_channels=2)
    z, none, noise = torch.randn(2, 8), torch.zeros(2, 0), g.draw_noise(2, "cpu")
    mask = torch.full((2, 2, 16, 32), -1.0)
    other = mask.clone()
    other[:, :, :, :4] = 1
    torch.testing.assert_close(g(z, none, noise=noise, mask=mask), g(z, none, noise=noise, mask=other))
    for conv in g.convs[-2:]:  # the last resolution, which sees 6 pixels around
        conv.by_mask.last.weight.data.normal_()
    change = (g(z, none, noise=noise, mask=mask) - g(z, none, noise=noise, mask=other)).abs().amax((0, 1, 2))
    assert (change[:4] > 1e-3).all() and (change[12:] == 0).all()


def test_mask_modulation_is_spade_without_its_normalization():
    torch.manual_seed(0)
    block = sg.MaskModulation(2, 3, hidden=4).double()
    block.last.weight.data.normal_()
    x, mask = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 2, 8, 8).double()
    small = mask.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    hidden = torch.relu(h := torch.nn.functional.conv2d(small, block.hidden.weight / (2 * 9) ** 0.5, padding=1)) - 0.2 * torch.relu(-h)
    scale, shift = torch.nn.functional.conv2d(2**0.5 * hidden, block.last.weight / (4 * 9) ** 0.5, padding=1).split(3, 1)
    torch.testing.assert_close(block(x, mask), x * (1 + scale) + shift)


def test_a_discriminator_that_also_judges_pictures_alone():
    torch.manual_seed(0)
    narrow = {"channel_base": 32, "channel_max": 4, "mapping_depth": 1}
    net, x = sg.StyleGAN2Discriminator((8, 8), 2, c_dim=3, free=True, **narrow).double(), torch.randn(4, 2, 8, 8, dtype=torch.float64)
    plain = sg.StyleGAN2Discriminator((8, 8), 2, c_dim=3, **narrow).double()
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("free.")})
    one, other = (net(x, torch.randn(4, 3, dtype=torch.float64)) for _ in range(2))
    assert one.shape == (4, 2) and torch.equal(one[:, 0], other[:, 0]) and not torch.isclose(one[:, 1], other[:, 1]).any()
    c = torch.randn(4, 3, dtype=torch.float64)
    assert torch.equal(net(x, c)[:, 1], plain(x, c)) and one[:, 0].std() > 0
    assert sg.StyleGAN2Discriminator((8, 8), 2, free=True, **narrow)(x.float(), torch.zeros(4, 0)).shape == (4,)


def test_a_condition_counts_as_much_as_its_share():
    torch.manual_seed(0)
    net, z = sg.Mapping(4, 3, 5, 1), torch.randn(2, 4)
    one, other = torch.randn(2, 2, 3)
    assert not torch.isclose(net(z, one), net(z, other)).all()
    net.share = 0.0
    assert torch.equal(net(z, one), net(z, other)) and not torch.equal(net(z, one), net(z.flip(0), one))
    net.share = 0.5  # the first layer is linear in the embedded condition, before the leaky ReLU
    inputs, layer = torch.cat([sg.unit_moment(z), 0.5 * sg.unit_moment(net.embed(one))], 1), net.layers[0]
    slow = inputs @ (layer.weight * layer.scale).t() + layer.bias * layer.lr_mult
    torch.testing.assert_close(net(z, one), torch.where(slow > 0, slow, 0.2 * slow) * 2**0.5)


def test_a_generator_without_noise_draws_from_styles_alone():
    torch.manual_seed(0)
    narrow = {"c_dim": 2, "z_dim": 4, "w_dim": 4, "channel_base": 32, "channel_max": 4, "mapping_depth": 1}
    net, noisy = sg.StyleGAN2Generator((8, 8), 2, noise=False, **narrow), sg.StyleGAN2Generator((8, 8), 2, **narrow)
    noisy.load_state_dict(net.state_dict(), strict=False)
    assert set(noisy.state_dict()) - set(net.state_dict()) == {f"convs.{i}.noise_strength" for i in range(len(net.convs))}
    ws = torch.randn(3, net.num_ws, 4)
    assert net.draw_noise(3, "cpu") == [] and torch.equal(net.synthesize(ws), net.synthesize(ws))
    assert torch.equal(net.synthesize(ws), noisy.synthesize(ws))  # strengths start at 0
    noisy.convs[0].noise_strength.data += 1
    assert not torch.equal(noisy.synthesize(ws), noisy.synthesize(ws))

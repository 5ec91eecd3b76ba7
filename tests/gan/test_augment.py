import pytest
import torch

from synthrad.gan.augment import AdaptiveProbability, Augment, blit, warp

ALL = {"flip": 1, "filter": 1, "noise": 1, "cutout": 1}
STILL = dict.fromkeys(Augment.GEOMETRY, 0)


def test_p_zero_is_the_identity():
    x = torch.randn(4, 3, 32, 32)
    assert Augment(1, **ALL)(x, 0.0) is x


def test_blits_copy_pixels_exactly():
    x = torch.randn(1, 2, 16, 32)
    shift = torch.eye(3)[None].clone()
    shift[:, 0, 2] = 3  # output pixel j shows input pixel j + 3
    assert torch.equal(blit(x, shift)[..., :-3], x[..., 3:])
    assert torch.equal(blit(x, shift)[..., -3:], x[..., -3:].flip(3))
    assert torch.equal(blit(x, torch.diag(torch.tensor([-1.0, 1, 1]))[None]), x.flip(3))
    turn = torch.tensor([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]])  # x right, y down: output (x, y) shows input (-y, x)
    square = x[..., :16]
    assert torch.equal(blit(square, turn), square.rot90(1, (2, 3)))


def test_warp_keeps_and_moves_smooth_pictures():
    picture = blob()[None, None]
    torch.testing.assert_close(warp(picture, torch.eye(3)[None]), picture, atol=0.02, rtol=0)
    turn = torch.tensor([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]])
    torch.testing.assert_close(warp(picture, turn), picture.rot90(1, (2, 3)), atol=0.02, rtol=0)
    shift = torch.eye(3)[None].clone()
    shift[:, 1, 2] = 5
    torch.testing.assert_close(warp(picture, shift)[:, :, :-5], picture[:, :, 5:], atol=0.02, rtol=0)


def blob(size=64):
    """A smooth picture whose sign is its mask."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    return (0.5 - ((x - 0.2) ** 2 + 2 * (y + 0.1) ** 2)) * 2


def test_masks_follow_the_geometry_of_the_image():
    torch.manual_seed(0)
    picture = blob()
    pair = torch.stack([picture, (picture > 0).float() * 2 - 1])[None].repeat(32, 1, 1, 1)
    still_colours = {"brightness": 0, "contrast": 0, "invert": 0}
    out = Augment(1, flip=1, **still_colours)(pair, 1.0)
    assert (out[:, 0] - picture).abs().mean() > 0.1  # it did move
    agree = ((out[:, 0] > 0) == (out[:, 1] > 0)).float().mean((1, 2))
    assert agree.min() > 0.97


def test_photometry_leaves_masks_alone():
    torch.manual_seed(0)
    x = torch.randn(8, 3, 64, 64)
    out = Augment(1, **STILL, filter=1, noise=1, cutout=1)(x, 1.0)
    torch.testing.assert_close(out[:, 1:], x[:, 1:])
    assert ((out[:, :1] - x[:, :1]).abs().flatten(1).max(1).values > 0.01).all()


def test_gradients_flow():
    torch.manual_seed(0)
    x = torch.randn(4, 2, 32, 64, requires_grad=True)
    Augment(1, **ALL)(x, 1.0).square().sum().backward()
    assert torch.isfinite(x.grad).all() and (x.grad.flatten(1).abs().sum(1) > 0).all()


def test_probability_is_the_share_of_changed_images():
    torch.manual_seed(0)
    x = torch.randn(2000, 1, 8, 8)
    only_shift = Augment(1, **{**STILL, "move": 1}, brightness=0, contrast=0, invert=0)
    changed = (only_shift(x, 0.3) != x).flatten(1).any(1).float().mean().item()
    assert changed == pytest.approx(0.3, abs=0.04)


def test_invert_is_the_negative_of_one_channel():
    torch.manual_seed(0)
    x = torch.randn(64, 1, 8, 8)
    out = Augment(1, **STILL, brightness=0, contrast=0)(x, 1.0)
    negative = (out == -x).flatten(1).all(1)
    assert (negative | (out == x).flatten(1).all(1)).all() and 15 < negative.sum() < 50


def test_hue_keeps_luma_and_needs_colour():
    torch.manual_seed(0)
    x = torch.randn(8, 3, 8, 8)
    out = Augment(3, **STILL, brightness=0, contrast=0, invert=0, hue=1, saturation=1)(x, 1.0)
    torch.testing.assert_close(out.mean(1), x.mean(1), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="3 image channels"):
        Augment(1, hue=1)


def test_adaptive_probability_moves_towards_its_target_and_resumes():
    ada = AdaptiveProbability(target=0.6, speed_images=1000, every=2)
    for _ in range(10):
        ada.update(1.0, 50)
    assert ada.p == pytest.approx(0.5) and ada.r_t == 1
    ada.update(0.0, 50)
    copy = AdaptiveProbability(target=0.6, speed_images=1000, every=2)
    copy.load_state_dict(ada.state_dict())
    for one in (ada, copy):
        one.update(0.0, 50)
    assert ada.p == copy.p == pytest.approx(0.4)
    fixed = AdaptiveProbability(fixed=0.2, every=1)
    fixed.update(1.0, 10**9)
    assert fixed.p == 0.2

import itertools
import math

import numpy as np
import pytest
import slow_augment
import torch

from synthrad.gan.augment import (
    AdaptiveProbability,
    Augment,
    Draws,
    affine_maps,
    blit,
    blit_maps,
    colour,
    corrupt,
    warp,
)
from synthrad.gan.resample import half_band, octave_bands

ALL = {"flip": 1, "filter": 1, "noise": 1, "cutout": 1}
STILL = dict.fromkeys(Augment.GEOMETRY, 0)


TAPS = half_band().numpy()


def same(fast, slow):
    assert fast.dtype == torch.float64
    np.testing.assert_allclose(fast.numpy(), slow, atol=1e-12, rtol=0)


def draws(names, n, h, w, channels=1, seed=0):
    """Decisions in float64 that leave no image alone."""
    torch.manual_seed(seed)
    rand = lambda *s: torch.rand(*s, dtype=torch.float64)  # noqa: E731
    every = {
        "flip": 1 - 2 * (torch.arange(n) % 2).double(), "turns": torch.arange(n) % 4,
        "shift": torch.stack([torch.arange(n) % 3 - 1, 2 - torch.arange(n)], 1).double(),
        "scale": 0.7 + rand(n), "rotate_before": 6 * rand(n) - 3, "stretch": 0.7 + rand(n), "rotate_after": 6 * rand(n) - 3,
        "move": 4 * rand(n, 2) - 2, "brightness": rand(n) - 0.5, "contrast": 0.5 + rand(n),
        "invert": ((torch.arange(n) + 1) % 2).double(), "hue": 6 * rand(n) - 3, "saturation": 2 * rand(n),
        "octaves": 0.2 + 2 * rand(n, 4), "noise": rand(n, channels, h, w), "cutout": rand(n, 2),
    }
    return Draws(**{k: every[k] for k in names})


GEOMETRY = ["flip", "turns", "shift", "scale", "rotate_before", "stretch", "rotate_after", "move"]
PHOTOMETRY = ["brightness", "contrast", "invert", "octaves", "noise", "cutout"]


@pytest.mark.parametrize("names", [["flip"], ["turns"], ["shift"], GEOMETRY[:3]], ids=str)
def test_blits_against_a_loop(names):
    d = draws(names, 5, 12, 12)
    x = torch.randn(5, 2, 12, 12, dtype=torch.float64)
    same(blit(x, blit_maps(d)), np.stack([slow_augment.blit(i, slow_augment.blits(d, k, 12, 12)) for k, i in enumerate(x.numpy())]))
    assert affine_maps(d) is None


@pytest.mark.parametrize("names", [[n] for n in GEOMETRY[3:]] + [GEOMETRY[3:]], ids=str)
def test_general_geometry_against_a_loop(names):
    d = draws(names, 2, 8, 16)
    x = torch.randn(2, 1, 8, 16, dtype=torch.float64)
    forward = [slow_augment.general(d, k) for k in range(2)]
    np.testing.assert_allclose(affine_maps(d).numpy(), np.linalg.inv(forward), atol=1e-12)
    same(warp(x, affine_maps(d)), np.stack([slow_augment.warp(i, f, TAPS) for i, f in zip(x.numpy(), forward, strict=True)]))


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_colours_against_homogeneous_matrices(channels):
    names = PHOTOMETRY[:3] + (["hue", "saturation"] if channels == 3 else [])
    x = torch.randn(3, channels, 4, 4, dtype=torch.float64)
    for chosen in [[n] for n in names] + [names]:
        d = draws(chosen, 3, 4, 4)
        same(colour(x, d), np.stack([slow_augment.colour(i, d, k) for k, i in enumerate(x.numpy())]))


def test_bands_and_corruptions_against_a_loop():
    np.testing.assert_allclose(octave_bands().numpy(), slow_augment.bands(), atol=1e-15)
    x = torch.randn(3, 2, 24, 22, dtype=torch.float64)
    d = draws(["octaves"], 3, 24, 22)
    same(corrupt(x, d), np.stack([slow_augment.filtered(i, g) for i, g in zip(x.numpy(), d.octaves.numpy(), strict=True)]))
    d = Draws(cutout=torch.tensor([[0.1, 0.9], [0.52, 0.31], [torch.inf, torch.inf]]))
    same(corrupt(x, d), np.stack([slow_augment.cutout(i, *c) for i, c in zip(x.numpy(), d.cutout.tolist(), strict=True)]))


def test_the_whole_pipeline_has_the_papers_order_and_spares_masks_the_photometry():
    d = draws(GEOMETRY + PHOTOMETRY, 2, 22, 22)
    x = torch.randn(2, 2, 22, 22, dtype=torch.float64)
    same(Augment(1).apply_draws(x, d), slow_augment.augmented(x, d, 1, TAPS))
    rgb = draws(["brightness", "contrast", "invert", "hue", "saturation", "octaves", "noise", "cutout"], 2, 22, 22, 3)
    x = torch.randn(2, 4, 22, 22, dtype=torch.float64)
    same(Augment(3).apply_draws(x, rgb), slow_augment.augmented(x, rgb, 3, TAPS))


def test_decisions_have_the_papers_distributions():
    """Mean, spread and range of each parameter among the images that got it, and how many did (p = 0.5)."""
    torch.manual_seed(0)
    n, p, share = 8000, 0.5, 0.025
    every = dict.fromkeys(("flip", "hue", "saturation", "filter", "noise", "cutout"), 1)
    d = Augment(3, **every).draw(torch.zeros(1, 3, 24, 24).expand(n, -1, -1, -1), p)
    assert ((d.flip == -1).float().mean() - p / 2).abs() < share
    assert torch.allclose(torch.bincount(d.turns) / n, torch.tensor([1 - 0.75 * p, p / 4, p / 4, p / 4]), atol=share)
    assert d.shift.abs().max() == 3 and torch.equal(d.shift, d.shift.round())  # 1/8 of 24
    turning = 1 - math.sqrt(1 - p)
    for name, neutral, rate in (("scale", 1, p), ("stretch", 1, p), ("rotate_before", 0, turning), ("rotate_after", 0, turning),
                                ("move", 0, p), ("brightness", 0, p), ("contrast", 1, p), ("hue", 0, p), ("saturation", 1, p)):
        value = getattr(d, name)
        value = value[:, 0] if value.ndim == 2 else value
        changed = value[value != neutral]
        assert abs(len(changed) / n - rate) < share, name
        spread = {"scale": 0.2, "stretch": 0.2, "contrast": 0.5, "saturation": 1.0, "move": 0.125 * 24, "brightness": 0.2,
                  "rotate_before": math.pi / math.sqrt(3), "rotate_after": math.pi / math.sqrt(3), "hue": math.pi / math.sqrt(3)}
        centred = changed.log2() if neutral == 1 else changed  # factors are 2 to a normal power
        assert centred.std().item() == pytest.approx(spread[name], rel=0.04), name
        assert abs(centred.mean().item()) < 0.05 * spread[name], name
    assert ((d.invert == 1).float().mean() - p / 2).abs() < share
    both = ((d.rotate_before != 0) | (d.rotate_after != 0)).float().mean()
    assert (both - p).abs() < share  # that is what 1 - sqrt(1 - p) is for
    power = (torch.tensor([10, 1, 1, 1]) / 13 * d.octaves.square()).sum(1)
    one = (d.octaves / d.octaves[:, :1]).sub(1).abs().gt(1e-6)[:, 1:].sum(1) == 0  # all bands alike: no band, or all by chance
    assert power[one].sub(1).abs().max() < 1e-4 and (one.float().mean() - (1 - p) ** 4).abs() < share
    sigma = d.noise.flatten(1).std(1)
    assert ((sigma > 0).float().mean() - p).abs() < share
    assert sigma[sigma > 0].mean().item() == pytest.approx(0.1 * math.sqrt(2 / math.pi), rel=0.03)  # half-normal
    cut = d.cutout[torch.isfinite(d.cutout[:, 0])]
    assert abs(len(cut) / n - p) < share and (cut.mean(0) - 0.5).abs().max() < share and cut.min() >= 0 and cut.max() <= 1


def test_half_turns_only_where_the_picture_is_not_square():
    turns = Augment(1).draw(torch.zeros(100, 1, 8, 16), 1.0).turns
    assert set(turns.tolist()) == {0, 2}


def orbit():
    """[16, 1, 8, 8]: a picture without symmetry in every state that flips, quarter turns and inversion can reach."""
    torch.manual_seed(3)
    picture = torch.randn(1, 8, 8)
    flips = [picture, picture.flip(2)]
    return torch.stack([s * f.rot90(k, (1, 2)) for s in (1, -1) for f in flips for k in range(4)])


def states_of(pictures):
    """Which state of the orbit each picture is: these transforms are exact, no other picture may appear."""
    states = orbit()
    index = (pictures.flatten(1) @ states.flatten(1).T).argmax(1)
    assert torch.equal(states[index], pictures)
    return index


def discrete(*transforms):
    return Augment(1, **{**STILL, "brightness": 0, "contrast": 0, "invert": 0, **dict.fromkeys(transforms, 1)})


def transitions(p, *transforms):
    """[16, 16]: probability that state j becomes state i, from the paper's probabilities of each decision."""
    chances = {"flip": [1 - p / 2, p / 2], "rotate90": [1 - 0.75 * p, p / 4, p / 4, p / 4], "invert": [1 - p / 2, p / 2]}
    values = {"flip": torch.tensor([1.0, -1.0]), "rotate90": torch.arange(4), "invert": torch.tensor([0.0, 1.0])}
    matrix = torch.zeros(16, 16, dtype=torch.float64)
    for choice in itertools.product(*(range(len(chances[t])) for t in transforms)):
        decided = {FIELD[t]: values[t][k].repeat(16) for t, k in zip(transforms, choice, strict=True)}
        after = states_of(Augment(1).apply_draws(orbit(), Draws(**decided)))
        matrix[after, torch.arange(16)] += math.prod(chances[t][k] for t, k in zip(transforms, choice, strict=True))
    return matrix


FIELD = {"flip": "flip", "rotate90": "turns", "invert": "invert"}


@pytest.mark.parametrize(("p", "transforms"), [(0.3, ("flip", "rotate90", "invert")), (0.6, ("flip", "invert")), (0.8, ("rotate90",))])
def test_augmentation_below_p_1_does_not_leak(p, transforms):
    """Section 2.2: for p < 1 the distribution of the augmented pictures determines that of the original ones."""
    matrix = transitions(p, *transforms)
    smallest = torch.linalg.svdvals(matrix).min().item()
    assert smallest == pytest.approx((1 - p) ** len(transforms))  # of every difference between states, that much is left
    original = torch.arange(1, 17, dtype=torch.float64) / 136
    torch.manual_seed(2)
    drawn, n = torch.multinomial(original, 40_000, replacement=True), 40_000
    seen = torch.bincount(states_of(discrete(*transforms)(orbit()[drawn], p)), minlength=16).double() / n
    assert (seen - original).abs().max() > 0.01  # the augmented pictures are distributed otherwise
    error = (torch.linalg.solve(matrix, seen) - original).norm()
    assert error < 3 / math.sqrt(n) / smallest  # what is left after the inversion is the noise of counting


def test_quarter_turns_at_p_1_leak():
    """A picture and its turns become one and the same distribution: nothing tells any more which one was real."""
    values = torch.linalg.svdvals(transitions(1.0, "rotate90"))
    assert (values > 0.999).sum() == 4 and values[4:].max() < 1e-12  # 16 states, 4 orbits: 12 ways to differ are lost
    torch.manual_seed(2)
    for state in (0, 1):  # counted: the state before and the state after have nothing to do with each other
        after = states_of(discrete("rotate90")(orbit()[[state] * 8000], 1.0))
        assert torch.allclose(torch.bincount(after, minlength=16)[:4] / 8000, torch.tensor(0.25), atol=0.02)


def test_autocast_changes_nothing():
    torch.manual_seed(0)
    x = torch.randn(4, 2, 64, 64)
    d = Augment(1, **ALL).draw(x, 1.0)
    plain = Augment(1).apply_draws(x, d)
    with torch.autocast("cpu", torch.bfloat16):
        cast = Augment(1).apply_draws(x, d)
        half = Augment(1).apply_draws(x.bfloat16(), d)
    assert torch.equal(plain, cast) and half.dtype == torch.float32


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

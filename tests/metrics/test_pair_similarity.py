import numpy as np
import pytest
import torch
from monai.metrics import MultiScaleSSIMMetric
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from synthrad.errors import InputError
from synthrad.metrics.pair_similarity import WEIGHTS, drawn_pairs, ms_ssim, pair_mean, scales_of, within_set


@pytest.mark.parametrize(("kernel", "dims", "expected"), [("gaussian", 2, 0.023176), ("uniform", 2, 0.022655), ("gaussian", 3, 0.061796)])
def test_the_values_of_monai(kernel, dims, expected):
    torch.manual_seed(0)
    x, y = (torch.abs(torch.randn(1, 1, *[64] * dims)) for _ in range(2))
    x, y = x / x.max(), y / y.max()
    measure = MultiScaleSSIMMetric(dims, data_range=1.0, kernel_type=kernel, weights=[0.5, 0.5])
    assert float(measure(x, y)) == pytest.approx(expected, abs=1e-4)


def test_scales_that_an_image_bears():
    assert scales_of(256, 400) == WEIGHTS and [len(scales_of(s, 300)) for s in (11, 22, 44, 64, 128)] == [1, 2, 3, 3, 4]
    assert sum(scales_of(64, 64)) == pytest.approx(1)
    for side in range(11, 200, 7):  # MONAI takes all of them
        ms_ssim(torch.rand(1, 1, side, side), torch.rand(1, 1, side, side))
    with pytest.raises(InputError):
        scales_of(10, 64)


def test_as_in_torchmetrics_and_whatever_the_batch():
    torch.manual_seed(0)
    x = torch.nn.functional.avg_pool2d(torch.rand(70, 1, 102, 102) * 2 - 1, 7, 1)[..., :96, :96]
    share = torch.linspace(0, 1, 70).reshape(-1, 1, 1, 1)
    y = share * x + (1 - share) * torch.roll(x, 1, 0)
    found = ms_ssim(x, y)
    theirs = multiscale_structural_similarity_index_measure(x, y, data_range=2.0, betas=scales_of(96, 96), reduction="none", normalize="relu")
    np.testing.assert_allclose(found[:5], ms_ssim(x[:5], y[:5]), atol=1e-6)
    assert np.corrcoef(found, theirs.numpy())[0, 1] > 0.99 and np.abs(found - theirs.numpy()).max() < 0.12  # they mirror the borders
    assert ms_ssim(x[:3], x[:3]) == pytest.approx(np.ones(3), abs=1e-5)


def test_pairs():
    units = np.array([*"aabbcd"])
    pairs = drawn_pairs(units, 100)
    assert {tuple(p) for p in pairs} == {(i, j) for i in range(6) for j in range(i + 1, 6) if units[i] != units[j]}
    few = drawn_pairs(np.arange(50), 20, seed=1)
    assert len({tuple(p) for p in few}) == 20 and np.array_equal(few, drawn_pairs(np.arange(50), 20, seed=1))
    assert not np.array_equal(few, drawn_pairs(np.arange(50), 20, seed=2)) and len(drawn_pairs(np.arange(3000), 500)) == 500


def test_the_interval_is_that_of_other_images():
    """Products of normal numbers with mean 1: the mean over pairs is 1 whoever is drawn; images, not pairs, are independent."""
    covered, naive = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = rng.normal(1, 1, 40)
        pairs = drawn_pairs(np.arange(40), 300, seed)
        values = x[pairs[:, 0]] * x[pairs[:, 1]]
        found = pair_mean(values, pairs, np.arange(40))
        covered.append(found.low < 1 < found.high)
        naive.append(abs(values.mean() - 1) < 1.96 * values.std() / np.sqrt(300))
    assert 0.9 < np.mean(covered) < 0.99 and np.mean(naive) < 0.7


def test_a_set_of_few_modes_is_more_alike():
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(40, 1, 32, 32, generator=rng) * 2 - 1
    modes = images[:4].repeat(10, 1, 1, 1)
    varied, alike = within_set(images, np.arange(40)), within_set(modes, np.arange(40))
    assert alike.low > varied.high and varied.units == 40 and varied.pairs == 500
    assert within_set(modes, np.tile(np.arange(4), 10)).value < alike.value  # of one patient: not paired
    with pytest.raises(InputError):
        within_set(images[:2], np.arange(2))

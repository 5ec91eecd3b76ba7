import numpy as np
import pytest
import torch
from scipy import stats
from torchmetrics.image.fid import FrechetInceptionDistance

from synthrad.errors import InputError
from synthrad.metrics.features import RadiomicsFeatures, Standardizer, feature_names, radiomics, structure
from synthrad.metrics.fidelity import frechet_distance


def smooth(n, channels=1, height=32, width=32, seed=0):
    """Blobs in [-1, 1]."""
    coarse = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, channels, height // 4, width // 4))).float()
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").tanh()


def table(images):
    return dict(zip(feature_names(["x"]), radiomics(images).double().numpy().T, strict=True))


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 32, 64), (3, 24, 17), (8, 16, 32)])
def test_columns_are_named_finite_and_a_function_of_the_channels_alone(shape):
    images = smooth(3, *shape[:1], 64, 64)[:, :, : shape[1], : shape[2]]
    found = radiomics(images)
    names = feature_names([f"c{k}" for k in range(shape[0])])
    assert found.shape == (3, len(names)) == (3, RadiomicsFeatures(shape[0]).num_features)
    assert len(set(names)) == len(names) == 140 * shape[0] + shape[0] * (shape[0] - 1) // 2
    assert torch.isfinite(found).all()


def test_each_row_is_of_its_image_alone(monkeypatch):
    images = smooth(7, 2)
    whole = radiomics(images)
    monkeypatch.setattr("synthrad.metrics.features.PIXELS_AT_ONCE", 2 * 2 * 32 * 32)
    torch.testing.assert_close(radiomics(images), whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(radiomics(images.flip(0)).flip(0), whole, rtol=1e-5, atol=1e-6)
    assert torch.equal(radiomics(images), radiomics(images))
    assert radiomics(images[:0]).shape == (0, whole.shape[1])


def test_first_order_against_scipy():
    images = smooth(4)
    flat, found = images.flatten(1).double().numpy(), table(images)
    np.testing.assert_allclose(found["x/mean"], flat.mean(1), atol=1e-6)
    np.testing.assert_allclose(found["x/sd"], flat.std(1), rtol=1e-5)
    np.testing.assert_allclose(found["x/skewness"], stats.skew(flat, 1), atol=1e-3)  # QUIET is added to the variance
    np.testing.assert_allclose(found["x/log_kurtosis"], np.log1p(stats.kurtosis(flat, 1, fisher=False)), rtol=1e-3)
    for p in (1, 25, 50, 99):
        np.testing.assert_allclose(found[f"x/percentile_{p}"], np.percentile(flat, p, axis=1), atol=1e-6)
    counts = np.stack([np.histogram(row, 32, (-1, 1))[0] for row in flat]) / flat.shape[1]
    np.testing.assert_allclose(found["x/histogram_entropy"], stats.entropy(counts, axis=1), rtol=1e-5)
    np.testing.assert_allclose(found["x/histogram_uniformity"], (counts**2).sum(1), rtol=1e-5)


@pytest.mark.parametrize(("distance", "angle", "step"), [(1, 0, (0, 1)), (2, 45, (-2, 2)), (4, 90, (-4, 0)), (1, 135, (-1, -1))])
def test_cooccurrence_against_loops(distance, angle, step):
    """Haralick's formulas, pair by pair."""
    image = smooth(1, 1, 20, 16)
    level = np.minimum(((image[0, 0].double().numpy() + 1) * 8).astype(int), 15)
    p = np.zeros((16, 16))
    for y in range(20):
        for x in range(16):
            if 0 <= y + step[0] < 20 and 0 <= x + step[1] < 16:
                a, b = level[y, x], level[y + step[0], x + step[1]]
                p[a, b] += 1
                p[b, a] += 1
    p /= p.sum()
    i, j = np.indices(p.shape)
    mean = (i * p).sum()
    variance = ((i - mean) ** 2 * p).sum()
    expected = {
        "log_contrast": np.log1p(((i - j) ** 2 * p).sum()), "correlation": ((i - mean) * (j - mean) * p).sum() / variance,
        "energy": np.sqrt((p**2).sum()), "homogeneity": (p / (1 + (i - j) ** 2)).sum(), "entropy": stats.entropy(p.ravel()),
    }
    found = table(image)
    for name, value in expected.items():
        assert found[f"x/cooccurrence_{name}_{distance}px_{angle}deg"][0] == pytest.approx(value, rel=1e-5), name


def test_orientation_and_layout_are_seen():
    """Stripes, and a square in one corner: a quarter turn moves what it should and nothing else."""
    stripes = torch.sin(torch.arange(32) * 2.0).expand(1, 1, 32, 32).clone()
    turned = stripes.transpose(2, 3)
    one, other = table(stripes), table(turned)
    assert one["x/gradient_0deg"] == pytest.approx(8, rel=1e-3) and one["x/gradient_90deg"] == 0
    assert other["x/gradient_90deg"] == pytest.approx(8, rel=1e-3)
    for pattern in ("octave0_log_energy_{}deg", "cooccurrence_log_contrast_1px_{}deg"):
        across, along = "x/" + pattern.format(0), "x/" + pattern.format(90)
        assert one[across] > one[along] + 1 and one[across] == pytest.approx(other[along]) and other[across] == one[along]
    assert one["x/octave0_log_energy"] > one["x/octave3_log_energy"] + 1  # a wave of 3 pixels
    corner = torch.full((1, 1, 32, 32), -1.0)
    corner[..., :8, 24:] = 1
    found = table(corner)
    assert found["x/cell_03_mean"] == 1 and found["x/cell_30_mean"] == -1 and found["x/cell_03_sd"] == 0
    same = [k for k in found if not k.split("_")[0].endswith(("cell", "gradient")) and "deg" not in k]
    for name in same:
        assert found[name] == pytest.approx(table(corner.rot90(1, (2, 3)))[name], rel=1e-4), name


def test_flat_images_are_finite_and_rounding_to_8_bits_hardly_matters():
    flat = radiomics(torch.full((2, 2, 16, 16), -1.0))
    assert torch.isfinite(flat).all()
    images = smooth(40)
    fit = Standardizer.fit(radiomics(images))
    rounded = ((images + 1) * 127.5).round() / 127.5 - 1
    assert np.abs(fit(radiomics(images)) - fit(radiomics(rounded))).mean() < 0.03


def test_channels_that_do_not_belong_together_are_told():
    pair = smooth(6, 1).repeat(1, 2, 1, 1)
    swapped = torch.stack([pair[:, 0], pair.roll(1, 0)[:, 1]], 1)
    names = feature_names(["a", "b"])
    at = names.index("correlation/a~b")
    assert (radiomics(pair)[:, at] > 0.999).all() and (radiomics(swapped)[:, at].abs() < 0.9).all()


@pytest.mark.parametrize(("images", "message"), [
    (torch.zeros(2, 1, 8, 32), "at least 16"), (torch.zeros(2, 32, 32), "n, C, H, W"),
    (torch.full((1, 1, 16, 16), 200.0), "pixels from"),
    (torch.tensor([0.0, float("nan")]).view(2, 1, 1, 1).expand(2, 1, 16, 16), "NaN or Inf in 1 of 2"),
])
def test_bad_images(images, message):
    with pytest.raises(InputError, match=message):
        radiomics(images)


def test_module_refuses_other_channels():
    with pytest.raises(InputError, match="3 channels"):
        RadiomicsFeatures(1)(torch.zeros(1, 3, 16, 16))


def test_module_serves_torchmetrics():
    real, fake = smooth(300, 1, 16, 16), smooth(300, 1, 16, 16, seed=1) * 0.8
    metric = FrechetInceptionDistance(feature=RadiomicsFeatures(1), normalize=True)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    assert float(metric.compute()) == pytest.approx(frechet_distance(radiomics(real), radiomics(fake)), rel=1e-3)


def test_standardizer_guards_constant_columns_and_bounds_outliers():
    rng = np.random.default_rng(0)
    reference = np.stack([rng.normal(5, 2, 500), np.full(500, 0.3)], 1)
    fit = Standardizer.fit(reference)
    scaled = fit(reference)
    np.testing.assert_allclose(scaled[:, 0].std(ddof=1), 1)
    assert (np.abs(scaled[:, 1]) < 1e-9).all()
    assert fit(np.array([[5.0, 0.31], [1e9, -4.0]]))[:, 1] == pytest.approx([1, -10]) and fit(np.array([[1e9, 0]]))[0, 0] == 10
    with pytest.raises(InputError, match="at least 2"):
        Standardizer.fit(reference[:1])


def test_structure_leaves_brightness_contrast_shading_and_grain_out():
    images = smooth(6, 2, 64, 128) * 0.5
    rows = structure(images)
    assert rows.shape == (6, 2 * 32 * 64) and torch.allclose(rows.norm(dim=1), torch.ones(6))
    apart = torch.cdist(rows, rows)[~torch.eye(6, dtype=bool)]
    assert apart.min() > 1  # other images: sqrt(2 - 2 r)
    shading = torch.linspace(-0.3, 0.3, 128).expand(64, 128)
    random = torch.Generator().manual_seed(0)
    for same in (images + 0.1, images * 0.5, images + shading, images + 0.05 * torch.randn(images.shape, generator=random)):
        assert (structure(same.clamp(-1, 1)) - rows).norm(dim=1).max() < 0.25
    assert not structure(torch.full((2, 1, 32, 32), 0.5)).any()


def test_structure_is_pooled_less_the_means_of_its_cells():
    image = smooth(1, 1, 64, 64, seed=1)
    small = image[0, 0].reshape(32, 2, 32, 2).mean((1, 3)).numpy()
    cells = small.reshape(8, 4, 8, 4).mean((1, 3))
    at = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    low = np.clip(np.floor(at).astype(int), 0, 6)
    part = at - low
    along = lambda x: x[low] * (1 - part)[:, None] + x[low + 1] * part[:, None]  # noqa: E731
    slow = small - along(along(cells).T).T
    np.testing.assert_allclose(structure(image)[0].numpy(), (slow / np.linalg.norm(slow)).ravel(), atol=1e-5)

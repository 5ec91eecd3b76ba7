"""Copies of real images are found through moves, contrast and grain, and only those."""

import math

import numpy as np
import pytest
import torch

from synthrad.data.phantom import draw_phantom
from synthrad.errors import InputError
from synthrad.metrics.copies import Moves, Pairs, band, middle, moved

FEW = Moves(degrees=(-8.0, 0.0, 8.0), scales=(0.9, 1.0, 1.1), fine=32, refined=2)


@pytest.fixture(scope="module")
def phantoms():
    images = np.stack([draw_phantom(0, k, (48, 64)).image for k in range(24)])
    return torch.from_numpy(images).float()[:, None] / 127.5 - 1


def test_a_move_is_what_it_says():
    image = torch.zeros(1, 1, 32, 48)
    image[..., 10:14, 20:24] = 1

    def centre(*move):
        out = moved(image, torch.tensor([move], dtype=torch.float32))[0, 0]
        y, x = torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij")
        return float((out * y).sum() / out.sum()), float((out * x).sum() / out.sum()), float(out.sum())

    assert centre(0, 0, 0, 0, 1) == pytest.approx((11.5, 21.5, 16))
    assert centre(0, 0, 0.25, 0.125, 1)[:2] == pytest.approx((13.5, 25.5))  # 4 pixels right, 2 down
    assert centre(0, 0, 0, 0, -1)[:2] == pytest.approx((11.5, 25.5))
    y, x, area = centre(0, math.log(1.5), 0, 0, 1)
    assert (y, x) == pytest.approx((15.5 - 4 * 1.5, 23.5 - 2 * 1.5), abs=0.1) and area == pytest.approx(36, rel=0.05)
    y, x, _ = centre(math.pi / 2, 0, 0, 0, 1)
    assert (y, x) == pytest.approx((15.5 - 2, 23.5 + 4), abs=0.1)  # what lay left and above of the middle


def test_the_search_is_the_best_of_all_moves_and_its_refinement_no_worse(phantoms):
    real, synthetic = phantoms[:3], phantoms[3:8]
    pairs = Pairs(synthetic, real, FEW)
    small, queries = band(real, FEW.coarse), middle(band(synthetic, FEW.coarse), FEW.window)
    for k, (values, moves) in enumerate(pairs.coarse()):
        for s in range(5):
            again = middle(moved(small[k : k + 1], moves[s : s + 1]), FEW.window)
            assert float((again * queries[s]).sum()) == pytest.approx(float(values[s]), abs=0.02)
        every = [middle(moved(small[k : k + 1], torch.tensor([[math.radians(d), math.log(z), 0, 0, f]])), FEW.window) @ queries.T
                 for d in FEW.degrees for z in FEW.scales for f in (1.0, -1.0)]
        assert (values >= torch.cat(every).max(0).values - 1e-4).all()  # shifts only add to these
    found = pairs.best()
    start = torch.stack([m[v.argmax()] for v, m in pairs.coarse()])
    at = torch.tensor([int(v.argmax()) for v, _ in pairs.coarse()])
    same = (middle(moved(pairs._real, start), FEW.window) * middle(pairs._synthetic[at], FEW.window)).sum(1)
    assert (found.similarity >= same - 1e-5).all()


@pytest.mark.parametrize(("change", "least"), [
    (lambda x: x, 0.999), (lambda x: x.flip(-1), 0.999), (lambda x: x * 0.5 + 0.2, 0.999), (lambda x: x + 0.1 * torch.randn(x.shape), 0.9),
    (lambda x: moved(x, torch.tensor([[0.1, 0.1, 0.1, -0.08, -1.0]] * len(x))), 0.9),
])
def test_copies_are_found(phantoms, change, least):
    torch.manual_seed(0)
    real, others = phantoms[:8], phantoms[12:]
    found = Pairs(torch.cat([others, change(real)]), real, FEW).best()
    assert found.index.tolist() == list(range(len(others), len(others) + 8)) and found.similarity.min() > least
    assert Pairs(others, real, FEW).best().similarity.max() < 0.97


def test_flat_images_resemble_nothing():
    flat, real = torch.zeros(2, 1, 32, 32), torch.rand(2, 1, 32, 32)
    assert Pairs(flat, real, FEW).best().similarity.abs().max() < 1e-3


@pytest.mark.parametrize("wrong", [torch.zeros(2, 1, 8, 32), torch.zeros(2, 2, 32, 32), torch.full((2, 1, 32, 32), float("nan"))])
def test_what_cannot_be_compared_is_refused(wrong):
    with pytest.raises(InputError):
        Pairs(wrong, torch.zeros(2, 1, 32, 32))

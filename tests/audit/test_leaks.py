import numpy as np
import pytest
import torch

from synthrad.audit.leaks import BEYOND, WITHIN, plant
from synthrad.data.phantom import draw_phantom

IMAGES = torch.from_numpy(np.stack([draw_phantom(0, k, (48, 64)).image for k in range(6)])).float()[:, None] / 127.5 - 1


@pytest.mark.parametrize("leak", [*WITHIN, *BEYOND])
def test_a_leak_is_reproducible_in_range_and_its_own(leak):
    made, again = plant(leak, IMAGES[:4], IMAGES[4:], 0), plant(leak, IMAGES[:4], IMAGES[4:], 0)
    assert torch.equal(made, again) and made.shape == IMAGES[:4].shape and made.abs().max() <= 1 and torch.isfinite(made).all()
    levels = (made + 1) / 2 * 255
    assert (levels - levels.round()).abs().max() < 1e-3
    changed = (made - IMAGES[:4]).abs().mean((1, 2, 3))
    assert (changed < 1e-6).all() if leak == "exact" else (changed > 0.005).all()
    if leak not in ("exact", "flipped", "blurred", "half"):
        assert not torch.equal(plant(leak, IMAGES[:4], IMAGES[4:], 1), made)
    correlation = np.corrcoef(made.flatten(1).numpy(), IMAGES[:4].flatten(1).numpy())[:4, 4:]
    if leak not in ("flipped", "shifted"):  # these need the search
        assert (correlation.argmax(1) == np.arange(4)).mean() >= 0.75


def test_what_the_names_say():
    assert torch.allclose(plant("flipped", IMAGES[:2], IMAGES, 0), IMAGES[:2].flip(-1), atol=0.01)
    half = plant("half", IMAGES[:1], IMAGES[3:4], 0)
    assert torch.allclose(half, (IMAGES[:1] + IMAGES[3:4]) / 2, atol=0.01)
    assert plant("blurred", IMAGES[:1], IMAGES, 0).diff(dim=-1).abs().mean() < 0.8 * IMAGES[:1].diff(dim=-1).abs().mean()

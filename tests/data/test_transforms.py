import numpy as np
import pytest
import torch

from synthrad.cases import Case
from synthrad.data.transforms import light, light_pair, move_masks, move_pair, strong


def case(side=48):
    image = np.full((1, side, side), -1, np.float32)
    masks = np.zeros((2, side, side), np.int64)
    image[0, 12:30, 8:20] = 0.8
    masks[0, 12:30, 8:20] = 3
    masks[1] = -1
    return Case(
        torch.from_numpy(image), torch.from_numpy(masks), torch.ones(2), torch.tensor(4), torch.zeros(0)
    )


LAYERS = {"a": ("x", "y", "z"), "unknown": ("u",)}


def overlap(image, mask, level):
    a, b = image > level, mask == 3
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("seed", range(8))
def test_light_moves_image_and_mask_together(seed):
    before = case()
    after = light(before, np.random.default_rng(seed))
    image, mask = after.image.numpy()[0], after.masks.numpy()[0]
    assert overlap(image, mask, -0.1) > 0.85
    assert (after.masks[1] == -1).all() and set(np.unique(mask)) <= {0, 3}
    assert image.min() >= -1 and image.max() <= 1 and after.image.dtype == torch.float32
    assert not torch.equal(before.image, after.image) and torch.equal(before.image, case().image)
    assert torch.equal(after.image, light(case(), np.random.default_rng(seed)).image)


def test_light_never_swaps_sides():
    sides = {
        light(case(), np.random.default_rng(s)).masks[0].numpy().nonzero()[1].mean() < 24 for s in range(20)
    }
    assert sides == {True}


def test_light_without_layers():
    one = case()
    one.masks = one.masks[:0]
    assert light(one, np.random.default_rng(0)).masks.shape == (0, 48, 48)


@pytest.mark.parametrize("seed", range(4))
def test_masks_of_a_byte_move_as_numbered_ones_do(seed):
    numbered = light(case(), np.random.default_rng(seed))
    masks = case().masks.numpy().astype(np.uint8)  # -1 becomes 255
    image, stored = light_pair(case().image.numpy(), masks, np.random.default_rng(seed))
    assert stored.dtype == np.uint8 and (stored[1] == 255).all() and (stored[0] == 3).any()
    assert np.array_equal(stored.astype(np.int8), numbered.masks.numpy()) and np.array_equal(image, numbered.image.numpy())


@pytest.mark.parametrize("kind", ["flip", "affine", "elastic"])
def test_a_pair_moves_as_masks_alone_do(kind):
    masks, moved = np.stack([case().masks[0].numpy(), np.full((48, 48), 255)]).astype(np.uint8), set()
    for seed in range(6):
        image, layers = move_pair(case().image.numpy(), masks, kind, seed, LAYERS)
        again, _ = move_pair(case().image.numpy(), masks, kind, seed, LAYERS)
        assert np.array_equal(image, again) and image.dtype == np.float32 and (layers[1] == 255).all()
        assert overlap(image[0], layers[0], -0.1) > 0.85
        assert np.isclose(image.max(), 0.8, atol=1e-5) and np.isclose(image.min(), -1)  # grey values stay
        if kind != "flip":
            alone = move_masks(masks[:1].astype(np.int64), np.random.default_rng(seed), elastic=kind == "elastic")
            assert np.array_equal(alone[0], layers[0])
        moved.add(not np.array_equal(layers[0], masks[0]))
    assert moved == ({True, False} if kind == "flip" else {True})
    assert move_pair(case().image.numpy(), masks[:0], kind, 0, {})[1].shape == (0, 48, 48)


def test_a_mirrored_pair_names_the_other_side():
    masks = case().masks[:1].numpy().astype(np.uint8)  # the third structure, on the left of the picture
    found = {tuple(np.unique(move_pair(case().image.numpy(), masks, "flip", s, {"a": ("x", "left", "right")})[1])) for s in range(20)}
    assert found == {(0, 2), (0, 3)}


@pytest.mark.parametrize("seed", range(8))
def test_strong_is_stronger_deterministic_and_joint(seed):
    image = case().image.numpy()
    masks = np.stack([case().masks[0].numpy(), np.full((48, 48), 255)]).astype(np.uint8)
    new, layers = strong(image, masks, seed)
    again, _ = strong(image, masks, seed)
    assert (new == again).all() and new.dtype == np.float32 and layers.dtype == np.uint8
    assert -1 <= new.min() and new.max() <= 1
    assert overlap(new[0], layers[0], -0.3) > 0.75
    assert (layers[1] == 255).all() and set(np.unique(layers[0])) <= {0, 3}
    assert not (new == strong(image, masks, seed + 100)[0]).all()


def test_strong_changes_more_than_light():
    def change(f):
        return np.mean([np.abs(f(s) - case().image.numpy()).mean() for s in range(10)])

    masks = case().masks.numpy().astype(np.uint8)
    weak = change(lambda s: light(case(), np.random.default_rng(s)).image.numpy())
    assert change(lambda s: strong(case().image.numpy(), masks, s)[0]) > 1.5 * weak

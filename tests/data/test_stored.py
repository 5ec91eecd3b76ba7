"""A batch that is converted late is bit for bit the batch of images that were converted one by one."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from synthrad.cases import collate
from synthrad.data.cache import ImageCache
from synthrad.data.stored import StoredBatch, as_case, as_stored


def batch(image, masks, low=0.0, high=255.0):
    n = len(image)
    return StoredBatch(torch.from_numpy(image), torch.from_numpy(masks), torch.rand(n, 2), torch.arange(n), torch.rand(n, 3), low, high)


def scaled(image, low, high):
    """As ImageCache does it, one image."""
    return ImageCache.scaled(SimpleNamespace(image=lambda _: image, low=low, high=high), 0)


@pytest.mark.parametrize(("dtype", "low", "high"), [(np.uint8, 0.0, 255.0), (np.uint8, 12.3, 201.7), (np.uint8, -7.1, 300.9),
                                                     (np.uint16, 0.0, 65535.0), (np.uint16, 1017.3, 40000.1)])
def test_images_are_scaled_to_the_same_bits(dtype, low, high):
    image = np.arange(np.iinfo(dtype).max + 1).astype(dtype).reshape(2, 1, -1, 16)  # every grey value there is
    made = batch(image, np.zeros((2, 0, *image.shape[2:]), np.uint8), low, high).case()
    expected = torch.from_numpy(np.stack([scaled(i, low, high) for i in image]))
    assert made.image.dtype == torch.float32 and torch.equal(made.image.view(torch.int32), expected.view(torch.int32))
    assert made.image.min() >= -1 and made.image.max() <= 1


def test_masks_keep_every_structure_and_unknown_layers_are_minus_one():
    masks = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    stored = batch(np.zeros((1, 1, 16, 16), np.uint8), masks)
    made = stored.case().masks
    assert made.dtype == torch.int64 and made.flatten().tolist() == [*range(255), -1]
    assert stored.masks.flatten().tolist() == list(range(256))  # what was stored stays


def test_augmented_images_stay_as_they_are():
    image = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 1, 4, 4)
    assert torch.equal(batch(image, np.zeros((2, 1, 4, 4), np.uint8), 5.0, 6.0).case().image, torch.from_numpy(image))


def test_items_are_those_of_the_batch():
    stored = batch(np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4), np.full((2, 1, 4, 4), 255, np.uint8))
    whole, again = as_case(stored), collate(stored.cases())
    assert as_stored(stored) is stored and len(stored.cases()) == 2
    assert all(torch.equal(getattr(whole, k), v) for k, v in vars(again).items())

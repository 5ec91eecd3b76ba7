"""Synthetic images for a net that learned from real ones: all of them once, in order, at the size of the net and with masks at that of the study."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_set import make

from synthrad.data.images import fit
from synthrad.datamodules.synthetic import SyntheticCases


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHRAD_PROJECT", str(folder))
        return make(folder / "set", 10, "synthetic")


def batches(*given):
    (loader,) = SyntheticCases(*given).test_dataloader()
    return list(loader)


def test_every_image_comes_once_in_order_as_the_files_hold_it(drawn):
    found = batches("gan", drawn, (32, 32), (32, 32), 4)
    assert [len(b.image) for b in found] == [4, 4, 2] and torch.cat([b.index for b in found]).tolist() == list(range(10))
    files = np.stack([np.asarray(Image.open(r.channels[0])) for r in drawn])
    assert torch.allclose(torch.cat([b.image for b in found])[:, 0], torch.from_numpy(files / np.float32(127.5) - 1), atol=1e-6)
    assert np.array_equal(torch.cat([b.masks for b in found])[:, 0], np.stack([np.asarray(Image.open(r.masks[0])) for r in drawn]))
    assert np.array_equal(torch.cat([b.labels for b in found]), drawn.labels, equal_nan=True)


def test_pictures_have_the_size_of_the_net_and_masks_that_at_which_they_are_judged(drawn):
    (found,) = batches("gan", drawn, (16, 24), (32, 40), 16)
    (alone,) = batches("gan", drawn, (16, 24), (16, 24), 16)
    assert found.image.shape == alone.image.shape == (10, 1, 16, 24) and torch.equal(found.image, alone.image)
    assert found.masks.shape == (10, 1, 32, 40) and alone.masks.shape == (10, 1, 16, 24)
    first = np.asarray(Image.open(drawn[0].masks[0]))
    assert np.array_equal(found.masks[0, 0], fit(first, (32, 40), drawn.info.resize, nearest=True))


def test_cases_are_of_the_set_by_its_name(drawn):
    data = SyntheticCases("gan", drawn, (32, 32), (32, 32), 4)
    ((name, rows),) = data.test_manifests
    assert name == "gan" and rows is drawn

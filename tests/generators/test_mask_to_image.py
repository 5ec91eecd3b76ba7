"""StyleGAN2 with `masks: given`: an image drawn from a mask."""

import numpy as np
import pytest
import tiny_gan
import torch
from tiny_generator import fit_command, sample_command
from tiny_set import make

from synthrad.__main__ import main
from synthrad.callbacks import newest_valid
from synthrad.conditioning import Condition
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.records import Manifest

PLAIN = DatasetInfo("plain", "plain", classes=("a", "b"))


@pytest.fixture(scope="module")
def trained():
    return tiny_gan.fit(steps=4, masks="given")[0].eval()


def masks(n, value=1):
    given = torch.zeros(n, 1, 16, 16, dtype=torch.long)
    given[:, :, 4:12, 4:12] = value
    return given


def test_the_image_carries_its_mask_and_follows_it(trained):
    condition = Condition(labels=np.zeros((2, 2)), masks=masks(2))
    drawn = trained.sample(condition, [1, 2])
    assert drawn.image.shape == (2, 1, 16, 16) and torch.equal(drawn.masks, masks(2))
    again = trained.sample(condition, [1, 2])
    assert torch.equal(drawn.image, again.image)
    other = trained.sample(Condition(labels=np.zeros((2, 2)), masks=masks(2, value=2)), [1, 2])
    assert (drawn.image - other.image).abs().max() > 1e-4


def test_both_nets_learn_from_the_mask(trained):
    moved = [block.last.weight.abs().sum() for name, block in trained.generator.named_modules() if name.endswith("by_mask")]
    assert len(moved) == len(trained.generator.convs) and all(m > 0 for m in moved)
    picture = torch.zeros(1, 1, 16, 16)
    judged = [trained.discriminator(torch.cat([picture, trained._given(Condition(masks=m), 1)], 1), torch.zeros(1, 4))
              for m in (masks(1), masks(1, value=2))]
    assert judged[0] != judged[1]


@pytest.mark.parametrize("given", [None, masks(1), masks(2)[:, :, :8]])
def test_other_masks_than_asked_for_are_refused(trained, given):
    with pytest.raises(InputError, match=r"masks.*\(2, 1, 16, 16\).*organ"):
        trained.sample(Condition(labels=np.zeros((2, 2)), masks=given), [1, 2])


def test_data_without_masks_are_refused_before_the_first_step():
    with pytest.raises(InputError, match="no mask layer"):
        tiny_gan.fit(tiny_gan.Pictures(info=PLAIN), masks="given")


def test_fit_and_sample_by_the_command_line(tmp_path):
    real = tmp_path / "real"
    make(real)
    assert main([*fit_command(real, tmp_path / "run"), "--model.masks=given"]) == 0
    assert main(sample_command(newest_valid(tmp_path / "run"), real, tmp_path / "set")) == 0
    made, train = Manifest.read(tmp_path / "set"), Manifest.read(real).where(split="train")
    assert len(made) == 10
    assert set(made.column("origin:mask")) <= set(train.column("mask_digest")) - {""}
    assert (made.table["area:tooth/crown"] > 0).all()
    assert {f.kind for f in made.info.lineage.fitted} == {"generator", "masks"}

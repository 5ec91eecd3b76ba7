"""A set in the making: what is written of a row, and noted of it."""

import argparse

import numpy as np
import pytest

from synthrad.data.images import read_image
from synthrad.data.phantom_files import PhantomFolder
from synthrad.data.writing import Draft, check_splits
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError

INFO = DatasetInfo("set", "set", layers={"tooth": ("crown", "root")})


def fill(folder: PhantomFolder, rows: int = 2) -> None:
    for row in range(rows):
        mask = np.zeros((8, 8), np.uint8)
        mask[:2] = 2
        folder.add(row, {"image": np.full((8, 8), row, np.uint8)}, {"tooth": mask if row else None}, {"subject": f"s{row}"})
    folder.columns["split"][:] = "train"


def test_masks_areas_and_digests(tmp_path):
    with PhantomFolder(tmp_path, INFO, 2, ("seed",)) as folder:
        fill(folder)
        made = folder.finish()
    assert made[0].masks == (None,) and made[0].areas == {} and made[0].mask_digest == ""
    assert made[1].areas == {"tooth/crown": 0.0, "tooth/root": 0.25} and made[1].masks[0].is_file()
    assert made[0].digest != made[1].digest


def test_names_of_splits():
    (fault,) = check_splits(["train", "holdout", "test"])
    assert fault[0] == 1 and "'holdout'" in fault[1]


def test_stored_images_are_plain_pngs_of_the_set(tmp_path):
    from PIL import Image

    info = DatasetInfo("two", "two", channels=("t1", "flair"))
    (tmp_path / "raw").mkdir()
    arguments = argparse.Namespace(fractions=(1.0, 0, 0, 0), seed=0, copy=True, intensity=(0.0, 4095.0))
    pixels = [np.full((4, 5), 4095, np.uint16), np.arange(20, dtype=np.uint8).reshape(4, 5)]
    with Draft(tmp_path / "out", tmp_path / "raw", info, 1, "here") as draft:
        draft.columns["subject"][0] = "a"
        draft.columns["split"][0] = "train"
        assert draft.store_image(0, "s0", pixels) == (4, 5)
        with pytest.raises(InputError, match="of one size"):
            draft.store_image(0, "s0", [pixels[0], pixels[1].T])
        made = draft.finish(arguments)
    assert [p.relative_to(tmp_path / "out").as_posix() for p in made[0].channels] == ["images/t1/s0.png", "images/flair/s0.png"]
    for path, wanted in zip(made[0].channels, pixels, strict=True):
        np.testing.assert_array_equal(read_image(path), wanted)
        assert not Image.open(path).text  # nothing but pixels

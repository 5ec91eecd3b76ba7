"""The folder of a phantom set: names of files, columns of origin, exact pixels; gone if it is left unfinished."""

import numpy as np
import pytest
from PIL import Image

from synthrad.data.phantom_files import PhantomFolder
from synthrad.dataset_info import DatasetInfo
from synthrad.records import Manifest

VALUES = {"subject": "s0", "split": "train"}


def picture(value: int, dtype: type = np.uint8) -> np.ndarray:
    return np.full((8, 6), value, dtype)


def test_one_channel_lies_in_images_and_several_in_folders_of_their_own(tmp_path):
    for channels, names in ((("image",), ["images/000000.png"]), (("t1", "t2"), ["images/t1/000000.png", "images/t2/000000.png"])):
        out = tmp_path / str(len(channels))
        with PhantomFolder(out, DatasetInfo("set", "set", channels=channels), 1, ()) as folder:
            folder.add(0, {c: picture(i) for i, c in enumerate(channels)}, {}, VALUES)
            made = folder.finish()
        assert [str(p.relative_to(out.resolve())) for p in made[0].channels] == names
        assert [int(np.asarray(Image.open(p)).max()) for p in made[0].channels] == list(range(len(channels)))


def test_sixteen_bits_are_kept(tmp_path):
    info = DatasetInfo("set", "set", intensity={"low": 0.0, "high": 65535.0})
    with PhantomFolder(tmp_path, info, 1, ()) as folder:
        folder.add(0, {"image": picture(40_001, np.uint16)}, {}, VALUES)
        made = folder.finish()
    assert np.unique(np.asarray(Image.open(made[0].channels[0]))).tolist() == [40_001]


def test_origins_are_columns_and_blank_unless_given(tmp_path):
    with PhantomFolder(tmp_path, DatasetInfo("set", "set"), 2, ("seed", "effect")) as folder:
        folder.add(0, {"image": picture(0)}, {}, VALUES | {"origin:seed": "7"})
        folder.add(1, {"image": picture(1)}, {}, VALUES | {"subject": "s1"})
        folder.finish()
    made = Manifest.read(tmp_path)
    assert [dict(made[i].origin) for i in range(2)] == [{"seed": "7"}, {}]


def test_left_unfinished_nothing_of_it_remains(tmp_path):
    with pytest.raises(KeyError), PhantomFolder(tmp_path / "new", DatasetInfo("set", "set"), 1, ()) as folder:
        folder.add(0, {"image": picture(0)}, {}, {"no such column": 1})
    assert not list((tmp_path / "new").rglob("*.png"))
    with pytest.raises(Exception, match="dataset.yaml"):
        Manifest.read(tmp_path / "new")

"""A plain copy holds pixels, masks and a table, and nothing that came along with the files."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image, PngImagePlugin
from tiny_set import make

from synthrad.data.images import read_image
from synthrad.dataset.plain_copy import open_folder, splits_of, write_plain
from synthrad.errors import InputError
from synthrad.lineage import is_pseudonym


def test_text_chunks_stay_behind(tmp_path):
    made = make(tmp_path / "set", rows=6)
    path, text = tmp_path / "set/images/0.png", PngImagePlugin.PngInfo()
    text.add_text("PatientName", "CANARY")
    Image.open(path).save(path, pnginfo=text)
    copy = write_plain(made, tmp_path / "out")
    assert not any(b"CANARY" in p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file())
    np.testing.assert_array_equal(read_image(tmp_path / "out/images/image/000001.png"), read_image(path))
    assert sum(map(len, splits_of(copy).values())) == 6
    read = pd.read_csv(tmp_path / "out/records.csv", dtype=str, keep_default_na=False)
    assert all(map(is_pseudonym, read["subject"]))
    assert list(read["label:caries"]) == [str(r.labels[0]) for r in made] and read["subject"].nunique() == 3


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    with pytest.raises(InputError, match="a new or empty folder"):
        open_folder(tmp_path / "mine")
    assert open_folder(tmp_path / "new").is_dir()

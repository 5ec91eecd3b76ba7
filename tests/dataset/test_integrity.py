"""Every file opened: what differs from the manifest is a fault, what a person should look at a doubt."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from tiny_set import make

from synthrad.dataset.integrity import inspect, kinds
from synthrad.files import file_digest
from synthrad.records import Manifest

sys.path.append(str(Path(__file__).parents[1] / "data"))


@pytest.fixture
def made(tmp_path):
    return make(tmp_path / "set", rows=24)


def test_a_sound_set(made):
    seen = inspect(made)
    assert seen.faults == [] and seen.doubts == []
    assert (seen.sizes == 32).all() and seen.counts.sum() == 24 * 32 * 32
    pixels = np.stack([np.asarray(Image.open(r.channels[0])) for r in made])
    np.testing.assert_array_equal(seen.counts[0], np.bincount(pixels.ravel(), minlength=1 << 16))
    np.testing.assert_allclose(seen.means[:, 0], pixels.mean(axis=(1, 2)))


def test_each_kind_of_fault_names_row_and_file(made, tmp_path):
    folder = tmp_path / "set"
    (folder / "images/0.png").unlink()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(folder / "images/1.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "masks/2.png")
    Image.fromarray(np.full((32, 32), 9, np.uint8)).save(folder / "masks/3.png")
    faults = "\n".join(inspect(made).faults)
    assert "row 2, " in faults and "0.png: found no such file" in faults
    assert "row 3, " in faults and "1.png: found a file that has changed" in faults
    assert "row 4, mask tooth: 8 x 8 pixels, its image 32 x 32" in faults
    assert "row 5, mask tooth: the value 9, expected 0 to 2" in faults
    assert "row 6, " not in faults


def test_a_mask_that_differs_in_place_is_found_by_its_digest_and_its_area(made, tmp_path):
    path = tmp_path / "set/masks/5.png"
    mask = np.asarray(Image.open(path))
    Image.fromarray(mask[::-1].copy()).save(path)  # the same area elsewhere
    assert any("5.png: found a mask that has changed" in f for f in inspect(made).faults)
    areas = made.column("area:tooth/crown").copy()
    areas[7] = 0.9
    assert any("row 9, area:tooth/crown: 0.900000 in the manifest" in f for f in inspect(made.with_columns({"area:tooth/crown": areas})).faults)


def test_flat_pictures_and_contradictions_are_doubts(tmp_path):
    from dataclasses import replace

    from synthrad.files import file_digest

    made = make(tmp_path / "set", rows=12)
    path = tmp_path / "set/images/3.png"
    Image.fromarray(np.full((32, 32), 7, np.uint8)).save(path)
    digests = made.column("digest").copy()
    digests[3] = file_digest(path)
    table = made.with_columns({"digest": digests}).table.rename(columns={"label:caries": "label:root"})
    flipped = table["label:root"].to_numpy().copy()
    flipped[1] = 0.0
    named = Manifest(table.assign(**{"label:root": flipped}), replace(made.info, classes=("root", "implant")))
    doubts = "\n".join(inspect(named).doubts)
    assert "row 5, channel image: every pixel has the value 7" in doubts
    assert "row 3, label root is 0, and" in doubts and "row 7, label root" not in doubts


def test_text_in_the_pixels_is_a_doubt_with_its_rows(tmp_path):
    from dataclasses import replace

    from test_burned_in import FONTS, smooth

    made, rows = make(tmp_path / "set", rows=6), []
    for i in range(6):
        picture = Image.fromarray(smooth(seed=i))
        if i in (1, 4):
            ImageDraw.Draw(picture).text((40, 100), "DOE^JOHN 1970-01-31", fill=255, font=ImageFont.truetype(str(FONTS[0]), 16))
        picture.save(tmp_path / f"set/images/{i}.png")
        rows.append(file_digest(tmp_path / f"set/images/{i}.png"))
    table = made.with_columns({"digest": np.array(rows, dtype=object)}).table.drop(columns=["mask:tooth", "area:tooth/crown", "area:tooth/root"])
    seen = inspect(Manifest(table.assign(mask_digest=""), replace(made.info, layers={})))
    assert seen.faults == [] and seen.lettered == [1, 4]
    assert [d[:45] for d in seen.doubts] == ["row 3, what looks like text in the pixels: a ", "row 6, what looks like text in the pixels: a "] and len(kinds(seen.doubts, 9)) == 1


def test_lines_of_one_kind_are_one():
    from synthrad.errors import Fault

    lines = [Fault.of(f"row {i}, ", "dark", numbered=True) for i in range(5)] + ["bright"]
    assert kinds(lines, 2) == ["row 0, dark  (and 4 more rows)", "bright"]
    assert kinds(lines, 1)[1] == "... and 1 more kinds"

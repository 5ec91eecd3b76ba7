"""Text burned into pictures is found; anatomy, single letters and noise are let pass."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from tiny_set import make

from synthrad.data import burned_in, processes
from synthrad.data.burned_in import find_text
from synthrad.data.images import read_image
from synthrad.prepare import burned_in_lines
from synthrad.records import Manifest

FONTS = sorted(p for p in (Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("*.ttf")
               if p.stem in ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral", "cmss10"))  # fmt: skip
TEXTS = ["DOE^JOHN", "SMITH, MARY", "1970-01-31", "ID 48213377", "MRN:0042-8871", "12.03.1988 M", "Dr. Anna Meyer", "St. Anna Hospital"]


def smooth(size=(256, 256), seed=0) -> np.ndarray:
    """A picture of blobs, grain and a few sharp edges."""
    rng = np.random.default_rng(seed)
    blobs = ndimage.gaussian_filter(rng.normal(size=size), 20)
    picture = 110 + 60 * blobs / np.abs(blobs).max() + rng.normal(0, 6, size)
    y, x = np.mgrid[: size[0], : size[1]]
    for k in range(6):  # ribs
        picture += 25 * (np.abs(y - size[0] * (k + 1) / 7 - 0.1 * x) < 4)
    return picture.clip(0, 255).astype(np.uint8)


def stamped(image: np.ndarray, rng: np.random.Generator, smallest: int = 12) -> tuple[np.ndarray, str, tuple[int, int, int, int]]:
    """A picture with a legible text of smallest to a tenth of its shorter side, somewhere; what was written how; and where: left, top, right, bottom."""
    height, width = image.shape
    text, face = TEXTS[rng.integers(len(TEXTS))], FONTS[rng.integers(len(FONTS))]
    size = int(rng.integers(smallest, max(smallest + 1, min(height, width) // 10)))
    font = ImageFont.truetype(str(face), size)
    picture = Image.fromarray(image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    right, bottom = pen.textbbox((0, 0), text, font=font)[2:]
    x, y = int(rng.integers(0, max(1, width - right))), int(rng.integers(0, max(1, height - bottom)))
    dark = np.asarray(picture)[y : y + bottom, x : x + right].mean() < 150
    pen.text((x, y), text, fill=255 if dark else 0, font=font)
    return np.asarray(picture), f"{text!r} in {face.stem} {size}", (x, y, x + right, y + bottom)


def seen(picture: np.ndarray, box: tuple[int, int, int, int]) -> bool:
    """Whether text is found where it was written."""
    left, top, right, bottom = box
    return any(t.left < right and left < t.left + t.width and t.top < bottom and top < t.top + t.height for t in find_text(picture))


def test_most_stamps_on_smooth_pictures_are_found():
    rng = np.random.default_rng(0)
    missed = [how for k in range(30) for picture, how, box in [stamped(smooth(seed=k), rng)] if not seen(picture, box)]
    assert len(missed) <= 1, missed


def test_where_it_stands_and_how_long_it_is():
    picture = Image.fromarray(smooth())
    ImageDraw.Draw(picture).text((40, 100), "1970-01-31", fill=255, font=ImageFont.truetype(str(FONTS[0]), 16))
    (text,) = find_text(np.asarray(picture))
    assert 95 <= text.top <= 110 and 35 <= text.left <= 45 and 8 <= text.height <= 20 and 70 <= text.width <= 110 and 7 <= text.marks <= 10


@pytest.mark.parametrize("seed", range(8))
def test_pictures_without_text(seed):
    assert find_text(smooth(seed=seed)) == []


@pytest.mark.parametrize("letter", ["L", "R", "PA"])
def test_marks_of_a_side_are_not_text(letter):
    picture = Image.fromarray(smooth())
    ImageDraw.Draw(picture).text((20, 20), letter, fill=255, font=ImageFont.truetype(str(FONTS[0]), 20))
    assert find_text(np.asarray(picture)) == []


@pytest.mark.parametrize("image", [np.zeros((64, 64), np.uint8), np.full((64, 64), 7, np.uint16), np.zeros((1, 1), np.uint8), np.zeros((3, 500), np.uint8)])
def test_odd_pictures(image):
    assert find_text(image) == []


def test_depth_and_size_do_not_matter():
    picture = Image.fromarray(smooth((2100, 1200)))
    ImageDraw.Draw(picture).text((400, 1000), "SMITH, MARY", fill=255, font=ImageFont.truetype(str(FONTS[0]), 60))
    deep = np.asarray(picture).astype(np.uint16) * 16
    assert find_text(deep) and find_text(np.asarray(picture))


def test_prepare_names_the_rows(tmp_path, monkeypatch):
    make(tmp_path)
    before = Manifest.read(tmp_path)
    picture = Image.fromarray(smooth())
    ImageDraw.Draw(picture).text((40, 100), "1970-01-31", fill=255, font=ImageFont.truetype(str(FONTS[0]), 16))
    picture.save(tmp_path / "images" / "3.png")
    (line,) = burned_in_lines(before, len(before))
    assert "1 image(s) with" in line and "rows 5 of" in line
    assert burned_in_lines(before.take([0, 1, 2]), 3) == []
    monkeypatch.setattr(processes, "ALONE_SECONDS", -1.0)
    assert burned_in_lines(before, len(before), workers=2) == [line]


@pytest.mark.parametrize("shape", [(40, 61), (7, 30), (10, 10)])
def test_strokes_stand_out_as_against_scipys_opening_and_closing(shape):
    grey = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    size = (burned_in.THICKEST + 2,) * 2
    np.testing.assert_array_equal(burned_in._thin(grey, True), grey.astype(int) - ndimage.grey_opening(grey, size))
    np.testing.assert_array_equal(burned_in._thin(grey, False), ndimage.grey_closing(grey, size).astype(int) - grey)


PACKS = ("brain_tumour_t1c", "cxr_lungs", "dental_caries", "dental_teeth")


def found_on(folder: Path, number: int, rng: np.random.Generator) -> tuple[list[str], int]:
    """Stamps on images of a pack that were missed, and how many images give an alarm as they are (some do bear text)."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".png", ".jpg") and "mask" not in p.as_posix().lower().removeprefix(folder.as_posix().lower()))
    missed, alarms = [], 0
    for k in rng.choice(len(files), number, replace=False):
        image = read_image(files[k])
        alarms += bool(find_text(image))
        picture, how, box = stamped(image, rng)
        if not seen(picture, box):
            missed.append(f"{folder.name}: {how}")
    return missed, alarms


@pytest.mark.parametrize("pack", PACKS)
def test_stamps_on_a_few_real_images(real_data, pack):
    if not (real_data / pack).is_dir():
        pytest.skip(f"{pack} is not among the real images")
    missed, _ = found_on(real_data / pack, 5, np.random.default_rng(1))
    assert len(missed) <= 1

"""Grey PNGs: Pillow reads back every pixel, nothing else is in them, and they are little larger than Pillow's."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from synthrad.data import png
from synthrad.data.png import encode_png


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (33, 70)])
def test_every_pixel_comes_back(dtype, shape):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    for array in (image, image[::-1], np.asfortranarray(image), np.zeros_like(image)):
        data = encode_png(array)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            np.testing.assert_array_equal(np.asarray(picture), array)
            assert picture.mode == ("L" if dtype is np.uint8 else "I;16") and not picture.text and set(picture.info) == set()
        assert [data[i : i + 4] for i in (12, 37)] == [b"IHDR", b"IDAT"] and data.count(b"IEND") == 1


def test_grain_and_flat_parts_stay_small():
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(256), np.arange(256)) * 4
    image = (ramp + rng.normal(scale=6, size=ramp.shape)).clip(0, 4095).astype(np.uint16)
    image[:, :64] = 0
    told = io.BytesIO()
    Image.fromarray(image).save(told, format="PNG")
    assert len(encode_png(image)) < 1.1 * len(told.getvalue())


def test_both_packers_write_the_same_bytes(monkeypatch):
    pytest.importorskip("zlib_ng")
    rng = np.random.default_rng(0)
    for k in range(60):
        shape, grain = rng.integers(1, 200, 2), float(rng.choice([0, 0.3, 3, 300, 9000]))
        image = (rng.normal(scale=grain, size=shape) + np.add.outer(*map(np.arange, shape)) * (k % 4)).clip(0, 65535).astype([np.uint8, np.uint16][k % 2])
        image[:, : shape[1] // 2 * (k % 3 == 0)] = 0
        with monkeypatch.context() as patch:
            told = encode_png(image)
            patch.setattr(png, "deflate", zlib)
            assert encode_png(image) == told


def test_other_arrays_are_refused():
    for array in (np.zeros((4, 4), np.float32), np.zeros((4, 4, 3), np.uint8)):
        with pytest.raises(TypeError, match="encode_png takes"):
            encode_png(array)

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from synthrad.data import images
from synthrad.data.images import files_digest, fit, image_size, is_deep, read_image, read_mask, write_mask
from synthrad.errors import InputError
from synthrad.files import file_digest


def test_grey_8_and_16_bit_come_back_as_stored(tmp_path):
    for dtype in (np.uint8, np.uint16):
        array = (np.arange(12).reshape(3, 4) * (5000 if dtype == np.uint16 else 20)).astype(dtype)
        Image.fromarray(array).save(tmp_path / "a.png")
        back = read_image(tmp_path / "a.png")
        assert back.dtype == dtype and (back == array).all()
        assert image_size(tmp_path / "a.png") == (3, 4)
        assert is_deep(tmp_path / "a.png") == (dtype == np.uint16)


def test_colour_and_transparency_become_grey(tmp_path):
    grey = np.full((2, 2), 77, np.uint8)
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "rgb.png")
    Image.fromarray(np.dstack([grey] * 3 + [grey * 0 + 9])).save(tmp_path / "rgba.png")
    assert (read_image(tmp_path / "rgb.png") == 77).all()
    assert (read_image(tmp_path / "rgba.png") == 77).all()


@pytest.mark.parametrize("content", [None, b"", b"no image", b"\x89PNG\r\n\x1a\n broken"])
def test_bad_files_are_named(tmp_path, content):
    path = tmp_path / "bad.png"
    if content is not None:
        path.write_bytes(content)
    for read in (read_image, read_mask, image_size, is_deep):
        with pytest.raises(InputError, match="bad.png"):
            read(path)


def test_truncated_and_foreign_formats_are_refused(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.bmp")
    for name in ("cut.png", "a.bmp"):
        with pytest.raises(InputError, match=name):
            read_image(tmp_path / name)


def test_masks_keep_their_indices(tmp_path):
    mask = np.array([[0, 1, 2], [31, 32, 254]], np.uint8)
    write_mask(tmp_path / "m.png", mask)
    assert (read_mask(tmp_path / "m.png") == mask).all()
    assert Image.open(tmp_path / "m.png").mode == "P"
    Image.fromarray(np.dstack([mask, mask, mask[::-1]])).save(tmp_path / "rgb.png")
    with pytest.raises(InputError, match="colour"):
        read_mask(tmp_path / "rgb.png")


def test_letterbox_keeps_aspect_and_squeeze_fills():
    array = np.full((10, 20), 200, np.uint8)
    boxed = fit(array, (16, 16), "letterbox", pad=7)
    assert (boxed[4:12] == 200).all() and (boxed[:4] == 7).all() and (boxed[12:] == 7).all()
    assert (fit(array, (16, 16), "squeeze", pad=7) == 200).all()
    with pytest.raises(InputError, match="letterbox"):
        fit(array, (16, 16), "crop")


def test_shrinking_an_image_averages():
    array = np.zeros((8, 8), np.uint16)
    array[::2] = 60000
    assert (fit(array, (4, 4), "squeeze") == 30000).all()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["letterbox", "squeeze"]),
    st.integers(0, 99),
)
def test_fit_gives_the_size_and_nearest_invents_no_value(height, width, side, policy, seed):
    mask = np.random.default_rng(seed).choice(np.array([0, 3, 200], np.uint8), (height, width))
    out = fit(mask, (side, side), policy, nearest=True)
    assert out.shape == (side, side) and out.dtype == mask.dtype
    assert set(np.unique(out)) <= set(np.unique(mask)) | {0}
    image = fit(mask, (side, side), policy)
    assert image.shape == (side, side) and image.max() <= mask.max()


def test_digest_of_one_file_is_the_files(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    a, b = tmp_path / "a", tmp_path / "b"
    assert files_digest([a]) == file_digest(a)
    assert files_digest([None, None]) == files_digest([]) == ""
    assert len({files_digest(x) for x in ([a, b], [b, a], [a, None], [None, a], [a])}) == 5


def test_a_picture_too_large_says_so(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "MOST_PIXELS", 399)
    for read in (read_image, image_size):
        with pytest.raises(InputError, match="400 pixels; expected at most 399.*\n.*shrink it"):
            read(tmp_path / "a.png")
    monkeypatch.setattr(images, "MOST_PIXELS", 400)
    assert read_image(tmp_path / "a.png").shape == (20, 20)


def test_a_jpeg_of_many_scans_is_not_decoded(tmp_path):
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save(tmp_path / "a.jpg", progressive=True)
    assert read_image(tmp_path / "a.jpg").shape == (64, 64)
    data = (tmp_path / "a.jpg").read_bytes()
    scan = data[data.rindex(b"\xff\xda") : -2]
    (tmp_path / "b.jpg").write_bytes(data[:-2] + scan * (images.MOST_SCANS + 1) + data[-2:])
    with pytest.raises(InputError, match="b.jpg: found a JPEG of .* scans"):
        read_image(tmp_path / "b.jpg")


def test_a_pipe_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for read in (read_image, read_mask, image_size):
        with pytest.raises(InputError, match="a.png: found no regular file"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colour_becomes_grey_by_its_luma(tmp_path, mode):
    values = np.random.default_rng(0).integers(0, 256, (9, 9, len(mode)), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    luma = values[..., :3].astype(int) @ [19595, 38470, 7471] + 0x8000 >> 16 if mode != "LA" else values[..., 0]
    assert (read_image(tmp_path / "a.png") == luma).all()

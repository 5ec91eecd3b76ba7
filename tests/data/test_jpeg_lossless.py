"""Lossless JPEG: every predictor and precision against an encoder that follows the text sample by sample, and 8 bit against libjpeg-turbo."""

import io

import numpy as np
import pytest
from PIL import Image
from tiny_dicom import lossless_jpeg

from synthrad.data.jpeg_lossless import BrokenStream, decode


def picture(bits=12, size=(23, 31), seed=0):
    """Slopes, noise and jumps from end to end."""
    rng = np.random.default_rng(seed)
    values = np.add.outer(np.arange(size[0]) * 37, np.arange(size[1]) * 11) + rng.integers(0, 1 << max(1, bits // 2), size)
    values = values % (1 << bits)
    values[size[0] // 2] = np.where(np.arange(size[1]) % 2, 0, (1 << bits) - 1)
    return values.astype(np.uint16)


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_every_predictor(predictor, bits):
    np.testing.assert_array_equal(decode(lossless_jpeg(picture(bits), bits, predictor)), picture(bits))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 2)])
@pytest.mark.parametrize("predictor", [1, 4, 7])
def test_thin_pictures(size, predictor):
    np.testing.assert_array_equal(decode(lossless_jpeg(picture(10, size), 10, predictor)), picture(10, size))


@pytest.mark.parametrize("predictor", [1, 2, 6])
def test_restart_markers(predictor):
    np.testing.assert_array_equal(decode(lossless_jpeg(picture(), 12, predictor, restart=5)), picture())


def test_the_point_transform():
    np.testing.assert_array_equal(decode(lossless_jpeg(picture(), 12, shift=2)), picture() >> 2 << 2)


@pytest.mark.parametrize("predictor", range(1, 8))
def test_as_libjpeg_turbo_decodes_it(predictor):
    """A decoder by others, for the precision that Pillow has of it."""
    stream = lossless_jpeg(picture(8, (64, 48)), 8, predictor)
    try:
        theirs = np.asarray(Image.open(io.BytesIO(stream)))
    except OSError:
        pytest.skip("this Pillow has a libjpeg without the lossless process")
    np.testing.assert_array_equal(decode(stream), theirs)


def test_a_difference_of_32768():
    values = np.array([[0, 32768, 0], [32768, 0, 65535]], np.uint16)
    np.testing.assert_array_equal(decode(lossless_jpeg(values, 16)), values)


def broken(stream, match):
    with pytest.raises(BrokenStream, match=match):
        decode(stream)


def test_broken_streams():
    sound = lossless_jpeg(picture(), 12)
    frame, scan, table = sound.index(b"\xff\xc3"), sound.index(b"\xff\xda"), sound.index(b"\xff\xc4")
    broken(b"", "start marker")
    broken(sound[:2] + b"x" + sound[2:], "no marker")
    broken(sound[:frame], "no scan")
    broken(sound[: frame + 6], "cut off")
    broken(sound[:frame] + b"\xff\xc0" + sound[frame + 2 :], "another process")
    broken(sound[:table] + sound[frame:], "whose table")
    broken(sound[: scan + 7] + b"\x08" + sound[scan + 8 :], "predictor")
    broken(sound[: frame + 5] + b"\xff\xff\xff\xff" + sound[frame + 9 :], "fewer bytes than the picture needs")
    broken(sound[: scan + 40], "fewer bytes|ends early")
    broken(sound[: len(sound) * 3 // 4], "ends early")
    broken(sound[: scan + 10] + b"\xff\x00" * 800 + b"\xff\xd9", "no code|ends early")
    broken(lossless_jpeg(picture(), 12, restart=5).replace(b"\xff\xd1", b"\xff\xd9"), "restart markers")


def test_random_damage_raises_nothing_else():
    sound, rng = lossless_jpeg(picture(), 12), np.random.default_rng(0)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(300):
        data = bytearray(sound)
        for at in rng.integers(2, len(data), rng.integers(1, 5)):
            data[at] = rng.integers(256)
        try:
            decode(bytes(data))
            outcomes["read"] += 1
        except BrokenStream:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 10

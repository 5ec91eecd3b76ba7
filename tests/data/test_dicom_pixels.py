"""Pixel data: every way in which they are stored, and every way in which they are refused before or while they are decoded."""

import io

import numpy as np
import pytest
from imagecodecs import jpeg8_encode
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import get_frame
from tiny_dicom import (
    JPEG,
    JPEG_2000,
    JPEG_LOSSLESS,
    JPEG_LS,
    RLE,
    dataset,
    encapsulated,
    lossless_jpeg,
    refused,
    square,
    write,
)

from synthrad.data.dicom import read_dicom

SYNTAX = "1.2.840.10008.1.2"


@pytest.mark.parametrize(("syntax", "bits"), [(RLE, 8), (RLE, 12), (JPEG_LS, 8), (JPEG_LS, 12), (JPEG_2000, 8), (JPEG_2000, 16), (JPEG_LOSSLESS, 8), (JPEG_LOSSLESS, 12), (JPEG_LOSSLESS, 16)])
def test_lossless_compression(tmp_path, syntax, bits):
    pixels = square(64, bits)
    np.testing.assert_array_equal(read_dicom(write(tmp_path / "a", pixels, compress=syntax, bits=bits))[0], pixels)


def compressed(pixels, stream, syntax, **tags):
    return encapsulated(dataset(pixels, **tags), stream, syntax)


def jpeg(pixels, **options):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", **options)
    return out.getvalue()


def test_baseline_jpeg(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(24)).astype(np.uint8)
    compressed(smooth, jpeg(smooth, quality=95), JPEG).save_as(tmp_path / "a")
    found, _ = read_dicom(tmp_path / "a")
    assert found.shape == (40, 24) and np.abs(found.astype(int) - smooth).max() <= 3


def test_declared_larger_than_the_file(tmp_path):
    """What a file declares is compared with what it holds before memory is asked for."""
    refused(write(tmp_path / "a", square(), bits=12, Rows=10000, Columns=2000), "512 bytes of pixels; expected 40,000,000")
    refused(write(tmp_path / "b", square(), bits=12, Rows=65535, Columns=65535), "4,294,836,225 pixels")
    refused(write(tmp_path / "c", square(), bits=12, Rows=17), "expected 544")
    refused(write(tmp_path / "d", square(), bits=12, Rows=15), "expected 480")  # more bytes than declared: another picture
    refused(write(tmp_path / "e", square(), bits=12, Rows=0), "Rows 0")
    refused(write(tmp_path / "f", square(), bits=12, Columns=None), "Columns 0")


@pytest.mark.parametrize("syntax", [RLE, JPEG_LS, JPEG_2000, JPEG_LOSSLESS])
@pytest.mark.parametrize("left", [0.3, 0.9])
def test_truncated(tmp_path, syntax, left):
    path = write(tmp_path / "a", square(64), compress=syntax, bits=12)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * left)])
    refused(path, "broken or cut off")


@pytest.mark.parametrize("syntax", [JPEG, JPEG_LS, JPEG_2000, JPEG_LOSSLESS])
def test_a_code_stream_that_ends_early(tmp_path, syntax):
    """Whole as a file, while the stream in it is not: decoders fill up the rest with grey."""
    path = write(tmp_path / "a", square(64, 8), compress=None if syntax == JPEG else syntax)
    stream = jpeg(square(64, 8)) if syntax == JPEG else get_frame(dcmread(path).PixelData, 0, number_of_frames=1)
    half = stream[: len(stream) // 2]
    compressed(square(64, 8), half, syntax).save_as(path)
    refused(path, "a code stream that ends early")


def test_a_code_stream_of_another_size(tmp_path):
    """Decoders allocate by the stream, whatever the header says."""
    small, large = square(8, 8), np.zeros((64, 64), np.uint8)
    compressed(small, jpeg(large), JPEG).save_as(tmp_path / "a")
    refused(tmp_path / "a", "code stream of 64 x 64 pixels; expected 8 x 8")
    for syntax, marker in ((JPEG_2000, b"\xff\x51"), (JPEG_LS, b"\xff\xf7")):
        path = write(tmp_path / "b", square(32, 8), compress=syntax)
        data = path.read_bytes()
        at = data.index(marker) + (8 if syntax == JPEG_2000 else 5)
        path.write_bytes(data[:at] + b"\x7f\xff" + data[at + 2 :])
        refused(path, "code stream of .* pixels; expected 32 x 32")


def test_a_bomb_of_a_few_bytes(tmp_path):
    stream = b"\xff\x4f\xff\x51" + b"\0" * 100 + b"\xff\xd9"
    compressed(square(bits=8), stream, JPEG_2000, Rows=8000, Columns=6000).save_as(tmp_path / "a")
    refused(tmp_path / "a", "106 bytes that would unpack to 48,000,000")


def test_jpeg_of_12_bit(tmp_path):
    smooth = (np.add.outer(np.arange(40), np.arange(24)) * 60).astype(np.uint16)
    compressed(smooth, jpeg8_encode(smooth, level=98, bitspersample=12), f"{SYNTAX}.4.51", bits=12).save_as(tmp_path / "a")
    found, _ = read_dicom(tmp_path / "a")
    assert found.dtype == np.uint16 and np.abs(found.astype(int) - smooth).max() <= 16
    compressed(square(), jpeg(square(bits=8)), f"{SYNTAX}.4.51", bits=12).save_as(tmp_path / "b")
    refused(tmp_path / "b", "another size or depth")


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("options", [{}, {"restart": 5}, {"shift": 2}])
def test_lossless_jpeg_of_any_predictor(tmp_path, predictor, options):
    """Against an encoder that follows the text (T.81 Annex H) sample by sample."""
    pixels = square(32)
    compressed(pixels, lossless_jpeg(pixels, 12, predictor, **options), f"{SYNTAX}.4.57", bits=12).save_as(tmp_path / "a")
    np.testing.assert_array_equal(read_dicom(tmp_path / "a")[0], pixels >> options.get("shift", 0) << options.get("shift", 0))


def test_lossless_jpeg_of_signed_values_and_of_another_process(tmp_path):
    stored = np.random.default_rng(0).integers(-2048, 2047, (16, 24)).astype(np.int16)
    np.testing.assert_array_equal(read_dicom(write(tmp_path / "b", stored, compress=JPEG_LOSSLESS, bits=12))[0], stored.astype(int) + 32768)
    compressed(square(32), jpeg(square(32, 8)), JPEG_LOSSLESS, bits=12).save_as(tmp_path / "c")
    refused(tmp_path / "c", "(?s)another process as lossless JPEG.*gdcmconv --raw")
    compressed(square(32, 8), lossless_jpeg(square(32, 8), 8), JPEG).save_as(tmp_path / "d")
    refused(tmp_path / "d", "another process as JPEG")


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS, JPEG_LS])
def test_values_beyond_the_stored_bits_of_a_compressed_stream_are_refused(tmp_path, syntax):
    pixels = np.tile(np.array([0, 1, 4095, 4096], np.uint16), (16, 4))
    if syntax == JPEG_LOSSLESS:
        made = encapsulated(dataset(pixels, bits=12), lossless_jpeg(pixels, 16), JPEG_LOSSLESS)
    else:
        made = dataset(pixels, bits=16)
        made.compress(syntax, generate_instance_uid=False)
        made.BitsStored, made.HighBit = 12, 11
    made.save_as(tmp_path / "a", enforce_file_format=True)
    refused(tmp_path / "a", "compressed values up to 4096 under BitsStored 12")


def test_other_transfer_syntaxes(tmp_path):
    compressed(square(bits=8), b"\0" * 20, f"{SYNTAX}.4.102").save_as(tmp_path / "a")  # MPEG-4
    refused(tmp_path / "a", "transfer syntax that is not read")

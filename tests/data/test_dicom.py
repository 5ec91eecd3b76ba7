"""DICOM pixels: every way in which they are stored, and every way in which a file is refused, by one message without a header value."""

import logging
import struct
import warnings

import numpy as np
import pytest
from PIL import Image
from tiny_dicom import JPEG_2000, JPEG_LOSSLESS, JPEG_LS, RLE, SECRET, dataset, refused, square, write

from synthrad.data import dicom
from synthrad.data.dicom import Facts, check_burned_in, is_dicom, read_dicom, read_header
from synthrad.errors import InputError

SYNTAX = "1.2.840.10008.1.2"


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_stored_values_come_as_they_are(tmp_path, bits):
    pixels = square(bits=bits)
    found, facts = read_dicom(write(tmp_path / "a", pixels, bits=bits))
    np.testing.assert_array_equal(found, pixels)
    assert found.dtype == pixels.dtype and (facts.low, facts.high, facts.shifted) == (0, (1 << bits) - 1, False)


@pytest.mark.parametrize("syntax", [SYNTAX, f"{SYNTAX}.1", f"{SYNTAX}.2"])
def test_byte_orders(tmp_path, syntax):
    stored = square().astype(">u2") if syntax.endswith(".2.2") else square()
    dataset(stored, bits=12, syntax=syntax).save_as(tmp_path / "a")
    np.testing.assert_array_equal(read_dicom(tmp_path / "a")[0], square())


def test_signed_values_and_hounsfield_units(tmp_path):
    stored = np.array([[-2000, -1, 0, 2047]], np.int16)
    found, facts = read_dicom(write(tmp_path / "a", stored, bits=12))
    np.testing.assert_array_equal(found, stored.astype(int) + 32768)
    assert facts.shifted and (facts.low, facts.high) == (32768 - 2048, 32768 + 2047)
    unsigned = np.array([[0, 1024, 4095]], np.uint16)
    found, facts = read_dicom(write(tmp_path / "b", unsigned, bits=12, RescaleSlope=1, RescaleIntercept=-1024))
    np.testing.assert_array_equal(found, unsigned.astype(int) - 1024 + 32768)


def test_bits_above_those_stored_are_no_grey(tmp_path):
    """Old files keep overlays there."""
    pixels = square() | 0x8000
    np.testing.assert_array_equal(read_dicom(write(tmp_path / "a", pixels, bits=12))[0], square())


def test_monochrome1_is_inverted(tmp_path):
    pixels = square()
    found, _ = read_dicom(write(tmp_path / "a", pixels, bits=12, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(found, 4095 - pixels)
    small = square(bits=8)
    found, _ = read_dicom(write(tmp_path / "b", small, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(found, 255 - small)
    assert found.dtype == np.uint8


def test_colour_becomes_grey(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (40, 36, 3)).astype(np.uint8)
    found, _ = read_dicom(write(tmp_path / "a", colours))
    np.testing.assert_array_equal(found, np.array(Image.fromarray(colours).convert("L")))
    found, _ = read_dicom(write(tmp_path / "j", colours, compress=JPEG_2000, PhotometricInterpretation="YBR_RCT"))
    np.testing.assert_array_equal(found, np.array(Image.fromarray(colours).convert("L")))
    luma = np.dstack([colours[..., 0], np.full((40, 36, 2), 128, np.uint8)])
    for compress in (None, JPEG_2000):
        found, _ = read_dicom(write(tmp_path / "y", luma, compress=compress, PhotometricInterpretation="YBR_FULL"))
        assert np.abs(found.astype(int) - luma[..., 0]).max() <= 1
    refused(write(tmp_path / "b", square(bits=8), PhotometricInterpretation="PALETTE COLOR"), "PALETTE COLOR")
    refused(write(tmp_path / "c", square(bits=8), PhotometricInterpretation=SECRET[:16]), "unknown PhotometricInterpretation")


def test_facts_are_coded(tmp_path):
    tags = {"PatientSex": "F", "PatientAge": "058Y", "ViewPosition": "PA", "Modality": "CR"}
    facts = read_header(write(tmp_path / "a", square(), bits=12, **tags))
    assert (facts.kind, facts.rows, facts.columns, facts.sex, facts.age, facts.view, facts.modality) == ("image", 16, 16, "F", "58", "PA", "CR")
    assert facts.patient == "4711-" + SECRET and SECRET not in repr(facts)
    tags = {"PatientSex": "CANARY", "PatientAge": "CANA", "ViewPosition": "CANARY", "Modality": "CANARY"}
    facts = read_header(write(tmp_path / "b", square(), bits=12, **tags))
    assert (facts.sex, facts.age, facts.view, facts.modality) == ("", "", "other", "other")


@pytest.mark.parametrize(
    ("text", "years"), [("058Y", "58"), ("51", "51"), ("011M", "0"), ("024M", "2"), ("003W", "0"), ("010D", "0"), ("097Y", "90"), ("", ""), ("Y58", "")]
)
def test_ages(text, years):
    assert dicom._age(text) == years


@pytest.mark.parametrize(("said", "fact"), [("NO", "no"), (None, "unstated"), ("", "unstated"), ("YES", "yes"), ("MAYBE", "yes")])
def test_burned_in_text_is_refused_unless_asked_for(tmp_path, said, fact):
    path = write(tmp_path / "a", square(), bits=12, BurnedInAnnotation=said)
    assert read_header(path).burned_in == fact
    for accepted in ("no", "unstated", "yes"):
        if dicom.BURNED_IN.index(fact) <= dicom.BURNED_IN.index(accepted):
            read_dicom(path, burned_in=accepted)
        else:
            refused(path, "--allow-unmarked" if fact == "unstated" else "--allow-burned-in", burned_in=accepted)


def test_check_burned_in_names_the_file():
    check_burned_in(Facts("image", burned_in="unstated"), "unstated", "a")
    with pytest.raises(InputError, match="^a: found no word on text"):
        check_burned_in(Facts("image"), "no", "a")


def test_no_dicom(tmp_path):
    refused(tmp_path / "missing", "no such file")
    refused(tmp_path, "no such file")  # a folder
    for name, data in {"empty": b"", "text": b"a,b\n" * 100, "preamble": b"\0" * 128 + b"DICM"}.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, "does not begin as DICOM" if name != "preamble" else "no transfer syntax")
    assert not is_dicom(tmp_path / "text") and is_dicom(tmp_path / "preamble")


def test_elements_that_declare_gigabytes(tmp_path):
    path = write(tmp_path / "a", square(), bits=12)
    data = path.read_bytes()
    at = data.index(b"\xe0\x7f\x10\x00OW") + 8
    path.write_bytes(data[:at] + struct.pack("<I", 0xFFFFFFF0) + data[at + 4 :])
    read_dicom(path)  # no more than the file has is read; here that is all the pixels
    path.write_bytes(data[:at] + struct.pack("<I", 0xFFFFFFF0) + data[at + 4 : -100])
    refused(path, "412 bytes of pixels")
    (tmp_path / "long").write_bytes(data[:132] + b"\x02\x00\x02\x01OB\0\0" + struct.pack("<I", 0xFFFFFFF0) + data[132:])
    refused(tmp_path / "long", "no transfer syntax")


def test_a_file_that_is_too_long(tmp_path, monkeypatch):
    path = write(tmp_path / "a", square(), bits=12)
    monkeypatch.setattr(dicom, "MOST_BYTES", 1000)
    refused(path, "at most 1,000")
    assert read_header(path).kind == "image"  # a large object that is none is only sorted out


def test_a_packed_header(tmp_path):
    made = dataset(square(), bits=12, syntax=f"{SYNTAX}.1.99")
    made.save_as(tmp_path / "b")
    refused(tmp_path / "b", "deflated")  # it could unpack to anything


def test_frames_and_depths(tmp_path):
    refused(write(tmp_path / "a", square(), bits=12, NumberOfFrames=2), "several frames")
    read_dicom(write(tmp_path / "b", square(), bits=12, NumberOfFrames=1))
    refused(write(tmp_path / "c", square(), bits=12, HighBit=15), "HighBit 15")
    refused(write(tmp_path / "d", square(), bits=12, BitsStored=17), "BitsStored 17")
    refused(write(tmp_path / "e", square(), bits=12, BitsAllocated=32), "BitsAllocated 32")
    refused(write(tmp_path / "f", square(), bits=12, SamplesPerPixel=3), "SamplesPerPixel 3")
    made = dataset(square(), bits=12)
    del made.PixelData
    made.save_as(tmp_path / "g")
    refused(tmp_path / "g", "no pixel data")


def test_what_is_no_image(tmp_path):
    kinds = {"88.33": "Comprehensive SR Storage", "11.1": "Grayscale Softcopy Presentation State Storage", "66.4": "Segmentation Storage"}
    for uid, name in kinds.items():
        path = write(tmp_path / uid, square(), bits=12, SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{uid}")
        assert read_header(path).kind == name
        refused(path, "no image")
    assert read_header(write(tmp_path / "d", square(), SOPClassUID="1.2.840.10008.1.3.10")).kind == "DICOMDIR"
    assert read_header(write(tmp_path / "p", square(), SOPClassUID="1.2.3.4")).kind == "image"  # private, with Rows
    private = dataset(square(), SOPClassUID="1.2.3.4", Rows=None)
    private.save_as(tmp_path / "q")
    assert read_header(tmp_path / "q").kind == "an object without a known SOP class"


def test_fields_of_the_wrong_kind(tmp_path, caplog):
    """Text where numbers belong: refused without a word of it, in messages, warnings and logs."""
    caplog.set_level(logging.DEBUG)
    tags = {"WindowCenter": "1234567890", "WindowWidth": "1234567890", "SpecificCharacterSet": "ISO_IR 100"}
    path = write(tmp_path / "a", square(), bits=12, **tags)
    path.write_bytes(path.read_bytes().replace(b"1234567890", SECRET.encode()).replace(b"ISO_IR 100", b"CANARY ida"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        refused(path, "WindowCenter that is no number", window="window")
        read_dicom(path)  # not asked for
    assert not [w for w in caught if "CANA" in str(w.message)] and "CANA" not in caplog.text


def test_random_damage_is_one_message(tmp_path):
    rng = np.random.default_rng(0)
    sources = [write(tmp_path / f"s{k}", square(32), bits=12, compress=c).read_bytes() for k, c in enumerate((None, RLE, JPEG_LS, JPEG_2000, JPEG_LOSSLESS))]
    outcomes = {"read": 0, "refused": 0}
    for trial in range(200):
        data = bytearray(sources[trial % 5])
        for at in rng.integers(132, len(data), rng.integers(1, 6)):
            data[at] = rng.integers(256)
        path = tmp_path / "mutant"
        path.write_bytes(bytes(data[: rng.integers(200, len(data))] if trial % 3 == 0 else data))
        try:
            read_dicom(path)
            outcomes["read"] += 1
        except InputError as e:
            assert str(path) in str(e) and "CANARY" not in str(e)
            outcomes["refused"] += 1
    assert outcomes["read"] and outcomes["refused"] > 60


def test_samples_of_published_files(real_data):
    folder = real_data / "original_layouts" / "dicom"
    if not folder.is_dir():
        pytest.skip("no DICOM samples")
    found = {p.stem: read_dicom(p, burned_in="unstated") for p in sorted(folder.rglob("*.dcm"))}
    assert len(found) == 5 and {f.high for _, f in found.values()} == {255, 4095}
    for pixels, facts in found.values():
        assert pixels.shape == (facts.rows, facts.columns)
        edge = np.concatenate([pixels[: len(pixels) // 3, :8].ravel(), pixels[: len(pixels) // 3, -8:].ravel()]).mean()
        centre = pixels[:, pixels.shape[1] // 2 - 20 : pixels.shape[1] // 2 + 20].mean()
        assert centre > edge  # spine brighter than air beside the patient, MONOCHROME1 or not

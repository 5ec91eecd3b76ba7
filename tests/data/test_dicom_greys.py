"""Grey levels of stored values, against values worked out by hand and against pydicom's own functions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from tiny_dicom import dataset, lut_item

from synthrad.data.dicom_greys import GreyTable, grey_table, is_inverted
from synthrad.errors import InputError


def table(window="none", bits=8, kind=np.uint8, **tags):
    return grey_table(dataset(np.zeros((2, 2), kind), bits=bits, **tags), window, "file")


def test_rescale():
    made = table(RescaleSlope=2, RescaleIntercept=3)
    assert made.levels[[0, 1, 255]].tolist() == [3, 5, 513] and (made.low, made.high, made.doubtful) == (3, 513, False)
    assert made.apply(np.array([[0, 255]], np.uint8), "file").tolist() == [[3, 513]]
    assert table().apply(np.array([[7]], np.uint8), "file").dtype == np.uint8


def test_negative_slope_and_sign():
    assert table(kind=np.int8).levels[[0, 127, 128, 255]].tolist() == [32768, 32895, 32640, 32767]
    made = table(RescaleSlope=-1, RescaleIntercept=255)
    assert made.levels[[0, 255]].tolist() == [255, 0]
    made = table(RescaleSlope=300, RescaleIntercept=-40000)
    with pytest.raises(InputError, match="beyond 16 bit"):
        made.apply(np.array([[0]], np.uint8), "file")
    assert made.apply(np.array([[200]], np.uint8), "file").tolist() == [[20000 + 32768]]


def test_a_slope_that_merges_levels_is_refused():
    made = table(RescaleSlope=0.1, RescaleIntercept=0)
    with pytest.raises(InputError, match="(?s)several stored values.*--window window"):
        made.apply(np.array([[0, 1]], np.uint8), "file")
    assert made.apply(np.array([[0, 10]], np.uint8), "file").tolist() == [[0, 1]]  # these stay apart


def test_levels_beyond_16_bit_are_refused():
    made = table(RescaleSlope=1000, RescaleIntercept=0)
    assert (made.low, made.high) == (0, 65535)  # what is printed has five digits, whatever the header holds
    assert made.apply(np.array([[60]], np.uint8), "file").tolist() == [[60000]]
    with pytest.raises(InputError, match="beyond 16 bit"):
        made.apply(np.array([[66]], np.uint8), "file")


@pytest.mark.parametrize(("slope", "match"), [(0, "slope of 0"), (1e12, "beyond 1e9")])
def test_senseless_slopes(slope, match):
    with pytest.raises(InputError, match=match):
        table(RescaleSlope=slope, RescaleIntercept=0)


def test_linear_window_of_the_standard():
    """PS3.3 C.11.2.1.2.1: c = 100, w = 51 runs from 74.5 to 124.5."""
    levels = table("window", WindowCenter=100, WindowWidth=51).levels
    assert levels[[0, 74, 125, 255]].tolist() == [0, 0, 255, 255]
    assert levels[100] == round(255 * ((100 - 99.5) / 50 + 0.5))
    exact = table("window", WindowCenter=100, WindowWidth=50, VOILUTFunction="LINEAR_EXACT").levels
    assert exact[[75, 100, 125]].tolist() == [0, round(255 * 0.5), 255]
    sigmoid = table("window", WindowCenter=100, WindowWidth=50, VOILUTFunction="SIGMOID").levels
    assert sigmoid[100] == round(255 / 2) and sigmoid[125] == round(255 / (1 + np.exp(-2)))
    threshold = table("window", WindowCenter=100, WindowWidth=1).levels
    assert threshold[[99, 100]].tolist() == [0, 255]


def test_window_after_rescale_and_inverted():
    levels = table("window", RescaleSlope=1, RescaleIntercept=-100, WindowCenter=0, WindowWidth=51).levels
    assert levels[[74, 125]].tolist() == [0, 255]
    inverted = table("window", PhotometricInterpretation="MONOCHROME1", WindowCenter=100, WindowWidth=51)
    assert inverted.levels[[74, 125]].tolist() == [255, 0] and (inverted.low, inverted.high) == (0, 255)


def test_first_of_several_windows():
    several = table("window", WindowCenter=[100, 10], WindowWidth=[51, 2]).levels
    np.testing.assert_array_equal(several, table("window", WindowCenter=100, WindowWidth=51).levels)


def test_lookup_tables():
    made = table(ModalityLUTSequence=[lut_item([10, 20, 30], first=5, bits=16)])
    assert made.levels[[0, 5, 6, 7, 255]].tolist() == [10, 10, 20, 30, 30]
    made = table("window", VOILUTSequence=[lut_item([0, 128, 255], first=5)], WindowCenter=1, WindowWidth=2)
    assert made.levels[[0, 6, 255]].tolist() == [0, 128, 255]  # goes before the window
    small = lut_item([0, 0, 0], first=5)
    small.LUTData = bytes([0, 128, 255, 0])  # 8-bit entries packed two a word
    assert table("window", VOILUTSequence=[small]).levels[[5, 6, 7]].tolist() == [0, 128, 255]
    signed = table("window", kind=np.int8, VOILUTSequence=[lut_item([0, 255], first=65536 - 1)])
    assert signed.levels[[255, 0]].tolist() == [0, 255]  # the first value mapped is -1


@pytest.mark.parametrize(
    ("tags", "match"),
    [
        ({}, "neither a window nor a VOI LUT"),
        ({"WindowCenter": 1}, "neither a window"),
        ({"WindowCenter": 1, "WindowWidth": 0}, "WindowWidth that is too small"),
        ({"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, "VOILUTFunction"),
    ],
)
def test_windows_that_make_no_sense(tags, match):
    with pytest.raises(InputError, match=match):
        table("window", **tags)


def test_tables_that_do_not_fit():
    for change in ({"LUTDescriptor": [4000, 0, 8]}, {"LUTDescriptor": [2, 0, 40]}, {"LUTData": b""}, {"LUTDescriptor": [2, 0]}):
        item = lut_item([1, 2])
        for name, value in change.items():
            setattr(item, name, value)
        with pytest.raises(InputError, match="does not fit its LUTDescriptor"):
            table(ModalityLUTSequence=[item])


def test_monochrome1_is_inverted_alone():
    pixels = np.zeros((2, 2), np.uint8)
    assert not is_inverted(dataset(pixels)) and is_inverted(dataset(pixels, PhotometricInterpretation="MONOCHROME1"))


def test_grey_table_keeps_8_bit_where_all_fits():
    assert GreyTable(np.arange(256.0), 0, 255).apply(np.zeros((1, 1), np.uint8), "f").dtype == np.uint8
    assert GreyTable(np.arange(256.0) + 1, 1, 256).apply(np.zeros((1, 1), np.uint8), "f").dtype == np.uint16


WHOLE = st.integers(-300, 300)
TAGS = st.fixed_dictionaries(
    {"slope": st.integers(-4, 4).filter(bool), "intercept": WHOLE, "center": st.lists(WHOLE, min_size=1, max_size=3), "width": st.integers(2, 400),
     "function": st.sampled_from([None, "LINEAR", "LINEAR_EXACT", "SIGMOID"]), "entries": st.lists(st.integers(0, 4095), min_size=2, max_size=40), "first": st.integers(0, 200)},
)  # fmt: skip


def every_stored(bits: int, signed: bool) -> np.ndarray:
    """All values that so many bits hold, in the order of their codes."""
    codes = np.arange(1 << bits)
    return (codes - ((codes >= 1 << (bits - 1)) << bits) if signed else codes).astype(np.int16 if signed else np.uint16)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(bits=st.integers(8, 12), signed=st.booleans(), inverted=st.booleans(), tags=TAGS)
def test_as_pydicom_has_it(bits, signed, inverted, tags):
    """Modality LUT, the first window by each function, and a VOI LUT; pydicom leaves MONOCHROME1 to its user."""
    kind, stored = np.int16 if signed else np.uint16, every_stored(bits, signed)
    header = {"PhotometricInterpretation": f"MONOCHROME{1 if inverted else 2}", "RescaleSlope": tags["slope"], "RescaleIntercept": tags["intercept"],
              "WindowCenter": tags["center"], "WindowWidth": [tags["width"]] * len(tags["center"]), "VOILUTFunction": tags["function"]}
    made, bare = dataset(np.zeros((2, 2), kind), bits=bits, **header), table(bits=bits, kind=kind, **header)
    values = apply_modality_lut(stored, made)
    wanted = values.max() + values.min() - values if inverted else values
    np.testing.assert_array_equal(bare.levels, wanted + (32768 if values.min() < 0 else 0))
    ends = np.array([0, (1 << bits) - 1]) - (1 << (bits - 1) if signed else 0)
    low, high = ends * tags["slope"] + tags["intercept"]  # what pydicom takes for dark and bright
    shares = (apply_voi_lut(values, made) - low) / (high - low)
    assert np.abs(table("window", bits, kind, **header).levels - 255 * (1 - shares if inverted else shares)).max() < 0.5 + 1e-6
    voi = [lut_item(tags["entries"], tags["first"], bits=12)]
    looked = apply_voi_lut(values.astype(int), dataset(np.zeros((2, 2), kind), bits=bits, **header, VOILUTSequence=voi)) / 4095
    assert np.abs(table("window", bits, kind, **header, VOILUTSequence=voi).levels - 255 * (1 - looked if inverted else looked)).max() < 0.5 + 1e-6


def test_padding_is_the_darkest_level():
    made = table(PixelPaddingValue=0, PhotometricInterpretation="MONOCHROME1")
    assert made.levels[[0, 1, 255]].tolist() == [0, 254, 0] and (made.low, made.high) == (0, 255)
    assert table(PixelPaddingValue=250, PixelPaddingRangeLimit=255).levels[[249, 250, 255]].tolist() == [249, 0, 0]
    assert table("window", PixelPaddingValue=255, WindowCenter=100, WindowWidth=51).levels[[254, 255]].tolist() == [255, 0]
    both = table("window", PixelPaddingValue=0, PhotometricInterpretation="MONOCHROME1", WindowCenter=100, WindowWidth=51)
    assert both.levels[[0, 1, 255]].tolist() == [0, 255, 0]
    signed = table(bits=12, kind=np.int16, PixelPaddingValue=-2000)
    assert signed.levels[(-2000) & 4095] == 32768 - 2048 == signed.low and signed.levels[(-1999) & 4095] == 32768 - 1999


def test_padding_that_no_pixel_can_be_or_that_all_are():
    for tags in ({"PixelPaddingValue": 4000}, {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 255}, {}):
        assert table(**tags).padding is None and table(**tags).levels.tolist() == list(range(256))


def test_padding_is_not_taken_for_levels_that_merge():
    made = table(RescaleSlope=0.5, RescaleIntercept=0, PixelPaddingValue=0)
    assert made.apply(np.array([[0, 0], [2, 4]], np.uint8), "file").tolist() == [[0, 0], [1, 2]]
    assert made.apply(np.zeros((2, 2), np.uint8), "file").tolist() == [[0, 0], [0, 0]]

"""Grey levels of stored values, against values worked out by hand."""

import numpy as np
import pytest
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

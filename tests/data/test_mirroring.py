import numpy as np
import pytest

from synthrad.data.mirroring import mirror, mirror_values
from synthrad.errors import InputError


def test_sides_change_places_and_teeth_change_quadrants():
    layers = {"lung": ("left lung", "right lung", "heart"), "tooth": ("11", "12", "21", "22"), "kidney": ("Kidney_L", "Kidney_R"), "milk": ("tooth 55", "tooth 65")}
    lung, tooth, kidney, milk = (v[: len(n) + 1].tolist() for v, n in zip(mirror_values(layers, "x"), layers.values(), strict=True))
    assert lung == [0, 2, 1, 3] and tooth == [0, 3, 4, 1, 2] and kidney == [0, 2, 1] and milk == [0, 2, 1]


@pytest.mark.parametrize("names", [("tooth",), ("crown", "root"), ("11", "caries"), ("lower_lobe", "ring"), ("19", "11"), ("left to right shunt",)])
def test_what_has_no_side_stays(names):
    assert mirror_values({"a": names}, "x")[0][: len(names) + 1].tolist() == list(range(len(names) + 1))


@pytest.mark.parametrize(("names", "other"), [(("left lung", "heart"), "right lung"), (("11", "12", "21"), "22")])
def test_one_side_alone_cannot_be_mirrored(names, other):
    with pytest.raises(InputError, match=f"mask_transform: found a mirror, .* without '{other}'"):
        mirror_values({"a": names}, "mask_transform")


def test_pixels():
    masks = np.array([[[1, 0, 2, 2]], [[255, 255, 255, 255]], [[0, 1, 0, 0]]], np.uint8)
    found = mirror(masks, mirror_values({"a": ("l", "r"), "unknown": ("l", "r"), "b": ("organ",)}, "x"))
    assert found.tolist() == [[[1, 1, 0, 2]], [[255] * 4], [[0, 0, 1, 0]]] and found.dtype == np.uint8
    assert mirror(masks[:0], []).shape == (0, 1, 4)

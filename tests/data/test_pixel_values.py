"""Pixel values of masks made elsewhere: what is declared becomes structures, what is not is told."""

import numpy as np
import pytest
from PIL import Image

from synthrad.data.pixel_values import Layer, declared, lookup_table, parse_values, read_layer
from synthrad.errors import InputError


def test_values_and_their_names():
    assert parse_values("a:1-3=x,9=y") == ("a", {1: "x", 2: "x", 3: "x", 9: "y"})
    assert parse_values("tooth:11-12,48")[1] == {11: "11", 12: "12", 48: "48"}
    for bad in ("a", "a:", ":1", "a:x", "a:3-1", "a:1,1-2"):
        with pytest.raises(InputError):
            parse_values(bad)


def test_declared_values_are_named_in_spans():
    names = ("x", "tooth")
    layer = Layer("a", "mask", names, lookup_table({1: "x", 2: "x", 3: "tooth", 9: "x", 255: "tooth"}, names))
    assert declared(layer) == "1-2=x, 3=tooth, 9=x, 255=tooth"
    many = tuple(str(v) for v in range(1, 61))
    layer = Layer("a", "mask", many, lookup_table({int(v): v for v in many}, many))
    assert declared(layer).endswith("40=40 and 20 more")


def test_a_mask_becomes_structures_and_what_is_undeclared_is_told(tmp_path):
    values = {7: "deep", 200: "caries", 255: "caries"}
    layer = Layer("abnormality", "mask", ("caries", "deep"), lookup_table(values, ("caries", "deep")))
    pixels = np.array([[0, 7], [200, 255]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "m.png")
    assert read_layer(tmp_path, "m.png", layer, (2, 2)).tolist() == [[0, 2], [1, 1]]
    with pytest.raises(InputError, match="2 x 2 pixels; expected 3 x 2"):
        read_layer(tmp_path, "m.png", layer, (2, 3))
    Image.fromarray(pixels + 1).save(tmp_path / "m.png")
    with pytest.raises(InputError, match=r"value\(s\) 1, 8, 201; expected 0 .*'abnormality': 7=deep, 200=caries, 255=caries"):
        read_layer(tmp_path, str(tmp_path / "m.png"), layer, None)

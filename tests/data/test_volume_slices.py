"""Planes, grey values and padding of slices, by hand-made volumes."""

from pathlib import Path

import numpy as np
import pytest

from synthrad.data.nifti import Volume
from synthrad.data.pixel_values import declared_layers
from synthrad.data.volume_slices import Slicing, draw_layers, grey, limits_of, padded
from synthrad.errors import InputError


def volume(array, slope=1.0, inter=0.0):
    return Volume(Path("v.nii"), np.asarray(array), slope, inter, np.eye(4), (1.0, 1.0, 1.0))


def test_what_lies_where_in_each_plane():
    """One voxel at the patient's right, front and head: x, y = 0, z = last."""
    array = np.zeros((3, 4, 5), np.int16)
    array[0, 0, 4] = 1
    made = {p: Slicing(plane=p).picture(volume(array), k) for p, k in (("axial", 4), ("coronal", 0), ("sagittal", 0))}
    assert {p: m.shape for p, m in made.items()} == {"axial": (4, 3), "coronal": (5, 3), "sagittal": (5, 4)}
    assert all(m[0, 0] == 1 and m.sum() == 1 for m in made.values())  # front or head on top; right (or front) on the left
    array = np.zeros((3, 4, 5), np.int16)
    array[2, 3, 0] = 1  # left, back, foot
    made = [Slicing(plane=p).picture(volume(array), k) for p, k in (("axial", 0), ("coronal", 3), ("sagittal", 2))]
    assert all(m[-1, -1] == 1 for m in made)


def test_limits_of_each_rule():
    array = np.zeros((10, 10, 10), np.int16)
    array[2:8, 2:8, 2:8] = np.arange(1, 217).reshape(6, 6, 6)
    assert limits_of(volume(array), Slicing()) == (0, 216)
    assert limits_of(volume(array, 2.0, 0.0), Slicing()) == (0, 432)
    how = Slicing(scaling="percentile", limits=(25, 75))
    assert limits_of(volume(array), how) == pytest.approx(np.percentile(np.arange(1, 217), [25, 75]))  # background has no part in it
    array[0, 0, 0] = 5  # now the corners differ: every voxel counts
    assert limits_of(volume(array), Slicing(scaling="percentile", limits=(50, 100))) == (0, 216)
    assert limits_of(volume(array), Slicing(scaling="fixed", limits=(-160, 240))) == (-160, 240)
    for wrong, said in ((volume(array - 1), "below 0"), (volume(np.zeros((3, 3, 3))), "contrast")):
        with pytest.raises(InputError, match=said):
            limits_of(wrong, Slicing())
    with pytest.raises(InputError, match="contrast"):
        limits_of(volume(np.full((3, 3, 3), 7)), how)


def test_grey_values_of_both_depths():
    values = np.array([[-5.0, 0.0, 50.0, 100.0, 120.0]], np.float32)
    assert grey(values, (0, 100), 8).tolist() == [[0, 0, 128, 255, 255]] and grey(values, (0, 100), 8).dtype == np.uint8
    assert grey(values, (0, 100), 16).tolist() == [[0, 0, 32768, 65535, 65535]]


def test_padding():
    picture = np.ones((2, 3))
    assert padded(picture, (4, 6), Path("p")).tolist()[1] == [0, 1, 1, 1, 0, 0]
    assert padded(picture, None, Path("p")) is picture
    with pytest.raises(InputError, match="slices of 3 x 2"):
        padded(picture, (2, 2), Path("p"))


def test_layers_of_one_mask():
    labels = np.array([[0, 1, 2, 4]], np.uint16)
    drawn = draw_layers(labels, declared_layers(["whole:1=whole,2=whole,4=whole", "core:4=b,1=a"]), Path("m"))
    assert drawn["whole"].tolist() == [[0, 1, 1, 1]] and drawn["core"].tolist() == [[0, 2, 0, 1]]
    with pytest.raises(InputError, match=r"(?s)m: found the value\(s\) 4.*part: 1=a, 2=b"):
        draw_layers(labels, declared_layers(["part:1=a,2=b"]), Path("m"))
    with pytest.raises(InputError, match="layer a twice"):
        declared_layers(["a:1=x", "a:2=y"])

import dataclasses

import numpy as np
import pytest

from synthrad.conditioning import Condition, Generator, Images, size_attribute, size_bins


def test_an_edge_belongs_to_the_bin_above_it():
    edges = [0.01, 0.05]
    areas = np.array([1e-9, np.nextafter(0.01, 0), 0.01, np.nextafter(0.05, 0), 0.05, 1.0])
    assert list(size_bins(areas, edges)) == ["..0.01", "..0.01", "0.01..0.05", "0.01..0.05", "0.05..", "0.05.."]


def test_absent_and_unknown_are_told_apart_and_no_area_is_changed():
    areas = np.array([0.0, np.nan, 0.02, -0.0])
    found = size_bins(areas, [0.01])
    assert found.dtype == object and list(found) == ["none", "", "0.01..", "none"]
    assert np.isnan(areas[1]) and size_bins(np.zeros(0), [0.01]).shape == (0,)


@pytest.mark.parametrize("edges", [[0.1, 0.25], (0.1, 0.25), np.array([0.1, 0.25])], ids=["list", "tuple", "array"])
def test_a_bin_is_named_the_same_whatever_holds_its_edges(edges):
    assert list(size_bins(np.array([0.05, 0.1, 0.3]), edges)) == ["..0.1", "0.1..0.25", "0.25.."]


def test_edges_come_back_from_a_name_as_they_were():
    edge = 0.1 + 0.2  # no short decimal
    name = size_bins(np.array([0.9]), [edge])[0]
    assert float(name.removesuffix("..")) == edge


def test_layers_keep_their_sizes_apart():
    assert size_attribute("tooth/implant") == "size(tooth/implant)" != size_attribute("abnormality/implant")


def test_a_condition_asks_for_nothing_by_itself_and_stays_as_it_is():
    condition = Condition()
    assert (condition.labels, condition.masks, condition.text, condition.image) == (None,) * 4
    assert len(condition.attributes) == 0 and condition.strength == 1.0 and Images(image=None).masks is None
    for made, name in ((condition, "labels"), (Images(image=None), "masks")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, name, 1)


def test_what_can_sample_is_a_generator():
    class Mine:
        def sample(self, condition, seeds, truncation=1.0):
            return Images(None)

    assert isinstance(Mine(), Generator) and not isinstance(object(), Generator)

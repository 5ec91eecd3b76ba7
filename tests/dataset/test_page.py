"""The page's parts: panels on one grid, figures only where there is something to draw."""

import numpy as np
from tiny_set import make

from synthrad.data.sheets import Block, Panel
from synthrad.dataset.page import _areas, _matrix, _of_one_size


def test_panels_are_padded_to_one_size_and_kept():
    small, wide = Panel(np.zeros((4, 3, 3), np.uint8), "a"), Panel(np.zeros((2, 9, 3), np.uint8), "b")
    first, second = _of_one_size([Block("x", [small]), Block("y", [wide])])
    assert first.panels[0].pixels.shape == second.panels[0].pixels.shape == (4, 9, 3)
    assert (first.panels[0].pixels[:4, :3] == 0).all() and (first.panels[0].pixels[:, 3:] == 255).all() and first.panels[0].caption == "a"


def test_the_matrix_needs_two_findings():
    assert _matrix({"together": []}) is None
    pair = {"a": "x", "b": "y", "subjects": 8, "expected": 4.0}
    values = _matrix({"together": [pair]}).axes[0].images[0].get_array()
    assert values[0, 1] == values[1, 0] == np.log2(8.5 / 4.5) and np.ma.getmaskarray(np.ma.masked_invalid(values))[0, 0]


def test_sizes_of_structures_are_told_in_percent(tmp_path):
    made = make(tmp_path / "set", rows=12)
    axis = _areas(made, {"findings": {"tooth/crown": {"area": {"0.5": 0.1}}, "caries": {}}}).axes[0].xaxis
    assert axis.get_major_formatter()(-1, 0) == "10 %" and axis.get_major_formatter()(-2.5, 0) == "0.32 %"

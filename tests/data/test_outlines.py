from pathlib import Path

import numpy as np
import pytest

from synthrad.data.outlines import Picture, draw_masks
from synthrad.errors import InputError, InputErrors

LAYERS = {"tooth": ("11", "12"), "finding": ("caries",)}
NAMES = {"tooth": lambda m: m["tooth"], "finding": lambda m: m.get("finding", "caries")}


def mark(x, y, w, h, tooth="11", **more):
    corners = [x, y, x + w - 1, y, x + w - 1, y + h - 1, x, y + h - 1]
    return {"id": 1, "tooth": tooth, "bbox": [x, y, w, h], "segmentation": [corners[:6]], **more}


def picture(*marks, stated=None):
    return Picture(Path("a.png"), stated, list(marks))


def test_a_small_outline_stays_on_top_and_every_layer_has_it():
    small, large = mark(4, 4, 3, 3, "12"), mark(2, 2, 10, 8)
    for marks in ((small, large), (large, small)):
        drawn = draw_masks(picture(*marks), (16, 24), LAYERS, NAMES, boxes=True)
        assert (drawn["tooth"][4:7, 4:7] == 2).all() and (drawn["tooth"] == 1).sum() == 80 - 9 and (drawn["finding"] == 1).sum() == 80
    outline = draw_masks(picture(large), (16, 24), LAYERS, NAMES)["tooth"]
    assert 40 <= outline.sum() < 80 and outline[2, 2] == 1 and outline[9, 2] == 0  # the triangle of its first three corners


def test_outlines_of_a_larger_picture_are_shrunk_with_it():
    large = mark(20, 40, 20, 40)
    for given in ({"annotated": [48, 96]}, {}):
        drawn = draw_masks(picture(large, stated=None if given else (48, 96)), (24, 12), LAYERS, NAMES, boxes=True, **given)["tooth"]
        rows, columns = np.nonzero(drawn)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 19, 5, 9)
    with pytest.raises(InputError, match="outlines up to x = 39, y = 79.*inside 12 x 24.*\n.*--annotation-size W H .at least 39 x 79"):
        draw_masks(picture(large), (24, 12), LAYERS, NAMES)


def test_no_annotation_is_an_empty_mask():
    assert not draw_masks(picture(), (4, 6), LAYERS, NAMES)["tooth"].any()


def test_what_is_no_outline_or_of_no_category():
    for change, said in (({"segmentation": [[1, 2, 3]]}, "no list of outlines"), ({"segmentation": None, "bbox": [1, 2]}, "without bbox")):
        with pytest.raises(InputError, match=said):
            draw_masks(picture({**mark(1, 1, 3, 3), **change}), (8, 8), LAYERS, NAMES)
    with pytest.raises(InputErrors, match="expected ids of the file's categories"):
        draw_masks(picture(mark(1, 1, 3, 3, None)), (8, 8), LAYERS, NAMES)

"""Regions against pycocotools, and those that must never reach it."""

import numpy as np
import pytest
from pycocotools import mask as coco

from synthrad.data.coco_regions import region_of
from synthrad.errors import InputError

SHAPE = (23, 31)


def blob(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros(SHAPE, np.uint8)
    y, x = rng.integers(0, 15, 2)
    mask[y : y + rng.integers(1, 9), x : x + rng.integers(1, 15)] = 1
    return mask | (rng.random(SHAPE) < 0.05 * (seed % 3))



@pytest.mark.parametrize("seed", range(12))
def test_run_lengths_plain_and_packed(seed):
    mask = blob(seed)
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = {"size": list(SHAPE), "counts": packed["counts"].decode()}
    region = region_of({"segmentation": text}, SHAPE, "a")
    assert (region.mask() == mask).all() and region.area == mask.sum()
    plain = {"size": list(SHAPE), "counts": region.counts.tolist()}
    assert (region_of({"segmentation": plain}, SHAPE, "a").mask() == mask).all()
    assert coco.frPyObjects(plain, *SHAPE)["counts"] == packed["counts"]


@pytest.mark.parametrize("seed", range(6))
def test_outlines_are_filled_as_pycocotools_fills_them(seed):
    rng = np.random.default_rng(seed)
    parts = [(rng.random((n, 2)) * SHAPE[::-1]).ravel().tolist() for n in (3, 4, 9)]
    expected = coco.decode(coco.merge(coco.frPyObjects(parts, *SHAPE)))
    assert (region_of({"segmentation": parts}, SHAPE, "a").mask() == expected).all() and expected.any()


def test_boxes():
    mask = region_of({"bbox": [3, 4, 5, 6], "segmentation": [[0, 0, 30, 0, 30, 20]]}, SHAPE, "a", boxes=True).mask()
    assert mask.sum() == 30 and mask[4:10, 3:8].all()
    edge = region_of({"segmentation": [[-1.5, 0, 32.9, 0, 32.9, 24, -1.5, 24]]}, SHAPE, "a")
    assert edge.area == SHAPE[0] * SHAPE[1]  # rounding beyond the edge


PIXELS = SHAPE[0] * SHAPE[1]
HOSTILE = {
    "none": None, "empty": [], "flat": [1, 2, 3, 4, 5, 6], "two points": [[1, 1, 5, 5]], "box for pycocotools": [[1, 1, 5, 5.0]], "odd": [[1, 1, 5, 5, 2, 2, 3]],
    "far": [[0, 0, 1e12, 0, 0, 1e12]], "farther": [[0, 0, 1e308, 0, 0, -1e308]], "NaN": [[0, 0, float("nan"), 3, 4, 5]], "text": [["0", "0", "5", "5", "2", "2"]],
    "nested": [[[0, 0], [1, 1], [2, 2]]], "truth": [[True, 0, 5, 5, 2, 2]], "number": 7, "word": "0;31",
    "other size": {"size": [31, 23], "counts": [PIXELS]}, "no size": {"counts": [PIXELS]}, "number as size": {"size": 5, "counts": [PIXELS]}, "zigzag": [[0, 0, 30, 22] * 50_000], "huge size": {"size": [2**31, 2**31], "counts": [4]},
    "no counts": {"size": list(SHAPE)}, "sum too large": {"size": list(SHAPE), "counts": [0, PIXELS + 1]}, "sum too small": {"size": list(SHAPE), "counts": [5]},
    "below 0": {"size": list(SHAPE), "counts": [-5, PIXELS + 5]}, "fraction": {"size": list(SHAPE), "counts": [0.5, PIXELS - 0.5]},
    "huge": {"size": list(SHAPE), "counts": [2**63]}, "huger": {"size": list(SHAPE), "counts": [10**400]}, "letters": {"size": list(SHAPE), "counts": "é~~"},
    "cut": {"size": list(SHAPE), "counts": "0_"}, "endless": {"size": list(SHAPE), "counts": "o" * 50}, "overflow": {"size": list(SHAPE), "counts": "ooooooooooo0" * 9},
    "short": {"size": list(SHAPE), "counts": "01"}, "blank": {"size": list(SHAPE), "counts": ""},
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_regions_that_are_none(name):
    with pytest.raises(InputError, match="picture 7"):
        region_of({"segmentation": HOSTILE[name]}, SHAPE, "picture 7")


@pytest.mark.parametrize("box", [None, [1, 2, 3], [1, 2, -3, 4], [0, 0, 1e9, 1e9], ["a", 1, 2, 3], [0, 0, float("inf"), 1]])
def test_boxes_that_are_none(box):
    with pytest.raises(InputError, match="picture 7"):
        region_of({"bbox": box}, SHAPE, "picture 7", boxes=True)

"""COCO-like JSON: what readers count on is checked with its place in the file."""

import json

import pytest

from synthrad.data.coco_files import FARTHEST, read_coco
from synthrad.errors import InputError

GOOD = {"images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 6, "licence": 3}], "categories": [{"id": "x", "name": "lung"}],
        "annotations": [{"id": 9, "image_id": 1, "category_id": "x", "segmentation": [[0, 0, 4, 0, 4, 4]], "bbox": [0, 0, 4.5, 4]}]}


def written(folder, data):
    (folder / "a.json").write_text(data if isinstance(data, str) else json.dumps(data))
    return folder / "a.json"


def test_what_is_sound_comes_back_with_what_else_there_is(tmp_path):
    assert read_coco(written(tmp_path, {**GOOD, "info": {"year": 1}})) == {**GOOD, "info": {"year": 1}}
    several = {**GOOD, "categories_1": GOOD["categories"], "categories": []}
    assert read_coco(written(tmp_path, several), ("categories_1",))["categories_1"] == GOOD["categories"]


@pytest.mark.parametrize(("key", "value", "words"), [
    ("images", [], "nothing in images"), ("categories", [], "nothing in categories"), ("annotations", {}, "annotations that are no list of objects"),
    ("images", ["x"], "images that are no list of objects"), ("images", [{"id": 1}], "images.0.file_name: Field required"), ("images", [{"id": 1.5, "file_name": "a"}], "images.0.id"),
    ("images", [{"id": 1, "file_name": "a\0b"}], "images.0.file_name"), ("categories", [{"id": 1, "name": ""}], "categories.0.name"),
    ("annotations", [{"image_id": 1, "bbox": [0, 0, 1, 2 * FARTHEST]}], "annotations.0.bbox.3"),
    ("annotations", [{"image_id": 1, "segmentation": [["a"]]}], "annotations.0.segmentation"), ("annotations", [{"image_id": [1]}], "annotations.0.image_id"),
])
def test_what_is_not_is_named_with_its_place(tmp_path, key, value, words):
    with pytest.raises(InputError) as e:
        read_coco(written(tmp_path, {**GOOD, key: value}))
    assert words in str(e.value) and "a.json" in str(e.value)


def test_other_files_are_refused_with_the_option_that_names_them(tmp_path):
    for data, words in (("[]", "found a list"), ({"images": []}, "no annotations and no categories")):
        with pytest.raises(InputError, match=f"{words}[^~]*name the right file with --v7"):
            read_coco(written(tmp_path, data), option="--v7")

"""COCO as pycocotools reads it: the masks of the set, bit for bit."""

import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from tiny_set import make

from synthrad.__main__ import main
from synthrad.data.images import read_image, read_mask


def test_masks_come_back(tmp_path):
    made = make(tmp_path / "set", rows=24)
    assert main(["prepare", "export", str(tmp_path / "set"), str(tmp_path / "out"), "--to", "coco"]) == 0
    rows = 0
    for path in sorted((tmp_path / "out/annotations").glob("*.json")):
        coco = COCO(str(path))
        names = {c["id"]: (c["supercategory"], c["name"]) for c in coco.dataset["categories"]}
        for image in coco.dataset["images"]:
            record = made[image["id"] - 1]
            assert path.stem == f"instances_{record.split}"
            np.testing.assert_array_equal(read_image(tmp_path / "out" / image["file_name"]), read_image(record.channels[0]))
            drawn = np.zeros((image["height"], image["width"]), np.uint8)
            for a in coco.loadAnns(coco.getAnnIds(image["id"])):
                assert names[a["category_id"]][0] == "tooth"
                drawn[coco.annToMask(a) > 0] = 1 + ["crown", "root"].index(names[a["category_id"]][1])
            expected = read_mask(record.masks[0]) if record.masks[0] else np.zeros((32, 32), np.uint8)
            np.testing.assert_array_equal(drawn, expected)
            rows += 1
    assert rows == 24


def test_parts_are_instances_of_their_own(tmp_path):
    from synthrad.dataset.coco_instances import _regions

    mask = np.zeros((8, 8), bool)
    mask[0, 0] = mask[1, 1] = mask[5:7, 5:7] = True
    assert [r.sum() for r in _regions(mask, True)] == [2, 4] and len(_regions(mask, False)) == 1 and not _regions(mask * False, True)


def test_subjects_are_hashes_and_masks_are_asked_for(tmp_path, capsys):
    made = make(tmp_path / "set", rows=24)
    assert main(["prepare", "export", str(tmp_path / "set"), str(tmp_path / "out"), "--to", "coco", "--parts"]) == 0
    table = (tmp_path / "out/records.csv").read_text()
    assert not any(s in table for s in set(made.column("subject")))
    assert json.loads((tmp_path / "out/annotations/instances_train.json").read_text())["categories"][0]["name"] == "crown"
    capsys.readouterr()
    assert main(["prepare", "export", str(tmp_path / "set"), str(tmp_path / "out"), "--to", "coco"]) == 2
    assert "a folder with files in it" in capsys.readouterr().err
    from dataclasses import replace

    from synthrad.dataset import coco_instances as coco
    from synthrad.errors import InputError
    from synthrad.records import Manifest

    table = made.table.drop(columns=["mask:tooth", "area:tooth/crown", "area:tooth/root"])
    with pytest.raises(InputError, match="no mask layer"):
        coco.export(Manifest(table, replace(made.info, layers={})), tmp_path / "none")

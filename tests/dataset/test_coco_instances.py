"""COCO as pycocotools reads it: the masks of the set, bit for bit."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from tiny_set import make

from synthrad.__main__ import main
from synthrad.data.images import read_image, read_mask
from synthrad.dataset import coco_instances as coco
from synthrad.errors import InputError
from synthrad.records import Manifest


def test_masks_come_back(tmp_path, capsys):
    made = make(tmp_path / "set", rows=24)
    assert main(["prepare", "export", str(tmp_path / "set"), str(tmp_path / "out"), "--to", "coco"]) == 0
    rows = 0
    for path in sorted((tmp_path / "out/annotations").glob("*.json")):
        read = COCO(str(path))
        names = {c["id"]: (c["supercategory"], c["name"]) for c in read.dataset["categories"]}
        for image in read.dataset["images"]:
            record = made[image["id"] - 1]
            assert path.stem == f"instances_{record.split}"
            np.testing.assert_array_equal(read_image(tmp_path / "out" / image["file_name"]), read_image(record.channels[0]))
            drawn = np.zeros((image["height"], image["width"]), np.uint8)
            for a in read.loadAnns(read.getAnnIds(image["id"])):
                assert names[a["category_id"]][0] == "tooth"
                drawn[read.annToMask(a) > 0] = 1 + ["crown", "root"].index(names[a["category_id"]][1])
            np.testing.assert_array_equal(drawn, read_mask(record.masks[0]))
            rows += 1
    unknown = sum(record.masks[0] is None for record in made)
    assert unknown and rows == 24 - unknown and f"{unknown} of them are in images/ and records.csv only" in capsys.readouterr().out


def test_unknown_masks_are_no_negatives(tmp_path):
    """Of two layers: an image without either is left out, one with either says which is unknown, one without any region stays."""
    made = make(tmp_path / "set", rows=12)
    table = made.table.assign(**{"mask:other": ["", "", *made.column("mask:tooth")[2:]], "area:other/stone": np.nan})
    table.loc[0, "mask:tooth"] = ""
    known = replace(made.info, layers={"tooth": ("crown", "root"), "other": ("stone",)})
    (path, *_) = coco.export(Manifest(table, known).where(split="train"), tmp_path / "out")
    told = json.loads(path.read_text())
    assert [i["id"] for i in told["images"]] == [2, 3, 4, 6] and told["info"]["images_of_unknown_masks_left_out"] == 2
    assert [i.get("unknown_layers") for i in told["images"]] == [["other"], None, None, None]
    with pytest.raises(InputError, match="no known mask"):
        coco.export(Manifest(table.assign(**{"mask:tooth": "", "mask:other": ""}), known), tmp_path / "none")


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
    table = made.table.drop(columns=["mask:tooth", "area:tooth/crown", "area:tooth/root"])
    with pytest.raises(InputError, match="no mask layer"):
        coco.export(Manifest(table, replace(made.info, layers={})), tmp_path / "none")

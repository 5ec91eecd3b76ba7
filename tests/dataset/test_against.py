"""`synthrad prepare check --against`: what two sets share, by split, with pictures and what it excludes."""

import json
from dataclasses import replace

import pytest
from phantom_sets import COPIES, write_set

from synthrad.__main__ import main
from synthrad.data.phantom import draw_phantom
from synthrad.dataset.against import compare, read_others
from synthrad.records import Manifest


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """30 images; 6 others, with copies of two test images and one of training among the training images, and a training image among the test images."""
    folder, images = tmp_path_factory.mktemp("lab"), [draw_phantom(5, k, (64, 128), subject=k).image for k in range(30)]
    mine = write_set(folder / "mine", images[:24], ["train"] * 14 + ["val"] * 2 + ["audit"] * 2 + ["test"] * 6)
    jpeg, mirrored, cropped = (COPIES[k] for k in ("jpeg", "mirrored", "cropped"))
    write_set(folder / "other", [*images[24:], jpeg(images[20]), mirrored(images[21]), cropped(images[0]), images[1]], ["train"] * 9 + ["test"])
    write_set(folder / "apart", images[24:28])
    return folder, mine


def test_the_table_the_pictures_and_what_to_do(lab, capsys, tmp_path):
    folder, _ = lab
    assert main(["prepare", "check", str(folder / "mine"), "--against", str(folder / "other"), str(folder / "apart"), "--out", str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "against other (10 images): 4 images of this set are in it, 1 as the same file and 3 changed" in said
    assert "train: 2 (train 1, test 1 there)" in said and "test: 2 (train 2 there)" in said and "against apart (4 images): 0 images" in said
    assert "What learned from other (a generator, a net, a synthetic set) saw 2 of the 6 test images of mine" in said
    assert "What learned from mine saw 1 of the 1 test images of other" in said
    page = (tmp_path / "check.html").read_text()
    assert page.count("Pairs of images that both sets hold") == 1 and "Shared with other sets" in page and "None was found" in page
    told = json.loads((tmp_path / "check.json").read_text())["against"]
    assert [t["set"] for t in told] == ["other", "apart"] and told[1]["pairs"] == [] == told[1]["advice"]
    assert {(p["row"], p["other_row"], p["split"], p["other_split"], p["same_file"]) for p in told[0]["pairs"]} == {
        (22, 8, "test", "train", False), (23, 9, "test", "train", False), (2, 10, "train", "train", False), (3, 11, "train", "test", True)}
    assert told[0]["pairs"][0]["file"].endswith(".png") and told[0]["counts"]["test"] == {"train": 2, "val": 0, "audit": 0, "test": 0, "any": 2}


def compared(mine, other):
    return compare(mine, read_others(mine, [other]))


def test_shared_training_images_alone_are_no_leak(lab):
    folder, mine = lab
    found = compared(mine.where(split="train"), str(folder / "other"))[0]
    assert found.advice()[0].startswith("What learned from mine saw 1")
    trained = compared(mine.take([0]), str(folder / "other"))[0]
    assert trained.advice() == ["No test image is among them, and no image for validation or audits that trains the other: "
                                "mine and other may train and test each other, but share training images."]
    both = compared(mine.take([20, 21]).with_columns({"split": ["test", "test"]}), str(folder / "other"))[0]
    assert [b.title.split()[0] for b in both.blocks()] == ["likeness", "likeness"] and len(both.advice()) == 1


@pytest.mark.parametrize("split", ["val", "audit"])
def test_images_for_validation_and_audits_are_held_out_too(lab, split):
    folder, mine = lab
    (said,) = compared(mine.take([20, 2]).with_columns({"split": [split] * 2}), str(folder / "other"))[0].advice()
    assert said.startswith("What was trained on other saw 1 of the 2 validation and audit images of mine")
    held = mine.take([0]).with_columns({"split": ["train"]})
    (found,) = compared(held, str(folder / "other"))
    turned = replace(found, theirs=found.theirs.with_columns({"split": [split] * len(found.theirs)}))
    assert turned.advice()[0].startswith(f"What was trained on mine saw 1 of the {len(found.theirs)} validation and audit images of other") and len(turned.advice()) == 1


def test_sets_of_one_name_are_told_apart_by_their_folders(lab):
    folder, mine = lab
    (found,) = compared(mine.take([20]), str(folder / "other"))
    namesake = replace(found, theirs=Manifest(found.theirs.table, replace(found.theirs.info, name=mine.info.name)))
    assert found.name == "other" and namesake.name == f"mine ({folder / 'other'})"


def test_page_of_a_set_without_others_has_no_such_section(lab, tmp_path):
    assert main(["prepare", "check", str(lab[0] / "apart"), "--out", str(tmp_path)]) == 0
    assert "Shared with other sets" not in (tmp_path / "check.html").read_text() and "against" not in json.loads((tmp_path / "check.json").read_text())


@pytest.mark.parametrize("others", [["mine"], ["apart", "apart"], ["nowhere"]])
def test_sets_that_cannot_be_compared(lab, capsys, tmp_path, others):
    folder, _ = lab
    assert main(["prepare", "check", str(folder / "mine"), "--out", str(tmp_path), "--against", *(str(folder / o) for o in others)]) == 2
    assert ("--against" if others != ["nowhere"] else "nowhere") in capsys.readouterr().err and not (tmp_path / "check.html").exists()


def test_a_set_that_cannot_be_read_leaves_no_study_file(lab, tmp_path, monkeypatch):
    from synthrad.dataset import integrity

    folder, path = lab[0], tmp_path / "study.yaml"
    monkeypatch.setattr(integrity, "inspect", None)  # nothing is inspected before the other manifests are read
    assert main(["prepare", "check", str(folder / "mine"), "--out", str(tmp_path), "--study", str(path), "--against", str(folder / "nowhere")]) == 2
    monkeypatch.undo()
    broken = write_set(tmp_path / "broken", [draw_phantom(9, k, (64, 128), subject=k).image for k in range(2)])
    broken[1].channels[0].write_bytes(b"no picture")
    assert main(["prepare", "check", str(folder / "mine"), "--out", str(tmp_path), "--study", str(path), "--against", str(tmp_path / "broken")]) == 2
    assert not path.exists()

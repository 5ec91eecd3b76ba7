"""`synthrad prepare rsna` on a tiny tree in the published layout."""

import json

import numpy as np
import pytest
from tiny_dicom import SECRET, square, write

from synthrad.__main__ import main
from synthrad.data.images import read_mask
from synthrad.records import Manifest

SPLIT = ("--fractions", "0.5", "0.25", "0", "0.25", "--skip-near-copies")
ROWS = ["0,,,,,0", "1,2.0,3.0,4.0,5.0,1", "1,10.0,0.0,6.0,2.0,1", "2,,,,,0", "3,,,,,0", "4,0.0,0.0,16.0,16.0,1", "5,,,,,0"]
KINDS = ["Normal", "Lung Opacity", "Lung Opacity", "No Lung Opacity / Not Normal", "Normal", "Lung Opacity", "Normal"]
NAME = "0004cfab-14fd-4e49-80ba-63a80b6bddd{}"


def tree(root, rows=ROWS, kinds=KINDS, images=6):
    root.mkdir()
    (root / "stage_2_train_labels.csv").write_text("patientId,x,y,width,height,Target\n" + "".join(NAME.format(r[0]) + r[1:] + "\n" for r in rows))
    if kinds:
        pairs = zip(rows, kinds, strict=False)
        (root / "stage_2_detailed_class_info.csv").write_text("patientId,class\n" + "".join(f"{NAME.format(r[0])},{k}\n" for r, k in pairs))
    for i in range(images):
        write(root / "stage_2_train_images" / f"{NAME.format(i)}.dcm", square(bits=8, seed=i), PatientID=NAME.format(i), PatientAge="051Y")
    write(root / "stage_2_test_images" / f"{NAME.format(9)}.dcm", square(bits=8, seed=9))
    return root


def prepare(root, out, *flags):
    return main(["prepare", "rsna", str(root), str(out), *SPLIT, *flags])


def test_labels(tmp_path, capsys):
    assert prepare(tree(tmp_path / "raw"), tmp_path / "out", "--attributes", "age") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.classes == ("lung_opacity", "normal") and not manifest.info.layers
    assert [r.labels for r in manifest] == [(0, 1), (1, 0), (0, 0), (0, 1), (1, 0), (0, 1)]
    assert len(set(manifest.column("subject"))) == 6 and manifest[0].attributes["age"] == "51"
    out = capsys.readouterr().out
    assert "left out: 1 DICOM files without a row" in out and "some are of one NIH patient" in out
    text = (tmp_path / "out" / "manifest.csv").read_text()
    assert SECRET not in text and NAME[:8] not in text


def test_boxes_to_masks(tmp_path):
    assert prepare(tree(tmp_path / "raw"), tmp_path / "out", "--boxes", "masks") == 0
    manifest = Manifest.read(tmp_path / "out")
    mask = np.zeros((16, 16), np.uint8)
    mask[3:8, 2:6] = 1
    mask[0:2, 10:16] = 1
    np.testing.assert_array_equal(read_mask(manifest[1].masks[0]), mask)
    assert not read_mask(manifest[0].masks[0]).any() and read_mask(manifest[4].masks[0]).all()


def test_without_the_classes(tmp_path):
    assert prepare(tree(tmp_path / "raw", kinds=None), tmp_path / "out") == 0
    assert Manifest.read(tmp_path / "out").info.classes == ("lung_opacity",)


def test_patients_of_nih(tmp_path, capsys):
    root = tree(tmp_path / "raw")
    entries = [{"subset_img_id": NAME.format(i), "img_id": f"{i // 2:08d}_{i:03d}.png", "SOPInstanceUID": "1.2"} for i in range(6)]
    (tmp_path / "map.json").write_text(json.dumps(entries))
    assert prepare(root, tmp_path / "out", "--nih-mapping", str(tmp_path / "map.json")) == 0
    manifest = Manifest.read(tmp_path / "out")
    subjects = manifest.column("subject")
    assert len(set(subjects)) == 3 and subjects[0] == subjects[1] and "NIH patient" not in capsys.readouterr().out
    assert manifest[5].origin["nih_chestxray14"] == "00000002_005.png"
    for text, said in ((json.dumps(entries[:5]), "no entry for some image"), ("{", "no JSON"), ("[1]", "TypeError"), ('[{"img_id": 1}]', "no entry"), ("[" * 100_000, "too deep")):
        (tmp_path / "map.json").write_text(text)
        assert prepare(root, tmp_path / "out", "--nih-mapping", str(tmp_path / "map.json")) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ("0,,,,,2", "column 'Target': found no 0 or 1"),
        ("0,,,,,1", "found Target 1 without a box"),
        ("0,1,1,1,1,0", "found Target 0 with a box"),
        ("0,1,1,x,1,1", "found no box"),
        ("0,1,1,,1,1", "found no box"),
        ("0,1,1,0,1,1", "found no box"),
        ("0,1,1,nan,1,1", "found no box"),
        ("1,,,,,0", "column 'Target': found 1, expected 0, as in row 2 of the same image"),
        ("0,10,1,8,1,1", "found a box up to x = 18, y = 2; expected one inside 16 x 16 pixels"),
    ],
)
def test_bad_rows(tmp_path, capsys, row, match):
    assert prepare(tree(tmp_path / "raw", [row, *ROWS[1:]], None), tmp_path / "out", "--boxes", "masks") == 2
    err = capsys.readouterr().err
    assert match in err and "row 2" in err and "stage_2_train_labels.csv" in err


@pytest.mark.parametrize(
    ("kinds", "match"),
    [
        (["Sick", *KINDS[1:]], "found another class"),
        (["Lung Opacity", *KINDS[1:]], "contradicts"),
        (KINDS[:-1], "its patientId has no row here"),
    ],
)
def test_bad_classes(tmp_path, capsys, kinds, match):
    assert prepare(tree(tmp_path / "raw", kinds=kinds), tmp_path / "out") == 2
    assert match in (err := capsys.readouterr().err) and "stage_2_detailed_class_info.csv" in err


def test_missing_images(tmp_path, capsys):
    root = tree(tmp_path / "raw", images=4)
    assert prepare(root, tmp_path / "out") == 2
    assert "2 rows, first row 7: column 'patientId': found no DICOM picture" in capsys.readouterr().err
    assert prepare(root, tmp_path / "out", "--skip-missing") == 0
    assert len(Manifest.read(tmp_path / "out")) == 4

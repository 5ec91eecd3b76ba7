"""`synthrad prepare candid` on a tiny tree in the layout that public programs read."""

import csv

import numpy as np
import pytest
from tiny_dicom import SECRET, square, write

from synthrad.__main__ import main
from synthrad.data.images import read_mask
from synthrad.records import Manifest

UID = "1.4.435.0945{}.7.695.5.6026509150.6747477954.924906"
SPLIT = ("--fractions", "0.5", "0.25", "0", "0.25", "--skip-near-copies")
REPORTS = [  # image, run lengths, patient
    (0, "1 2", 11), (0, "20 1", 11), (1, "-1", 11), (2, "-1", 12), (3, "0 256", 13), (4, "-1", 14), (5, "-1", 15),
]


def table(path, header, rows):
    with open(path, "w", newline="") as f:
        csv.writer(f).writerows([header, *rows])


def tree(root, reports=REPORTS, tubes=((2, "5 5"), (4, "-1"), (9, "1 1")), ribs=((1, "3 1"), (1, "8 1")), ribs_name="Rib_fracture_mask_rle.csv"):
    root.mkdir(exist_ok=True)
    rows = [(UID.format(i), f"1.9.{i}", rle, f'Lines of a "report",\n{SECRET} {i}', f"P{p:05d}_2015-01-0{i + 1}") for i, rle, p in reports]
    table(root / "Pneumothorax_reports.csv", ("SOPInstanceUID", "StudyInstanceUID", "EncodedPixels", "Report", "filename"), rows)
    table(root / "chest_tube.csv", ("anon_SOPUID", "annotation_ref", "mask_rle"), [(UID.format(i), "x", rle) for i, rle in tubes])
    table(root / ribs_name, ("anon_SOPUID", "annotation_ref", "mask_rle"), [(UID.format(i), "x", rle) for i, rle in ribs])
    for i in range(6):
        write(root / "dataset" / UID.format(i), square(bits=8, seed=i), PatientID=f"{SECRET}{i}", PatientSex="M")
    write(root / "dataset" / UID.format(8), square(bits=8, seed=8))  # without a row
    return root


def prepare(root, out, *flags):
    return main(["prepare", "candid", str(root), str(out), *SPLIT, *flags])


def test_findings(tmp_path, capsys):
    assert prepare(tree(tmp_path / "raw"), tmp_path / "out", "--attributes", "sex") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.classes == ("pneumothorax", "rib_fracture", "chest_tube") == tuple(manifest.info.layers)
    assert [r.labels for r in manifest] == [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0), (0, 0, 0), (0, 0, 0)]
    mask = np.zeros(256, np.uint8)
    mask[[1, 2, 20]] = 1
    np.testing.assert_array_equal(read_mask(manifest[0].masks[0]), mask.reshape(16, 16).T)
    assert read_mask(manifest[1].masks[1]).sum() == 2 and read_mask(manifest[2].masks[2]).sum() == 5
    assert manifest[0].subject == manifest[1].subject and len(set(manifest.column("subject"))) == 5
    out = capsys.readouterr().out
    assert "1 image(s) of chest_tube.csv are not in Pneumothorax_reports.csv" in out
    text = (tmp_path / "out" / "manifest.csv").read_text() + out
    for trace in (SECRET, "P00011", "2015-01", UID.format(0)):
        assert trace not in text


def test_reports_by_option_only(tmp_path, capsys):
    assert prepare(tree(tmp_path / "raw"), tmp_path / "out", "--reports") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest[0].attributes["report"] == f'Lines of a "report", {SECRET} 0'
    assert "may tell who a patient is" in capsys.readouterr().out


def test_unlisted_images_may_be_unknown(tmp_path):
    assert prepare(tree(tmp_path / "raw"), tmp_path / "out", "--unlisted", "unknown", "--findings", "pneumothorax", "chest_tube") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert [r.labels for r in manifest] == [(1, None), (0, None), (0, 1), (1, None), (0, 0), (0, None)]
    assert manifest[0].masks[1] is None and manifest[4].masks[1] is not None


def test_one_finding_needs_one_table(tmp_path):
    root = tree(tmp_path / "raw", ribs_name="acute_rib_fracture.csv")
    assert prepare(root, tmp_path / "out") == 0
    (root / "chest_tube.csv").unlink()
    assert prepare(root, tmp_path / "out", "--findings", "pneumothorax") == 0
    assert Manifest.read(tmp_path / "out").info.layers == {"pneumothorax": ("pneumothorax",)}  # as prepare siim has it


def test_an_image_of_two_patients_is_left_out(tmp_path, capsys):
    assert prepare(tree(tmp_path / "raw", [*REPORTS, (5, "-1", 99)]), tmp_path / "out") == 0
    assert len(Manifest.read(tmp_path / "out")) == 5
    assert "1 image(s) that the table gives to two patients" in capsys.readouterr().out


def test_absolute_run_lengths(tmp_path):
    reports = [(i, "2 2" if i == 0 else "-1", i) for i in range(6)]
    assert prepare(tree(tmp_path / "raw", reports, ((2, "5 5"),), ((1, "3 1"),)), tmp_path / "out", "--run-lengths", "absolute") == 0
    assert np.flatnonzero(read_mask(Manifest.read(tmp_path / "out")[0].masks[0]).T).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"reports": [*REPORTS, (1, "1 1", 11)]}, "row 6, column 'EncodedPixels': found -1, which says none, and run lengths in row 16"),
        ({"reports": [*REPORTS, (7, "-1", 11)]}, "row 16, column 'SOPInstanceUID': found no DICOM picture"),
        ({"ribs": ((1, "300 1"),)}, "Rib_fracture_mask_rle.csv: row 2, column 'mask_rle': found runs that leave the picture"),
        ({"tubes": ((1, "1 1"), (1, "-1"))}, "chest_tube.csv: row 3, column 'mask_rle': found -1"),
    ],
)
def test_bad_rows(tmp_path, capsys, changes, match):
    assert prepare(tree(tmp_path / "raw", **changes), tmp_path / "out") == 2
    assert match in capsys.readouterr().err and not (tmp_path / "out" / "dataset.yaml").exists()


def test_blank_names(tmp_path, capsys):
    root = tree(tmp_path / "raw")
    path = root / "Pneumothorax_reports.csv"
    path.write_text(path.read_text().replace("P00015_2015-01-06", "_2015"))
    assert prepare(root, tmp_path / "out") == 2
    assert "'filename': found a blank, expected an image and its P<patient>_<date>" in capsys.readouterr().err

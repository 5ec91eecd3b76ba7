"""`synthrad prepare siim` on a tiny tree in the published layout."""

import io

import numpy as np
import pytest
from PIL import Image
from tiny_dicom import JPEG, SECRET, dataset, encapsulated, write

from synthrad.__main__ import main
from synthrad.data.images import read_image, read_mask
from synthrad.records import Manifest

UID = "1.2.276.0.7230010.3.1.4.8323329.{}.1517875166.87"
SPLIT = ("--fractions", "0.5", "0.25", "0", "0.25", "--skip-near-copies")
ROWS = ["0,1 2 13 2", "0,30 1", "1,-1", "2,0 256", "3,-1", "4,-1", "5,255 1"]  # image, run lengths


def picture(seed):
    return np.add.outer(np.arange(16) * 3, np.arange(16) * 2 + seed).astype(np.uint8)


def tree(root, rows=ROWS, images=7, **tags):
    """The challenge's folders: JPEG in DICOM under study and series, a table with a blank before the name of its second column."""
    root.mkdir(exist_ok=True)
    (root / "train-rle.csv").write_text("ImageId, EncodedPixels\n" + "".join(f"{UID.format(r.split(',')[0])}, {r.split(',')[1]}\n" for r in rows))
    for i in range(images):  # the last has no row
        out = io.BytesIO()
        Image.fromarray(picture(i)).save(out, "JPEG", quality=95)
        made = encapsulated(dataset(picture(i), PatientID=f"{SECRET}{i // 2}", **({"PatientAge": "051Y", "PatientSex": "F"} | tags)), out.getvalue(), JPEG)
        path = root / "dicom-images-train" / f"study{i}" / f"series{i}" / f"{UID.format(i)}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save_as(path)
    return root


def prepare(root, out, *flags):
    return main(["prepare", "siim", str(root), str(out), *SPLIT, *flags])


def test_regions_become_one_mask(tmp_path, capsys):
    assert prepare(tree(tmp_path / "raw"), tmp_path / "out", "--attributes", "sex", "age") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert len(manifest) == 6 and [r.labels for r in manifest] == [(1,), (0,), (1,), (0,), (0,), (1,)]
    assert manifest.info.layers == {"pneumothorax": ("pneumothorax",)} and manifest.info.id == "siim_acr_pneumothorax"
    mask = np.zeros(256, np.uint8)
    mask[[1, 2, 16, 17, 30]] = 1  # relative: 13 pixels after the end of the first run; rows of one image are united
    np.testing.assert_array_equal(read_mask(manifest[0].masks[0]), mask.reshape(16, 16).T)
    assert not read_mask(manifest[1].masks[0]).any() and read_mask(manifest[2].masks[0]).all()
    assert np.argwhere(read_mask(manifest[5].masks[0])).tolist() == [[15, 15]]
    assert manifest[0].areas == {"pneumothorax/pneumothorax": 5 / 256}
    assert np.abs(read_image(manifest[3].channels[0]).astype(int) - picture(3)).max() <= 4
    assert manifest[0].subject == manifest[1].subject != manifest[2].subject  # by PatientID
    assert dict(manifest[0].attributes) == {"sex": "F", "age": "51"}
    text = (tmp_path / "out" / "manifest.csv").read_text() + capsys.readouterr().out
    assert SECRET not in text and UID.format(0) not in text


def test_images_without_a_row(tmp_path, capsys):
    assert prepare(tree(tmp_path / "raw"), tmp_path / "out", "--unlabelled") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert len(manifest) == 7 and manifest[6].labels == (None,) and manifest[6].masks == (None,)
    assert "1 images without a row have no label" in capsys.readouterr().out


def test_rows_without_an_image(tmp_path, capsys):
    root = tree(tmp_path / "raw", images=5)
    assert prepare(root, tmp_path / "out") == 2
    assert "row 8, column 'ImageId': found no DICOM picture of that name" in capsys.readouterr().err
    assert prepare(root, tmp_path / "out", "--skip-missing") == 0
    assert len(Manifest.read(tmp_path / "out")) == 5 and "left out: 1 of 6 listed pictures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (["0,1 2", "0,-1"], "row 3, column 'EncodedPixels': found -1, which says none, and run lengths in row 2"),
        (["0,1 2", "1,250 7"], "row 3, column 'EncodedPixels': found runs that leave the picture; expected relative run lengths of 16 x 16"),
        (["0,1 2 3"], "row 2, column 'EncodedPixels': found run lengths that are no pairs"),
        (["0,"], "row 2, column 'EncodedPixels': found run lengths that are no pairs"),
    ],
)
def test_bad_rows(tmp_path, capsys, rows, match):
    assert prepare(tree(tmp_path / "raw", rows, images=2), tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert match in err and "train-rle.csv" in err and not (tmp_path / "out" / "dataset.yaml").exists()


def test_the_table(tmp_path, capsys):
    root = tree(tmp_path / "raw")
    (root / "train-rle.csv").rename(root / "stage_2_train.csv")
    assert prepare(root, tmp_path / "out") == 0
    (root / "train-rle.csv").write_text("ImageId,Pixels\na,b\n")
    assert prepare(root, tmp_path / "out") == 2
    assert "one train-rle.csv or stage_2_train.csv" in capsys.readouterr().err
    assert prepare(root, tmp_path / "out", "--annotations", str(root / "train-rle.csv")) == 2
    assert "column 'EncodedPixels': missing; the table has 'ImageId', 'Pixels'" in capsys.readouterr().err
    assert prepare(tmp_path / "raw" / "dicom-images-train", tmp_path / "out") == 2
    assert "no such table" in capsys.readouterr().err


def test_names_are_unique_and_files_inside(tmp_path, capsys):
    root = tree(tmp_path / "raw")
    write(root / "again" / f"{UID.format(0)}.dcm", picture(0))
    assert prepare(root, tmp_path / "out") == 2
    assert "row 2, column 'ImageId': found two files of that name" in capsys.readouterr().err
    root = tree(tmp_path / "other", rows=["0,-1"], images=1)
    write(tmp_path / "secret.dcm", picture(0))
    (root / "train-rle.csv").write_text("ImageId,EncodedPixels\n../secret,-1\n/etc/passwd,-1\n")
    assert prepare(root, tmp_path / "out") == 2
    assert "2 rows, first row 2: column 'ImageId': found no DICOM picture" in capsys.readouterr().err


def test_published_files_are_silent_on_burned_in_text(tmp_path, capsys):
    root = tree(tmp_path / "raw", BurnedInAnnotation=None)
    assert prepare(root, tmp_path / "out") == 2
    assert "6 times" in (err := capsys.readouterr().err) and "--allow-unmarked" in err
    assert prepare(root, tmp_path / "out", "--allow-unmarked") == 0

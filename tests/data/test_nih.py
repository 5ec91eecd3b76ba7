import csv

import numpy as np
import pytest
from PIL import Image

from synthrad.__main__ import main
from synthrad.data.readers.nih import CLASSES
from synthrad.records import Manifest

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
LABELS = ["No Finding", "Effusion|Infiltration", "Cardiomegaly", "Pleural_Thickening|Effusion|Mass"]
AGES = ["57", "058Y", "011M", "414", ""]


def build(root, patients=12, header=HEADER):
    """The published tree: images_001/images ..., lines that end with a comma, two lists, boxes."""
    root.mkdir()
    rng, lines, lists, k = np.random.default_rng(0), [header], ([], []), 0
    for p in range(1, patients + 1):
        for i in range(2):
            name = f"{p:08d}_{i:03d}.png"
            folder = root / f"images_{1 + p % 2:03d}" / "images"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 255, (16, 16, 4 if p % 2 else 3)).astype(np.uint8)  # RGB and RGBA, as some of the source
            Image.fromarray(pixels).save(folder / name)
            lines.append(f"{name},{LABELS[k % 4]},{i},{p},{AGES[k % 5]},{'MF'[p % 2]},{'PA' if i else 'AP'},2682,2749,0.143,0.143,")
            lists[p > patients - 3].append(name)
            k += 1
    (root / "Data_Entry_2017.csv").write_text("\n".join(lines) + "\n")
    (root / "train_val_list.txt").write_text("\n".join(lists[0]) + "\n")
    (root / "test_list.txt").write_text("\n".join(lists[1]) + "\n")
    (root / "BBox_List_2017.csv").write_text(
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
        "00000001_001.png,Infiltrate,256.5,512.0,256.0,128.0,,,\n"
        "00000001_001.png,Mass,0,0,64,64,,,\n"
        "00000002_000.png,Cardiomegaly,512,512,512,512,,,\n")
    return root


def prepare(root, out, *flags):
    return main(["prepare", "nih", str(root), str(out), "--skip-near-copies", *flags])


def test_labels_ages_and_patients(tmp_path, capsys):
    build(tmp_path / "nih")
    assert prepare(tmp_path / "nih", tmp_path / "out", "--age-bands", "50") == 0
    assert "5 ages are none" in capsys.readouterr().out
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.classes == CLASSES and manifest.info.id == "nih_chestxray14" and len(manifest) == 24
    found = {r.channels[0].stem: r for r in manifest}
    assert [c for c, v in zip(CLASSES, found["00000001_001"].labels, strict=True) if v] == ["Effusion", "Infiltration"]
    assert [c for c, v in zip(CLASSES, found["00000001_000"].labels, strict=True) if v] == ["No_Finding"]
    assert {r.subject for r in manifest} == {str(p) for p in range(1, 13)}
    assert found["00000001_000"].attributes == {"sex": "F", "age": "57", "age_band": "50+", "view": "AP", "follow_up": "0"}
    assert found["00000001_001"].attributes["age"] == "58" and found["00000002_000"].attributes["age"] == "0"
    assert "age" not in found["00000002_001"].attributes and "age_band" not in found["00000003_000"].attributes
    assert (manifest.table.groupby("subject")["split"].nunique() == 1).all()


def test_the_table_of_2020_and_one_folder_of_images(tmp_path):
    root = build(tmp_path / "nih", header=HEADER.replace("Gender", "Sex"))
    (root / "Data_Entry_2017.csv").rename(root / "Data_Entry_2017_v2020.csv")
    (root / "images").mkdir()
    for path in list(root.glob("images_*/images/*.png")):
        path.rename(root / "images" / path.name)
    assert prepare(root, tmp_path / "out") == 0
    assert {r.attributes["sex"] for r in Manifest.read(tmp_path / "out")} == {"M", "F"}


def test_their_test_list_is_test(tmp_path, capsys):
    root = build(tmp_path / "nih")
    assert prepare(root, tmp_path / "out", "--official-split") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert {r.subject for r in manifest.where(split="test")} == {"10", "11", "12"} and len(manifest.where(split="test")) == 6
    assert set(manifest.column("split")) == {"train", "val", "audit", "test"}
    (root / "train_val_list.txt").write_text((root / "train_val_list.txt").read_text().replace("00000001_000.png\n", ""))
    text = (root / "test_list.txt").read_text()
    (root / "test_list.txt").write_text(text.replace("00000010_000.png\n", ""))
    assert prepare(root, tmp_path / "out", "--official-split") == 2
    said = capsys.readouterr().err
    assert "row 2, 00000001_000.png: in neither" in said and "its patient 10 is in train_val_list.txt" in said
    (root / "test_list.txt").unlink()
    assert prepare(root, tmp_path / "out", "--official-split") == 2
    assert "0 files test_list.txt" in capsys.readouterr().err


def plant(root, patient, other):
    """The first picture of a patient, a little brighter, as that of another one."""
    paths = {p.name: p for p in root.rglob("*.png")}
    pixels = np.array(Image.open(paths[f"{patient:08d}_000.png"]).convert("L"))
    Image.fromarray((pixels * 0.9 + 5).astype(np.uint8)).save(paths[f"{other:08d}_000.png"])


def test_near_copies_share_a_split_that_synthrad_chooses(tmp_path, capsys):
    root = build(tmp_path / "nih")
    for patient in range(1, 6):
        plant(root, patient, 13 - patient)
    words = ["prepare", "nih", str(root), str(tmp_path / "out")]
    for seed in range(3):
        assert main([*words, "--seed", str(seed)]) == 0
        assert "5 pair(s) of near copies under two subjects, each in one split" in capsys.readouterr().out


def test_a_near_copy_of_a_published_test_image_is_refused_allowed_or_dropped(tmp_path, capsys):
    root = build(tmp_path / "nih")
    plant(root, 11, 2)
    words = ["prepare", "nih", str(root), str(tmp_path / "out"), "--official-split", "--boxes"]
    assert main(words) == 2 and "--drop-near-copies" in capsys.readouterr().err
    assert main([*words, "--allow-near-copies"]) == 0 and "1 of them cross splits" in capsys.readouterr().out
    assert len(Manifest.read(tmp_path / "out")) == 24
    assert main([*words, "--drop-near-copies"]) == 0
    said = capsys.readouterr().out
    assert "1 row(s) left out" in said and "row 4, subject '2' in" in said and "subject '11' in test" in said and "near copies under two subjects: none" in said
    manifest = Manifest.read(tmp_path / "out")
    assert len(manifest) == 23 and len(manifest.where(split="test")) == 6
    assert "00000002_000.png" not in {r.channels[0].name for r in manifest}
    masks = {p.name for p in (tmp_path / "out" / "masks").rglob("*.png")}
    assert "00000001_001.png" in masks and "00000002_000.png" not in masks


def test_boxes_become_masks_of_the_stored_size(tmp_path):
    root = build(tmp_path / "nih")
    assert prepare(root, tmp_path / "out", "--boxes") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.layers == {f"{f}_box": (f,) for f in ("Cardiomegaly", "Infiltration", "Mass")}
    found = {r.channels[0].stem: r for r in manifest}
    cardiomegaly, infiltration, mass = found["00000001_001"].masks
    expected = np.zeros((16, 16), np.uint8)
    expected[8:10, 4:8] = 1
    assert (np.array(Image.open(infiltration)) == expected).all()
    assert not np.array(Image.open(cardiomegaly)).any()  # its label is 0
    assert np.array(Image.open(mass)).sum() == 1
    assert found["00000002_000"].areas == {"Cardiomegaly_box/Cardiomegaly": 0.25, "Infiltration_box/Infiltration": 0, "Mass_box/Mass": 0}
    assert found["00000003_000"].masks == (None, None, None) and found["00000003_000"].areas == {}


@pytest.mark.parametrize(("old", "new", "words"), [
    (",No Finding,0,1,", ",Efusion,0,1,", ["row 2, column 'Finding Labels': found 'Efusion'", "did you mean Effusion"]),
    (",No Finding,0,1,", ",No Finding|Mass,0,1,", ["No Finding alone"]),
    (",No Finding,0,1,", ",No Finding,0,2,", ["row 2, column 'Patient ID': found '2' for 00000001_000.png"]),
    ("Patient Gender", "Gender", ["column 'Patient Gender': missing"]),
    ("Follow-up #", "Patient ID", ["column 'Follow-up #': missing", "column 'Patient ID': twice"]),
    ("00000001_000.png", "00000001_007.png", ["found 0 files", "--skip-missing"]),
])
def test_bad_input_is_named(tmp_path, capsys, old, new, words):
    root = build(tmp_path / "nih")
    text = (root / "Data_Entry_2017.csv").read_text()
    assert old in text
    (root / "Data_Entry_2017.csv").write_text(text.replace(old, new, 1))
    assert prepare(root, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert all(w in said for w in words), said


def test_missing_parts_are_named(tmp_path, capsys):
    root = build(tmp_path / "nih")
    for path in (root / "images_001" / "images").iterdir():
        path.unlink()
    assert prepare(root, tmp_path / "out", "--skip-missing") == 0
    assert "--skip-missing: 12 of 24 rows" in capsys.readouterr().out and len(Manifest.read(tmp_path / "out")) == 12
    (root / "BBox_List_2017.csv").write_text("Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000001_001.png,Mass,1000,0,64,64,,,\n")
    assert prepare(root, tmp_path / "out", "--boxes", "--skip-missing") == 2
    assert "row 2: found Mass 1000 0 64 64" in capsys.readouterr().err
    (root / "Data_Entry_2017_v2020.csv").write_text("x")
    assert prepare(root, tmp_path / "out") == 2
    assert "--entries" in capsys.readouterr().err


def test_the_sample(real_data, tmp_path):
    source = real_data / "original_layouts" / "nih_chestxray14"
    assert prepare(source, tmp_path / "out", "--fractions", "0.5", "0.2", "0", "0.3", "--age-bands", "60") == 0
    manifest = Manifest.read(tmp_path / "out")
    with open(source / "Data_Entry_2017.csv") as f:
        rows = {r[0]: r for r in csv.reader(f)}
    assert len(manifest) == len(rows) - 1
    for record in manifest:
        row = rows[record.channels[0].name]
        assert {c for c, v in zip(CLASSES, record.labels, strict=True) if v} == {n.replace(" ", "_") for n in row[1].split("|")}
        assert (record.subject, record.attributes["age"], record.attributes["view"]) == (row[3], row[4], row[6])

import csv
import json

import numpy as np
import pytest
from PIL import Image

from synthrad.__main__ import main
from synthrad.data.readers.ieee8023 import findings, level_labels
from synthrad.records import Manifest

HEADER = ["patientid", "offset", "sex", "age", "finding", "survival", "intubated", "intubation_present", "went_icu", "in_icu",
          "needed_supplemental_O2", "extubated", "temperature", "pO2_saturation", "leukocyte_count", "neutrophil_count",
          "lymphocyte_count", "view", "modality", "date", "location", "folder", "filename", "doi", "url", "license", "clinical_notes",
          "other_notes", ""]
FINDINGS = ["Pneumonia/Viral/COVID-19", "Pneumonia", "No Finding", "Pneumonia/Bacterial", "todo", "COVID-19"]


def build(root):
    (root / "images").mkdir(parents=True)
    rng, rows = np.random.default_rng(0), []
    for k in range(18):
        name = f"case {k}.png" if k % 3 else f"case {k}.jpg"
        Image.fromarray(rng.integers(0, 255, (20, 30)).astype(np.uint8)).save(root / "images" / name)
        values = {"patientid": str(k // 2), "sex": "MF"[k % 2], "age": "old" if k == 5 else str(40 + k), "finding": FINDINGS[k % 6],
                  "survival": "Y", "modality": "X-ray", "view": ["PA", "AP Supine", "L"][k % 3], "folder": "images", "filename": name,
                  "license": "CC BY-NC-SA" if k else "", "clinical_notes": "fever, cough"}
        rows.append([values.get(c, "") for c in HEADER])
    for name in ("slice.jpg", "scan.nii.gz"):
        rows.append([{"patientid": "90", "modality": "CT", "view": "Axial", "folder": "volumes", "filename": name}.get(c, "") for c in HEADER])
    with open(root / "metadata.csv", "w", newline="") as f:
        csv.writer(f).writerows([HEADER, *rows])
    return root


def prepare(root, out, *flags):
    return main(["prepare", "ieee8023", str(root), str(out), "--skip-near-copies", *flags])


def test_every_level_of_a_finding_is_a_label():
    rows, names = findings(["Pneumonia/Viral/COVID-19", "Pneumonia", "COVID-19, ARDS", "todo", "Pneumonia/Bacterial"])
    assert list(names.values()) == ["ARDS", "Pneumonia", "Bacterial", "Viral", "COVID-19"]
    assert rows[2] == [("Pneumonia", "Viral", "COVID-19"), ("ARDS",)] and rows[3] == []
    told = [level_labels(r, list(names)) for r in rows]
    nan = np.nan
    expected = [[0, 1, 0, 1, 1], [0, 1, nan, nan, nan], [1, 1, 0, 1, 1], [nan] * 5, [0, 1, 1, 0, 0]]
    assert np.array_equal(told, expected, equal_nan=True)
    _, twice = findings(["Fungal/Other", "Viral/Other"])
    assert set(twice.values()) == {"Fungal", "Viral", "Fungal_Other", "Viral_Other"}


def test_x_rays_of_a_view_with_their_facts(tmp_path, capsys):
    build(tmp_path / "covid")
    assert prepare(tmp_path / "covid", tmp_path / "out", "--age-bands", "50") == 0
    said = capsys.readouterr().out
    assert "modality CT: 2 of 20 rows left out" in said and "--view frontal: 6 of 18 X-rays left out" in said
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.classes == ("Pneumonia", "Bacterial", "Viral", "COVID-19") and len(manifest) == 12
    found = {r.channels[0].name: r for r in manifest}
    assert found["case 0.jpg"].labels == (1, 0, 1, 1) and found["case 1.png"].labels == (1, None, None, None)
    assert found["case 4.png"].labels == (None,) * 4 and found["case 3.jpg"].labels == (1, 1, 0, 0)
    assert found["case 1.png"].attributes == {"sex": "F", "age": "41", "age_band": "<50", "view": "AP Supine", "survival": "Y",
                                              "license": "CC BY-NC-SA"}
    assert "license" not in found["case 0.jpg"].attributes and found["case 3.jpg"].subject == "1"
    assert prepare(tmp_path / "covid", tmp_path / "side", "--view", "lateral") == 0
    assert "1 ages are no number" in capsys.readouterr().out 
    side = Manifest.read(tmp_path / "side")
    assert len(side) == 6 and side[0].labels == (0, 1) and side.info.classes == ("COVID-19", "No_Finding")


def test_lungs_of_three_sources(tmp_path):
    root = build(tmp_path / "covid")
    outline = [10, 5, 19, 5, 19, 14, 10, 14]
    data = {"images": [{"id": 7, "file_name": "case 0.jpg", "width": 30, "height": 20}], "categories": [{"id": 0, "name": "Lung"}, {"id": 1, "name": "Ignore"}],
            "annotations": [{"image_id": 7, "category_id": 0, "segmentation": [outline]},
                            {"image_id": 7, "category_id": 1, "segmentation": [[0, 0, 5, 0, 5, 5]]}]}
    (tmp_path / "coco.json").write_text(json.dumps(data))
    crops = tmp_path / "gb"
    (crops / "masks").mkdir(parents=True)
    rows = ["#,Template Name,Filename,Mask,Resolution,Top,Left,Width,Height"]
    for k, (side, left) in enumerate([("Left Lung", 20), ("Right Lung", 3), ("Airways", 0)]):
        pixels = np.zeros((8, 4, 4), np.uint8)
        pixels[..., 3], pixels[2:, :, 0] = 255, 187
        Image.fromarray(pixels).save(crops / "masks" / f"{k}.png")
        rows += [f"{k},{side},{n},masks/{k}.png,30x20,6,{left},4,8" for n in ("case 1.png", "case 0.jpg")]
    rows += ["9,Left Lung,case 6.jpg,masks/0.png,30x20,6,1,4,8", "9,Right Lung,case 6.jpg,,30x20,0,0,30,20"]  # one lung alone
    (crops / "structure.csv").write_text("\n".join(rows))
    vae = root / "annotations" / "lungVAE-masks"
    vae.mkdir(parents=True)
    for k in (0, 6):
        Image.fromarray(np.full((20, 30), 255, np.uint8)).save(vae / f"case {k}_mask.png")
    flags = ["--v7", str(tmp_path / "coco.json"), "--generalblockchain", str(crops), "--lungvae"]
    assert prepare(root, tmp_path / "out", *flags) == 0
    found = {r.channels[0].name: r for r in Manifest.read(tmp_path / "out")}
    assert {n: r.attributes.get("mask_source") for n, r in found.items() if r.masks[0]} == {
        "case 0.jpg": "v7", "case 1.png": "generalblockchain", "case 6.jpg": "lungvae"}
    expected = np.zeros((20, 30), np.uint8)
    expected[5:15, 10:20] = 1
    assert (np.array(Image.open(found["case 0.jpg"].masks[0])) == expected).all()
    expected[:] = 0
    expected[8:14, 20:24] = expected[8:14, 3:7] = 1
    assert (np.array(Image.open(found["case 1.png"].masks[0])) == expected).all()
    assert found["case 6.jpg"].areas == {"lung/lung": 1.0}


@pytest.mark.parametrize(("change", "words"), [
    (lambda t: t.replace("\n0,,M", "\n,,M", 1), "row 2, found patientid ''"),
    (lambda t: t.replace("images,case 0.jpg", "images,none.jpg"), "none.jpg"),
    (lambda t: t.replace("images,case 0.jpg", "images/../..,case 0.jpg"), "row 2: found the path"),
    (lambda t: t.replace(",finding,", ",diagnosis,"), "column 'finding': missing"),
    (lambda t: t.replace("fever, cough", 'fever"'), "line 2"),
])
def test_bad_input_is_named(tmp_path, capsys, change, words):
    root = build(tmp_path / "covid")
    text = (root / "metadata.csv").read_text()
    assert change(text) != text
    (root / "metadata.csv").write_text(change(text))
    assert prepare(root, tmp_path / "out") == 2
    assert words in capsys.readouterr().err


def test_masks_of_another_size_are_refused(tmp_path, capsys):
    root = build(tmp_path / "covid")
    data = {"images": [{"id": 7, "file_name": "case 0.jpg", "width": 60, "height": 40}], "categories": [{"id": 0, "name": "Lung"}],
            "annotations": [{"image_id": 7, "category_id": 0, "segmentation": [[1, 1, 5, 1, 5, 5]]}]}
    (tmp_path / "coco.json").write_text(json.dumps(data))
    assert prepare(root, tmp_path / "out", "--v7", str(tmp_path / "coco.json")) == 2
    assert "row 2, " in (said := capsys.readouterr().err) and "60 x 40" in said and "30 x 20" in said
    (tmp_path / "coco.json").write_text("{}")
    assert prepare(root, tmp_path / "out", "--v7", str(tmp_path / "coco.json")) == 2
    assert "--v7" in capsys.readouterr().err
    assert prepare(root, tmp_path / "out", "--lungvae") == 2
    assert "lungVAE-masks" in capsys.readouterr().err


@pytest.mark.parametrize(("points", "words"), [
    ([31, 1, 60, 1, 60, 9], "wholly outside the picture"), ([-9, 1, -1, 1, -5, 9], "wholly outside the picture"), ([1, 1, 5, 1, 5], "is no outline"),
    ("rle", "is no outline"),
])
def test_outlines_that_show_no_lung_are_refused(tmp_path, capsys, points, words):
    root, good = build(tmp_path / "covid"), [1, 1, 5, 1, 5, 5]
    marks = [{"id": 3, "image_id": 7, "category_id": 0, "segmentation": {"counts": [1]} if points == "rle" else [good, points]}]
    data = {"images": [{"id": 7, "file_name": "case 0.jpg", "width": 30, "height": 20}], "categories": [{"id": 0, "name": "Lung"}], "annotations": marks}
    (tmp_path / "coco.json").write_text(json.dumps(data))
    assert prepare(root, tmp_path / "out", "--v7", str(tmp_path / "coco.json")) == 2
    assert words in (said := capsys.readouterr().err) and "coco.json" in said


def test_masks_that_links_lead_to_are_refused(tmp_path, capsys):
    root, other = build(tmp_path / "covid"), tmp_path / "other.png"
    Image.fromarray(np.full((20, 30), 255, np.uint8)).save(other)
    (root / "annotations" / "lungVAE-masks").mkdir(parents=True)
    (root / "annotations" / "lungVAE-masks" / "case 0_mask.png").symlink_to(other)
    assert prepare(root, tmp_path / "out", "--lungvae") == 2
    assert f"a link to {other}" in capsys.readouterr().err
    rows = ["#,Template Name,Filename,Mask,Resolution,Top,Left,Width,Height", *(f"1,{s},case 0.jpg,../other.png,30x20,0,0,30,20" for s in ("Left Lung", "Right Lung"))]
    (tmp_path / "gb").mkdir()
    (tmp_path / "gb" / "structure.csv").write_text("\n".join(rows))
    assert prepare(root, tmp_path / "out", "--generalblockchain", str(tmp_path / "gb")) == 2
    assert "a path with `..`" in (said := capsys.readouterr().err) and "structure.csv, row 2" in said


def test_the_sample_with_its_lungs(real_data, tmp_path):
    layouts = real_data / "original_layouts"
    flags = ["--v7", str(layouts / "v7_lungs" / "covid-only-coco.json"), "--generalblockchain", str(layouts / "generalblockchain_segmentations")]
    assert prepare(layouts / "ieee8023_covid_chestxray", tmp_path / "out", *flags, "--fractions", "0.6", "0.2", "0", "0.2") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert {r.attributes["mask_source"] for r in manifest} == {"v7", "generalblockchain"} and manifest.info.classes == ("ARDS", "COVID-19")
    data = json.loads((layouts / "v7_lungs" / "covid-only-coco.json").read_text())
    area = dict.fromkeys([a["image_id"] for a in data["annotations"]], 0.0)
    for mark in data["annotations"]:
        area[mark["image_id"]] += mark["area"]
    stated = {i["file_name"]: area[i["id"]] / i["width"] / i["height"] for i in data["images"]}
    for record in manifest:
        share = record.areas["lung/lung"]
        if record.attributes["mask_source"] == "v7":
            assert abs(share - stated[record.channels[0].name]) < 0.01
        else:  # pixels of the two crops
            assert abs(share - (125462 + 129085) / (790 * 631)) < 1e-9

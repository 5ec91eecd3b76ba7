import json

import numpy as np
from PIL import Image

from synthrad.__main__ import main
from synthrad.records import Manifest

NAMES = {1: "1234", 2: "12345678"}
DISEASES = ["Impacted", "Caries", "Periapical Lesion", "Deep Caries"]


def mark(image, quadrant, tooth, disease, box, number=1):
    x, y, w, h = box
    outline = [x, y, x + w - 1, y, x + w - 1, y + h - 1, x, y + h - 1]
    return {
        "id": number,
        "image_id": image,
        "category_id_1": quadrant,
        "category_id_2": tooth,
        "category_id_3": disease,
        "bbox": box,
        "segmentation": [outline[:6]],
        "iscrowd": 0,
    }


def build(root, marks, size=(40, 80), stated=None, images=4):
    """The published tree: a folder of x-rays beside a JSON, and two other JSON files without diseases."""
    folder = root / "training_data" / "quadrant-enumeration-disease"
    (folder / "xrays").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(images):
        Image.fromarray(rng.integers(0, 255, size).astype(np.uint8)).save(folder / "xrays" / f"train_{i}.png")
    height, width = stated or size
    data = {
        "images": [
            {"id": 10 + i, "file_name": f"train_{i}.png", "height": height, "width": width}
            for i in range(images)
        ],
        "annotations": marks,
    }
    for k in (1, 2):
        data[f"categories_{k}"] = [{"id": j, "name": n, "supercategory": n} for j, n in enumerate(NAMES[k])]
    data["categories_3"] = [{"id": j, "name": n} for j, n in enumerate(DISEASES)]
    (folder / "train_quadrant_enumeration_disease.json").write_text(json.dumps(data))
    other = root / "training_data" / "quadrant" / "train_quadrant.json"
    other.parent.mkdir()
    other.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    return folder


MARKS = [
    mark(10, 0, 7, 1, [4, 6, 20, 10], 1),
    mark(10, 0, 7, 3, [8, 8, 5, 4], 2),
    mark(11, 3, 0, 0, [50, 20, 10, 10], 3),
]


def prepare(tmp_path, *flags):
    return main(["prepare", "dentex", str(tmp_path / "dentex"), str(tmp_path / "out"), *flags])


def test_layers_labels_and_numbers(tmp_path):
    build(tmp_path / "dentex", MARKS)
    assert prepare(tmp_path, "--boxes") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.classes == ("impacted", "caries", "periapical_lesion", "deep_caries")
    assert len(manifest.info.layers["tooth"]) == 32 and manifest.info.layers["tooth"][7] == "18"
    rows = {r.subject: r for r in manifest}
    assert (
        rows["train_0"].labels == (0, 1, 0, 1)
        and rows["train_1"].labels == (1, 0, 0, 0)
        and rows["train_2"].labels == (0, 0, 0, 0)
    )
    tooth, abnormality = (np.array(Image.open(p)) for p in rows["train_0"].masks)
    expected = np.zeros((40, 80), np.uint8)
    expected[6:16, 4:24] = 8
    assert (tooth == expected).all()
    expected[6:16, 4:24], expected[8:12, 8:13] = 2, 4  # the small one stays on top of the large one
    assert (abnormality == expected).all()
    assert rows["train_1"].areas["tooth/41"] == 100 / 3200 and rows["train_3"].areas["tooth/41"] == 0


def test_outlines_are_drawn_unless_boxes_are_asked(tmp_path):
    build(tmp_path / "dentex", MARKS)
    assert prepare(tmp_path) == 0
    area = {r.subject: r for r in Manifest.read(tmp_path / "out")}["train_1"].areas["tooth/41"] * 3200
    assert 45 <= area <= 65  # a triangle: half the box


def test_the_json_of_larger_pictures_is_rescaled(tmp_path):
    double = [
        {**m, "bbox": [2 * v for v in m["bbox"]], "segmentation": [[2 * v for v in m["segmentation"][0]]]}
        for m in MARKS
    ]
    build(tmp_path / "dentex", double, stated=(80, 160))
    assert prepare(tmp_path) == 0
    area = {r.subject: r for r in Manifest.read(tmp_path / "out")}["train_1"].areas["tooth/41"] * 3200
    assert 40 <= area <= 75


def test_outlines_beyond_the_picture_ask_for_the_annotated_size(tmp_path, capsys):
    build(tmp_path / "dentex", [mark(10, 0, 0, 0, [100, 20, 30, 50])])
    assert prepare(tmp_path) == 2
    text = capsys.readouterr().err
    assert "train_0.png" in text and "--annotation-size" in text and "129 x 69" in text
    assert prepare(tmp_path, "--annotation-size", "160", "80", "--boxes") == 0
    mask = np.array(Image.open({r.subject: r for r in Manifest.read(tmp_path / "out")}["train_0"].masks[0]))
    rows, columns = np.nonzero(mask)
    assert (rows.min(), columns.min()) == (10, 50) and abs(columns.max() - 64) <= 1
    assert prepare(tmp_path, "--annotation-size", "100", "80") == 2


def test_faults_are_collected(tmp_path, capsys):
    folder = build(
        tmp_path / "dentex", [mark(10, 5, 0, 0, [1, 1, 9, 9], 71), mark(11, 0, 0, 9, [1, 1, 9, 9], 72)]
    )
    assert prepare(tmp_path) == 2
    text = capsys.readouterr().err
    assert "annotation 71" in text and "annotation 72" in text and "train_1.png" in text
    (folder / "xrays" / "train_2.png").unlink()
    assert prepare(tmp_path) == 2
    assert "'train_2.png'" in capsys.readouterr().err
    (folder / "train_quadrant_enumeration_disease.json").write_text("{")
    assert prepare(tmp_path, "--annotations", str(folder / "train_quadrant_enumeration_disease.json")) == 2
    assert "no JSON" in capsys.readouterr().err


def test_several_json_files_need_a_choice(tmp_path, capsys):
    folder = build(tmp_path / "dentex", MARKS)
    path = folder / "train_quadrant_enumeration_disease.json"
    (folder / "copy.json").write_text(path.read_text())
    assert prepare(tmp_path) == 2
    assert "--annotations" in capsys.readouterr().err
    assert prepare(tmp_path, "--annotations", str(path)) == 0


def test_the_sample_names_its_trap_and_is_read_with_a_size(real_data, tmp_path, capsys):
    source = str(real_data / "original_layouts" / "dentex_sample")
    flags = [source, str(tmp_path / "out"), "--fractions", "0.5", "0", "0", "0.5"]
    assert main(["prepare", "dentex", *flags]) == 2
    assert "--annotation-size" in capsys.readouterr().err
    assert main(["prepare", "dentex", *flags, "--annotation-size", "2950", "1316"]) == 0
    manifest = Manifest.read(tmp_path / "out")
    teeth = [
        {k.split("/")[1] for k, v in r.areas.items() if k.startswith("tooth/") and v > 0} for r in manifest
    ]
    marks = json.loads((real_data / "original_layouts/dentex_sample/annotations.json").read_text())[
        "annotations"
    ]
    for record, found in zip(manifest, teeth, strict=True):
        number = {"train_693": 19, "train_526": 417}[record.subject]
        assert found == {
            f"{m['category_id_1'] + 1}{m['category_id_2'] + 1}" for m in marks if m["image_id"] == number
        }


def test_teeth_without_diseases(real_data, tmp_path):
    assert (
        main(
            [
                "prepare",
                "dentex",
                str(real_data / "dental_teeth"),
                str(tmp_path / "out"),
                "--skip-near-copies",
            ]
        )
        == 0
    )
    manifest = Manifest.read(tmp_path / "out")
    assert len(manifest) == 360 and manifest.info.classes == () and list(manifest.info.layers) == ["tooth"]
    # the outlines were made from the pack's masks: they must cover the same pixels
    row = 5
    drawn = np.array(Image.open(manifest[row].masks[0]))
    source = np.array(Image.open(real_data / "dental_teeth" / "masks" / f"{manifest[row].subject}.png"))
    numbers = np.array([0, *map(int, manifest.info.layers["tooth"])])[drawn]
    assert ((numbers > 0) & (source > 0)).sum() / ((numbers > 0) | (source > 0)).sum() > 0.95
    assert (numbers == source).mean() > 0.97

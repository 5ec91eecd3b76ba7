import json
import shutil

import numpy as np
import pytest
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


def build_levels(root):
    """The published tree of all parts; train_0.png is another picture in each folder, but for one that is in two under two names."""
    folder = build(root, MARKS, images=8)
    rng = np.random.default_rng(1)

    def part(path, number, name="train"):
        (path / "xrays").mkdir(parents=True, exist_ok=True)
        for i in range(number):
            Image.fromarray(rng.integers(0, 255, (40, 80)).astype(np.uint8)).save(path / "xrays" / f"{name}_{i}.png")
        return [{"id": i, "file_name": f"{name}_{i}.png", "height": 40, "width": 80} for i in range(number)]

    training = root / "training_data"
    quadrants = {"images": part(training / "quadrant", 8), "annotations": [
        {"id": 1, "image_id": 3, "category_id": 0, "bbox": [40, 0, 40, 20], "segmentation": []}],
        "categories": [{"id": 0, "name": "2"}, {"id": 1, "name": "1"}, {"id": 2, "name": "3"}, {"id": 3, "name": "4"}]}
    (training / "quadrant" / "train_quadrant.json").write_text(json.dumps(quadrants))
    teeth = {"images": part(training / "quadrant_enumeration", 8),
             "annotations": [{k: v for k, v in mark(5, 0, t, 0, [10 * t, 5, 8, 10], t).items() if k != "category_id_3"} for t in range(8)]}
    teeth["categories_1"] = [{"id": j, "name": j + 1} for j in range(4)]  # integers, as published
    teeth["categories_2"] = [{"id": j, "name": str(j + 1)} for j in range(8)]
    (training / "quadrant_enumeration" / "train_quadrant_enumeration.json").write_text(json.dumps(teeth))
    shutil.copy(folder / "xrays" / "train_0.png", training / "quadrant_enumeration" / "xrays" / "train_5.png")
    part(training / "unlabelled", 4)
    (training / "unlabelled" / "xrays" / ".ipynb_checkpoints").mkdir()
    shutil.copy(training / "unlabelled" / "xrays" / "train_0.png", training / "unlabelled" / "xrays" / ".ipynb_checkpoints" / "x.png")
    data = json.loads((folder / "train_quadrant_enumeration_disease.json").read_text())
    data |= {"images": part(root / "validation_data" / "quadrant_enumeration_disease", 3, "val"), "annotations": [mark(1, 2, 2, 2, [4, 6, 9, 9])]}
    (root / "validation_triple.json").write_text(json.dumps(data))
    part(root / "test_data" / "disease", 2, "test")
    (root / "test_data" / "disease" / "label").mkdir()
    (root / "test_data" / "disease" / "label" / "test_0.json").write_text(json.dumps({"shapes": [{"label": "1-cekim-31", "points": []}]}))
    return root


def test_levels_become_layers_and_equal_pictures_one_row(tmp_path, capsys):
    build_levels(tmp_path / "dentex")
    levels = ["--levels", "quadrant", "enumeration", "diagnosis", "unlabelled"]
    assert prepare(tmp_path, *levels, "--boxes", "--skip-near-copies") == 0
    said = capsys.readouterr().out
    assert "diagnosis 11, enumeration 8, quadrant 8, unlabelled 4; 1 are of several, 0 twice" in said
    assert "2 image files belong to no level" in said
    manifest = Manifest.read(tmp_path / "out")
    assert list(manifest.info.layers) == ["quadrant", "tooth", "affected_tooth", "abnormality"] and len(manifest) == 30
    rows = {r.subject: r for r in manifest}
    both = rows["training_data_quadrant-enumeration-disease_xrays_train_0"]
    assert both.origin == {"level": "diagnosis,enumeration"} and both.labels == (0, 1, 0, 1)
    assert [m is not None for m in both.masks] == [False, True, True, True]
    assert {k for k, v in both.areas.items() if v and k.startswith("tooth/")} == {f"tooth/1{t}" for t in range(1, 9)}
    assert {k for k, v in both.areas.items() if v and k.startswith("affected")} == {"affected_tooth/18"}
    quadrant = rows["training_data_quadrant_xrays_train_3"]
    assert quadrant.labels == (None,) * 4 and quadrant.areas == {"quadrant/1": 0, "quadrant/2": 0.25, "quadrant/3": 0, "quadrant/4": 0}
    bare = rows["training_data_unlabelled_xrays_train_2"]
    assert bare.labels == (None,) * 4 and bare.masks == (None,) * 4 and bare.origin == {"level": "unlabelled"}
    assert rows["validation_data_quadrant_enumeration_disease_xrays_val_1"].labels == (0, 0, 1, 0)
    split = {level: set(manifest.column("split")[manifest.column("origin:level") == level]) for level in ("quadrant", "diagnosis")}
    assert all("train" in s and "test" in s for s in split.values())  # every level is in every large split


def test_the_published_validation_part_is_test(tmp_path):
    root = build_levels(tmp_path / "dentex")
    shutil.copy(root / "validation_data/quadrant_enumeration_disease/xrays/val_2.png", root / "training_data/quadrant/xrays/train_1.png")
    assert prepare(tmp_path, "--levels", "diagnosis", "quadrant", "--official-split", "--skip-near-copies") == 0
    manifest = Manifest.read(tmp_path / "out")
    test = manifest.where(split="test")
    assert {r.channels[0].name for r in test} == {"val_0.png", "val_1.png", "val_2.png"}
    assert {r.channels[0].name: r.origin["level"] for r in test}["val_2.png"] == "diagnosis,quadrant"
    assert set(manifest.column("split")) == {"train", "val", "audit", "test"} and len(manifest) == 18


def test_near_copies_between_levels_share_a_split_unless_one_is_published(tmp_path, capsys):
    training = build_levels(tmp_path / "dentex") / "training_data"
    shown = np.array(Image.open(training / "quadrant/xrays/train_2.png"))
    Image.fromarray(shown[:, ::-1]).save(training / "quadrant_enumeration/xrays/train_1.png")
    shown = np.array(Image.open(tmp_path / "dentex/validation_data/quadrant_enumeration_disease/xrays/val_0.png"))
    Image.fromarray(shown // 2 + 9).save(training / "quadrant/xrays/train_6.png")
    levels = ["--levels", "quadrant", "enumeration", "diagnosis"]
    assert prepare(tmp_path, *levels) == 0 and "2 pair(s) of near copies under two subjects, each in one split" in capsys.readouterr().out
    assert prepare(tmp_path, *levels, "--official-split") == 2 and "--drop-near-copies" in capsys.readouterr().err
    assert prepare(tmp_path, *levels, "--official-split", "--drop-near-copies") == 0
    said = capsys.readouterr().out
    assert "1 row(s) left out" in said and "1 pair(s) of near copies under two subjects, each in one split" in said
    assert "training_data_quadrant_xrays_train_6" not in Manifest.read(tmp_path / "out").column("subject")


@pytest.mark.parametrize(("flags", "words"), [
    (["--levels", "enumeration", "--annotations", "x.json"], "--annotations"),
    (["--official-split"], "--levels"),
    (["--levels", "enumeration"], "no annotations of enumeration"),
    (["--levels", "unlabelled"], "training_data/unlabelled/xrays"),
    (["--levels", "quadrant"], "annotation 1: found {'category_id': 9}"),
])
def test_levels_that_are_not_there_are_named(tmp_path, capsys, flags, words):
    root = build_levels(tmp_path / "dentex")
    shutil.rmtree(root / "training_data" / "quadrant_enumeration")
    shutil.rmtree(root / "training_data" / "unlabelled")
    path = root / "training_data" / "quadrant" / "train_quadrant.json"
    path.write_text(path.read_text().replace('"category_id": 0', '"category_id": 9'))
    assert prepare(tmp_path, *flags) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(("change", "words"), [
    (lambda d: d["annotations"][0].update(bbox=["a", 1, 2, 3]), "train_quadrant.json"),
    (lambda d: d["annotations"][0].update(segmentation=[[1, 2, 3, "x", 5, 6]]), "train_quadrant.json"),
    (lambda d: d["annotations"][0].update(bbox=[1, 1, float("inf"), 2]), "train_quadrant.json"),
    (lambda d: d["annotations"].append("text"), "train_quadrant.json"),
    (lambda d: d["images"][0].pop("file_name"), "train_quadrant.json"),
    (lambda d: d["images"][0].update(id=[1]), "train_quadrant.json"),
    (lambda d: d["categories"][0].update(id={}), "train_quadrant.json"),
])
def test_strange_json_is_one_message_that_names_a_file(tmp_path, capsys, change, words):
    path = build_levels(tmp_path / "dentex") / "training_data" / "quadrant" / "train_quadrant.json"
    change(data := json.loads(path.read_text()))
    path.write_text(json.dumps(data))
    assert prepare(tmp_path, "--levels", "quadrant") == 2
    assert words in capsys.readouterr().err


def test_bytes_that_are_no_text_are_not_printed(tmp_path, capsys):
    path = build_levels(tmp_path / "dentex") / "training_data" / "quadrant" / "train_quadrant.json"
    path.write_bytes(path.read_bytes() + b"\xff secret " * 100)
    for flags in (["--levels", "quadrant"], ["--annotations", str(path)]):
        assert prepare(tmp_path, *flags) == 2
        assert "train_quadrant.json" in (said := capsys.readouterr().err) and "secret" not in said and len(said) < 1000


def test_levels_of_the_sample(real_data, tmp_path):
    flags = [str(real_data / "original_layouts" / "dentex_sample"), str(tmp_path / "out"), "--fractions", "0.5", "0", "0", "0.5"]
    assert main(["prepare", "dentex", *flags, "--levels", "diagnosis", "--annotation-size", "2950", "1316"]) == 0
    manifest = Manifest.read(tmp_path / "out")
    assert list(manifest.info.layers) == ["affected_tooth", "abnormality"] and len(manifest) == 2
    assert all(sum(v for k, v in r.areas.items() if k.startswith("abnormality/")) > 0.005 for r in manifest)

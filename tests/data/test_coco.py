"""COCO JSON as tools export it, and every way in which it can be wrong."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from synthrad.__main__ import main
from synthrad.data.readers import coco as reader
from synthrad.records import Manifest

SIZE = (24, 40)


def square(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def packed(x, y, w, h):
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    return {"size": list(SIZE), "counts": coco.encode(mask)["counts"].decode()}


def mark(number, image, category, segmentation, **more):
    return {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": 0, "bbox": [0, 0, 1, 1], "area": 1} | more


def dataset(images=8):
    return {
        "info": {}, "licenses": [],
        "images": [{"id": 100 + i, "file_name": f"val/p{i // 2}_{i}.png", "height": SIZE[0], "width": SIZE[1]} for i in range(images)],
        "categories": [{"id": 3, "name": "Lung"}, {"id": 7, "name": "Rib Fracture"}, {"id": 9, "name": "tube"}],
        "annotations": [mark(2, 100, 7, packed(6, 6, 4, 4)), mark(1, 100, 3, square(2, 2, 20, 12)), mark(3, 101, 3, packed(0, 0, 5, 5), iscrowd=1),
                        mark(4, 101, 9, square(20, 10, 8, 8))] + [mark(10 + i, 100 + i, 9, square(i, i, 5, 5)) for i in range(2, images - 1)],
    }  # fmt: skip


def build(tmp_path, data=None, size=SIZE):
    folder = tmp_path / "in"
    (folder / "val").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(rng.integers(0, 255, size).astype(np.uint8)).save(folder / "val" / f"p{i // 2}_{i}.png")
    (folder / "instances.json").write_text(json.dumps(data or dataset()))
    return folder


def prepare(tmp_path, *flags):
    return main(["prepare", "coco", str(tmp_path / "in"), str(tmp_path / "out"), "--skip-near-copies", *flags])


def masks(tmp_path, name):
    record = next(r for r in Manifest.read(tmp_path / "out") if r.channels[0].name == name)
    return record, [np.array(Image.open(p)) if p else None for p in record.masks]


def test_one_layer_smaller_on_top_and_labels(tmp_path):
    build(tmp_path)
    assert prepare(tmp_path, "--labels", "--subject-pattern", r"(p\d)_") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.layers == {"object": ("lung", "rib_fracture", "tube")} and manifest.info.classes == ("lung", "rib_fracture", "tube")
    assert set(manifest.column("subject")) == {"p0", "p1", "p2", "p3"}
    record, (drawn,) = masks(tmp_path, "p0_0.png")
    expected = np.zeros(SIZE, np.uint8)
    expected[2:14, 2:22], expected[6:10, 6:10] = 1, 2
    assert (drawn == expected).all() and record.labels == (1, 1, 0)
    record, (drawn,) = masks(tmp_path, "p0_1.png")
    assert (drawn[:5, :5] == 1).all() and (drawn == 3).sum() == 64  # the crowd is drawn
    record, (drawn,) = masks(tmp_path, "p3_7.png")
    assert not drawn.any() and record.labels == (0, 0, 0)  # no annotation: nothing there


def test_layers_chosen_crowds_skipped_and_unknown_masks(tmp_path):
    build(tmp_path)
    assert prepare(tmp_path, "--layers", "organ:lung", "finding:rib fracture", "--crowd", "skip", "--unannotated", "unknown", "--labels") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.layers == {"organ": ("lung",), "finding": ("rib_fracture",)}
    assert set(manifest.column("subject")) >= {"val/p0_0", "val/p3_7"}
    _, (organ, finding) = masks(tmp_path, "p0_0.png")
    assert organ.sum() == 240 and finding.sum() == 16 and organ[7, 7] == finding[7, 7] == 1
    assert not masks(tmp_path, "p0_1.png")[1][0].any()
    record, drawn = masks(tmp_path, "p3_7.png")
    assert drawn == [None, None] and record.labels == (None, None)


def test_images_resized_after_annotation(tmp_path, capsys):
    build(tmp_path, size=(12, 20))
    assert prepare(tmp_path) == 2
    assert "--resized" in capsys.readouterr().err
    for flags in (["--resized"], ["--annotation-size", "40", "24"]):
        assert prepare(tmp_path, *flags) == 0
        _, (drawn,) = masks(tmp_path, "p0_0.png")
        expected = np.zeros((12, 20), np.uint8)
        expected[1:7, 1:11], expected[3:5, 3:5] = 1, 2
        assert (drawn == expected).all()


def test_boxes(tmp_path):
    data = dataset()
    data["annotations"] = [mark(1, 100, 3, [], bbox=[4, 5, 6, 7])]
    build(tmp_path, data)
    assert prepare(tmp_path) == 2 and prepare(tmp_path, "--boxes") == 0
    assert masks(tmp_path, "p0_0.png")[1][0].sum() == 42


def changed(**parts):
    data = dataset()
    for part, change in parts.items():
        change(data[part])
    return data


FAULTS = {
    "image twice": (changed(images=lambda v: v.append({"id": 100, "file_name": "val/other.png"})), "image 100"),
    "file twice": (changed(images=lambda v: v.append({"id": 500, "file_name": "val/p0_0.png"})), "image 500"),
    "missing file": (changed(images=lambda v: v.append({"id": 500, "file_name": "val/none.png"})), "no such file"),
    "upward": (changed(images=lambda v: v[0].update(file_name="../secret.png")), "a path with `..`"),
    "absolute": (changed(images=lambda v: v[0].update(file_name="/etc/hostname")), "an absolute path"),
    "NUL": (changed(images=lambda v: v[0].update(file_name="val/p\0.png")), "NUL in a name"),
    "long": (changed(images=lambda v: v[0].update(file_name="x" * 300)), "too long"),
    "link": (changed(images=lambda v: v[0].update(file_name="link.png")), "a link to"),
    "no name": (changed(images=lambda v: v[0].pop("file_name")), "file_name None"),
    "size": (changed(images=lambda v: v[0].update(height=-4)), "height and width"),
    "huge size": (changed(images=lambda v: v[0].update(height=10**9)), "height and width"),
    "text id": (changed(images=lambda v: v[7].update(id="107")), "whole number as id"),
    "unknown image": (changed(annotations=lambda v: v[0].update(image_id=999)), "annotation 2: image_id 999"),
    "list as image": (changed(annotations=lambda v: v[0].update(image_id=[100])), "image_id [100]"),
    "unknown category": (changed(annotations=lambda v: v[0].update(category_id=999)), "category_id 999"),
    "annotation twice": (changed(annotations=lambda v: v.append(dict(v[0]))), "annotation 2: its id is there twice"),
    "category twice": (changed(categories=lambda v: v.append({"id": 3, "name": "x"})), "twice"),
    "category name twice": (changed(categories=lambda v: v.append({"id": 4, "name": "lung "})), "twice"),
    "category without name": (changed(categories=lambda v: v[0].pop("name")), "expected a whole number and a name"),
    "no category": (changed(categories=list.clear, annotations=list.clear), "no category"),
    "outline beyond": (changed(annotations=lambda v: v[1].update(segmentation=square(2, 2, 400, 10))), "annotation 1"),
    "no image": (changed(images=list.clear), "nothing in images"),
    "entry": (changed(images=lambda v: v.append("x")), "no list of objects"),
}  # fmt: skip


def test_what_is_no_json_or_a_giant_is_refused(tmp_path, capsys, monkeypatch):
    folder = build(tmp_path, dataset())
    monkeypatch.setattr(reader, "LARGEST", 100)
    assert prepare(tmp_path) == 2 and "expected at most 100" in capsys.readouterr().err
    monkeypatch.undo()
    for text, said in (("[" * 100_000, "too deep"), ("{", "no JSON"), ("[]", "found a list")):
        (folder / "instances.json").write_text(text)
        assert prepare(tmp_path) == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_one_message_each(tmp_path, capsys, name):
    data, said = FAULTS[name]
    folder = build(tmp_path, data)
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    assert prepare(tmp_path) == 2
    text = capsys.readouterr().err
    assert said in text and text.count(said) == 1 and ("1 fault(s)" in text or "fault(s)" not in text)
    assert not (tmp_path / "out" / "dataset.yaml").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"images": []}', '{"images": {}, "annotations": [], "categories": []}', "[" * 100_000, "\udcff"])
def test_files_that_are_no_coco(tmp_path, capsys, content):
    folder = build(tmp_path)
    (folder / "instances.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    assert prepare(tmp_path) == 2
    assert "instances.json" in capsys.readouterr().err


@pytest.mark.parametrize(("flags", "said"), [(["--layers", "a:lungs"], "did you mean lung?"), (["--layers", "lung"], "LAYER:CATEGORY"),
                                             (["--layers", "a:lung", "b:lung"], "each once"), (["--layers", "../a:lung"], "LAYER:CATEGORY"),
                                             (["--subject-pattern", "x(\\d)"], "does not fit"), (["--annotations", "none.json"], "none.json")])
def test_options_that_fit_nothing(tmp_path, capsys, flags, said):
    build(tmp_path)
    assert prepare(tmp_path, *flags) == 2
    assert said in capsys.readouterr().err


def test_the_v7_sample(real_data, tmp_path):
    samples = real_data / "original_layouts"
    if not samples.is_dir():
        pytest.skip("no original_layouts")
    source = samples / "v7_lungs" / "covid-only-coco.json"
    assert main(["prepare", "coco", str(samples / "ieee8023_covid_chestxray" / "images"), str(tmp_path / "out"), "--annotations", str(source),
                 "--layers", "lung:Lung", "--fractions", "0.25", "0.25", "0.25", "0.25", "--skip-near-copies"]) == 0
    manifest = Manifest.read(tmp_path / "out")
    stated = {}
    for entry in json.loads(source.read_text())["annotations"]:
        stated[entry["image_id"]] = stated.get(entry["image_id"], 0) + entry["area"]
    shares = [r.areas["lung/lung"] for r in manifest]
    assert len(manifest) == 4 and all(0.1 < s < 0.6 for s in shares)
    drawn = sorted((np.array(Image.open(r.masks[0])) > 0).sum() for r in manifest)
    assert np.allclose(drawn, sorted(stated.values()), rtol=0.02)

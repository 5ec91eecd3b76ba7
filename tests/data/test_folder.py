"""Class folders and image/mask folders as people keep them."""

import numpy as np
import pytest
from PIL import Image

from synthrad.__main__ import main
from synthrad.records import Manifest


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def picture(seed, size=(12, 16)):
    return np.random.default_rng(seed).integers(0, 255, size).astype(np.uint8)


def mask(value=255, size=(12, 16)):
    array = np.zeros(size, np.uint8)
    array[3:6, 4:9] = value
    return array


def prepare(tmp_path, *flags):
    return main(["prepare", "folder", str(tmp_path / "in"), str(tmp_path / "out"), "--skip-near-copies", *flags])


def class_folders(root, before=""):
    for k, name in enumerate(("NORMAL", "bacterial", "viral")):
        for i in range(6):
            save(root / before / name / f"person{i // 2}_{name}_{i}.jpeg", picture(100 * k + i + 1000 * sum(map(ord, before))))
    (root / before / "NORMAL" / "Thumbs.db").write_bytes(b"x")
    (root / before / ".DS_Store").write_bytes(b"x")


def pairs(root, images="images", masks="masks", suffix="", count=8):
    for i in range(count):
        save(root / images / f"a{i}.jpg", picture(i))
        if i != 3:
            save(root / masks / f"a{i}{suffix}.png", mask())


def test_class_folders(tmp_path):
    class_folders(tmp_path / "in")
    assert prepare(tmp_path) == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.classes == ("NORMAL", "bacterial", "viral") and len(manifest) == 18 and len(set(manifest.column("subject"))) == 18
    for record in manifest:
        assert record.labels == tuple(int(record.channels[0].parent.name == c) for c in manifest.info.classes)


@pytest.mark.parametrize(("folder", "pixels"), [("masks", picture), ("b", lambda k: mask(1 + k))])
def test_masks_are_no_class(tmp_path, capsys, folder, pixels):
    for k in range(6):
        save(tmp_path / "in" / "a" / f"{k}.jpg", picture(k))
        save(tmp_path / "in" / folder / f"{k}.png", pixels(k))
    assert prepare(tmp_path) == 2
    assert f"class folders a and {folder} with 6 files of equal names" in (said := capsys.readouterr().err) and f"--images a --masks {folder}" in said


def test_equal_numbers_of_two_classes_are_usual(tmp_path, capsys):
    for k in range(12):
        save(tmp_path / "in" / "ab"[k % 2] / f"{k // 2}.png", picture(k))
    assert prepare(tmp_path) == 0
    assert "warning: no --subject-pattern: each image counts as a patient" in capsys.readouterr().out


def test_normal_subjects_and_deeper_folders(tmp_path):
    class_folders(tmp_path / "in")
    save(tmp_path / "in" / "viral" / "deep" / "person9_viral_0.png", picture(999))
    assert prepare(tmp_path, "--normal", "NORMAL", "--subject-pattern", r"(\w+?/(?:deep/)?person\d+)_") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.classes == ("bacterial", "viral") and len(set(manifest.column("subject"))) == 10
    assert {r.labels for r in manifest if "NORMAL" in r.subject} == {(0, 0)}
    assert next(r for r in manifest if "deep" in r.subject).labels == (0, 1)


def test_folders_that_are_splits(tmp_path, capsys):
    for split in ("train", "valid", "test"):
        class_folders(tmp_path / "in", split)
    flags = ["--split-folders", "train=train", "valid=val", "test=test"]
    assert prepare(tmp_path, *flags) == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.classes == ("NORMAL", "bacterial", "viral")
    assert {(r.channels[0].parts[-3], r.split) for r in manifest} == {("train", "train"), ("valid", "val"), ("test", "test")}
    assert prepare(tmp_path, *flags, "--subject-pattern", r"(person\d+)") == 2
    assert "a subject belongs to one split" in capsys.readouterr().err
    assert prepare(tmp_path, *flags[:-1]) == 2
    assert "in no folder that --split-folders names" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["", "_mask"])
def test_images_and_masks(tmp_path, suffix):
    pairs(tmp_path / "in", suffix=suffix)
    assert prepare(tmp_path, "--masks", "masks", "--mask-classes", "tumour:255=tumour", *(["--mask-suffix", suffix] if suffix else [])) == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.classes == () and manifest.info.layers == {"tumour": ("tumour",)} and len(manifest) == 8
    for record in manifest:
        if record.channels[0].stem == "a3":
            assert record.masks == (None,)
        else:
            assert (np.array(Image.open(record.masks[0])) == (mask() > 0)).all()


def test_two_mask_folders_in_split_folders(tmp_path):
    for k, split in enumerate(("train", "val", "test")):
        for i in range(2):
            folder = tmp_path / "in" / split
            save(folder / "pictures" / "sub" / f"{i}.png", picture(10 * k + i))
            save(folder / "labels" / "sub" / f"{i}.png", mask())
            save(folder / "colors" / "sub" / f"{i}.png", mask(102))
    assert prepare(tmp_path, "--images", "pictures", "--masks", "labels", "colors", "--mask-classes", "caries:255=caries", "degree:102=one,153=two",
                   "--split-folders", "train=train", "val=val", "test=test") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert len(manifest) == 6 and [s for s in manifest.column("split")].count("test") == 2
    assert all(r.areas["degree/one"] == 15 / 192 and r.areas["caries/caries"] == 15 / 192 for r in manifest)


FLAGS = ["--masks", "masks", "--mask-classes", "t:255=t"]
FAULTS = {
    "mask alone": (lambda r: save(r / "masks" / "b.png", mask()), FLAGS, "b.png: found a mask without an image"),
    "two masks": (lambda r: save(r / "masks" / "a0.jpg", mask()), FLAGS, "a second mask"),
    "two images": (lambda r: save(r / "images" / "a0.png", picture(50)), FLAGS, "the same name but for the ending"),
    "size": (lambda r: save(r / "masks" / "a0.png", mask(size=(5, 5))), FLAGS, "the size of its image"),
    "value": (lambda r: save(r / "masks" / "a0.png", mask(7)), FLAGS, "the pixel value(s) 7"),
    "no image": (lambda r: (r / "images" / "a0.jpg").write_bytes(b"x"), FLAGS, "a0.jpg"),
    "link": (lambda r: ((r / "masks" / "a0.png").unlink(), (r / "masks" / "a0.png").symlink_to(r.parent / "secret.png")), FLAGS, "a link to"),
    "image link": (lambda r: ((r / "images" / "a0.jpg").unlink(), (r / "images" / "a0.jpg").symlink_to(r.parent / "secret.png")), FLAGS, "a link to"),
    "tiff": (lambda r: (r / "images" / "b.tif").write_bytes(b"x"), FLAGS, "1 .tif file(s)"),
    "folder": (lambda r: None, ["--masks", "mask", "--mask-classes", "t:255=t"], "mask: no PNG or JPEG mask"),
    "images": (lambda r: None, [*FLAGS, "--images", "pictures"], "no PNG or JPEG image"),
    "layers": (lambda r: None, ["--masks", "masks"], "one layer a folder"),
    "normal": (lambda r: None, [*FLAGS, "--normal", "x"], "one of them"),
    "no class": (lambda r: save(r / "c.png", picture(60)), [], "c.png: an image outside of a class folder"),
    "other normal": (lambda r: None, ["--normal", "healthy"], "a class folder of"),
    "split": (lambda r: None, ["--split-folders", "train=learn"], "NAME=SPLIT"),
    "suffix": (lambda r: None, [*FLAGS, "--mask-suffix", "_m"], "a mask without an image"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults(tmp_path, capsys, name):
    spoil, flags, said = FAULTS[name]
    pairs(tmp_path / "in")
    save(tmp_path / "secret.png", mask())
    spoil(tmp_path / "in")
    assert prepare(tmp_path, *flags) == 2
    assert said in capsys.readouterr().err


def test_no_folder(tmp_path, capsys):
    assert prepare(tmp_path) == 2
    assert "no such folder" in capsys.readouterr().err


SAMPLES = {"cheng_png": (["--masks", "masks", "--mask-classes", "tumour:255=tumour"], 5, "tumour/tumour"),
           "dc1000/dataset/test": (["--masks", "labels", "colors", "--mask-classes", "abnormality:255=caries", "degree:102=degree1,153=degree2,255=degree3"],
                                   2, "abnormality/caries"),
           "ieee8023_covid_chestxray": ([], 5, None)}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples(real_data, tmp_path, name):
    root, (flags, count, area) = real_data / "original_layouts" / name, SAMPLES[name]
    if not root.is_dir():
        pytest.skip("no original_layouts")
    assert main(["prepare", "folder", str(root), str(tmp_path / "out"), *flags, "--fractions", "1", "0", "0", "0", "--skip-near-copies"]) == 0
    manifest = Manifest.read(tmp_path / "out")
    assert len(manifest) == count and (area is None or all(0 < r.areas[area] < 0.2 for r in manifest))
    assert area or manifest.info.classes == ("images",)


def test_out_may_not_lie_where_images_are_looked_for(tmp_path, capsys):
    for seed, name in enumerate(("a/1.png", "a/2.png", "b/3.png", "b/4.png")):
        save(tmp_path / "in" / name, picture(seed))
    words = ["prepare", "folder", str(tmp_path / "in"), str(tmp_path / "in" / "out"), "--copy", "--skip-near-copies"]
    assert main(words) == 2 and "inside" in capsys.readouterr().err
    assert not (tmp_path / "in" / "out").exists()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert main([*words[:3], str(tmp_path / "link" / "x"), *words[4:]]) == 2
    (tmp_path / "t.csv").write_text("image\nin/a/1.png\nin/b/3.png\nin/b/4.png\nin/a/2.png\n")  # a table names its images
    assert main(["prepare", "table", str(tmp_path / "t.csv"), str(tmp_path / "out"), "--copy", "--skip-near-copies"]) == 0

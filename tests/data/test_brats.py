"""BraTS from its published tree: cases by name, slices by the area rule, labels 1, 2 and 4, and everything that is wrong with a copy."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_brats import AFFINE, SEQUENCES, SHAPE, build, volumes

from synthrad.__main__ import main
from synthrad.data.overlaps import corpus_of, meeting
from synthrad.metrics.segmentation import subject_scores
from synthrad.records import Manifest


def prepare(tmp_path, *flags):
    return main(["prepare", "brats", str(tmp_path / "in"), str(tmp_path / "out"), "--pad", "32", "32", "--skip-near-copies", *flags])


def test_slices_channels_and_labels(tmp_path, capsys):
    build(tmp_path / "in")
    assert prepare(tmp_path) == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.channels == SEQUENCES and dict(manifest.info.layers) == {"tumour": ("necrotic", "oedema", "enhancing")}
    assert set(manifest.column("subject")) == {f"BraTS20_Training_{i:03d}" for i in range(1, 9)}
    first = [r for r in manifest if r.subject == "BraTS20_Training_001"]
    # of 32 x 32 pixels 15 % are 153.6: 14 x 14 = 196 in slice 3, 256 in slice 4, 100 in slice 2
    assert [r.origin["slice"] for r in first] == ["3", "4"] and first[0].channels[1].name == "BraTS20_Training_001_003.png"
    assert "kept 16 of 48 slices" in capsys.readouterr().out
    made = volumes(1)
    for record, z in zip(first, (3, 4), strict=True):
        for name, path in zip(SEQUENCES, record.channels, strict=True):
            expected = np.zeros((32, 32))
            expected[6:26, 4:28] = made[name][:, :, z].T / made[name].max() * 255
            assert (np.array(Image.open(path)) == np.rint(expected)).all()
        mask = np.array(Image.open(record.masks[0]))
        assert (mask[6:26, 4:28] == np.array([0, 1, 2, 0, 3])[made["seg"][:, :, z].T]).all() and mask.sum() == mask[6:26, 4:28].sum()
        assert record.origin["kept"] == "2 of 6 slices, 60 of 90 labelled voxels"
    assert first[0].areas["tumour/necrotic"] == 1 / 1024 and first[0].origin["grey_t2"] == "0 to 3000"


def test_all_slices_with_contrast(tmp_path):
    build(tmp_path / "in", style="BraTS2021_{:05d}", ending=".nii.gz")
    assert prepare(tmp_path, "--slices", "all", "--bits", "16") == 0
    manifest = Manifest.read(tmp_path / "out")
    rows = [r for r in manifest if r.subject == "BraTS2021_00003"]
    assert [r.origin["slice"] for r in rows] == ["1", "2", "3", "4"]  # empty ones are the same picture in all subjects
    assert rows[0].origin["kept"].endswith("90 of 90 labelled voxels")
    picture = np.array(Image.open(rows[2].channels[0]))
    assert picture.dtype == np.uint16 and picture.max() == 65535 and manifest.info.intensity == {"low": 0.0, "high": 65535.0}


@pytest.mark.parametrize(("style", "flags", "expected"), [
    ("BraTS20_Training_{:03d}", [], "brats2020"), ("BraTS2021_{:05d}", [], "brats2021"), ("BraTS-GLI-{:05d}-000", [], "in"),
    ("BraTS20_Training_{:03d}", ["--name", "mine", "--id", "own"], "own"),
])
def test_the_id_is_that_of_the_set_which_the_cases_are_of(tmp_path, style, flags, expected):
    build(tmp_path / "in", style=style)
    assert prepare(tmp_path, *flags) == 0
    info = Manifest.read(tmp_path / "out").info
    assert info.id == expected and bool(meeting(corpus_of(info.id), "brats-2019")) == expected.startswith("brats")


def test_regions_nest(tmp_path):
    build(tmp_path / "in")
    assert prepare(tmp_path, "--regions", "--slices", "labelled") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert list(manifest.info.layers) == ["whole", "core", "enhancing"] and len(manifest) == 8 * 3
    row = next(r for r in manifest if r.origin["slice"] == "3")
    whole, core, enhancing = (np.array(Image.open(p)) for p in row.masks)
    assert whole.sum() == 30 and core.sum() == 9 and enhancing.sum() == 8 and (whole >= core).all() and (core >= enhancing).all()


def test_missing_labels_the_misnamed_file_and_grades(tmp_path):
    """Validation cases have no seg; that of case 355 has another name; name_mapping.csv holds grades."""
    root = build(tmp_path / "in", without=[(2, "seg")])
    folder = root / "MICCAI_BraTS2020_TrainingData"
    for path in (folder / "BraTS20_Training_003").iterdir():
        path.rename(path.with_name(path.name.replace("003", "355")))
    (folder / "BraTS20_Training_003").rename(folder / "BraTS20_Training_355")
    (folder / "BraTS20_Training_355" / "BraTS20_Training_355_seg.nii").rename(folder / "BraTS20_Training_355" / "W39_1998.09.19_Segm.nii")
    lines = [f"{'HGG' if i % 2 else 'LGG'},NA,NA,NA,NA,BraTS20_Training_{i:03d}" for i in (1, 2, 4, 355)]
    head = "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID,BraTS_2020_subject_ID"
    (folder / "name_mapping.csv").write_text("\n".join([head, *lines]))
    assert prepare(tmp_path) == 0
    rows = {r.subject[-3:]: r for r in Manifest.read(tmp_path / "out") if r.origin["slice"] == "3"}
    assert rows["002"].masks == (None,) and rows["002"].areas == {} and rows["002"].origin["kept"] == "2 of 6 slices"
    assert rows["355"].areas["tumour/oedema"] > 0 and rows["355"].attributes == {"grade": "HGG"}
    assert rows["004"].attributes == {"grade": "LGG"} and rows["005"].attributes == {}


def test_faults_of_a_copy_are_told_together(tmp_path, capsys):
    root = build(tmp_path / "in", without=[(2, "t2"), (3, "t1"), (3, "flair")])
    folder = root / "MICCAI_BraTS2020_TrainingData"
    (root / "again").mkdir()
    (root / "again" / "BraTS20_Training_004_t1.nii").write_bytes((folder / "BraTS20_Training_004" / "BraTS20_Training_004_t1.nii").read_bytes())
    assert prepare(tmp_path) == 2
    text = capsys.readouterr().err
    assert "BraTS20_Training_002: no t2" in text and "BraTS20_Training_003: no t1 and no flair" in text and "004: t1 is there 2 times" in text
    assert not (tmp_path / "out" / "dataset.yaml").exists()


@pytest.mark.parametrize(("what", "said"), [("label", "value(s) 3"), ("grid", "the grid of"), ("shift", "mm off"), ("cut", "claims"), ("link", "a link to")])
def test_volumes_that_do_not_fit(tmp_path, capsys, what, said):
    folder = build(tmp_path / "in") / "MICCAI_BraTS2020_TrainingData" / "BraTS20_Training_005"
    path = folder / "BraTS20_Training_005_t2.nii"
    array = np.asarray(nibabel.load(path).dataobj).copy()
    if what == "label":
        path = folder / "BraTS20_Training_005_seg.nii"
        array = volumes(5)["seg"]
        array[0, 0, 0] = 3
        nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)
    elif what == "grid":
        nibabel.save(nibabel.Nifti1Image(array[:-1], AFFINE), path)
    elif what == "shift":
        nibabel.save(nibabel.Nifti1Image(array, AFFINE + np.eye(4, k=3) * 5), path)
    elif what == "cut":
        path.write_bytes(path.read_bytes()[:-7])
    else:
        path.rename(tmp_path / "elsewhere.nii")
        path.symlink_to(tmp_path / "elsewhere.nii")
    assert prepare(tmp_path) == 2
    text = capsys.readouterr().err
    assert said in text and path.name in text and text.count(path.name) == 1  # one fault, not one a slice


def test_other_folders(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert prepare(tmp_path) == 2
    assert "no BraTS case" in capsys.readouterr().err
    build(tmp_path / "in")
    assert prepare(tmp_path, "--above", "255") == 2
    assert "no slice with more than 0.15 of the picture above 255" in capsys.readouterr().err
    assert prepare(tmp_path, "--pad", "16", "16") == 2
    assert "--pad" in capsys.readouterr().err


def test_dice_of_a_subject_is_that_of_its_restacked_volume(tmp_path):
    """Pixels counted over a subject's slices, as a net's test does, give the Dice of the volumes stacked from its slices."""
    build(tmp_path / "in")
    assert prepare(tmp_path, "--slices", "all") == 0
    manifest = Manifest.read(tmp_path / "out")
    structures, rows, stacks = manifest.info.layers["tumour"], [], {}
    rng = np.random.default_rng(0)
    for record in manifest:
        truth = np.array(Image.open(record.masks[0]))
        drawn = truth.copy()
        drawn[6:26, 4:28] = np.where(rng.random((20, 24)) < 0.3, rng.integers(0, 4, (20, 24)), drawn[6:26, 4:28])
        stack = stacks.setdefault(record.subject, (np.zeros(SHAPE, int), np.zeros(SHAPE, int)))
        for volume, picture in zip(stack, (truth, drawn), strict=True):  # back where it came from, without the padding
            volume[:, :, int(record.origin["slice"])] = picture[6:26, 4:28].T
        for k, name in enumerate(structures, 1):
            t, p = truth == k, drawn == k
            counts = {"tp": (t & p).sum(), "fp": (~t & p).sum(), "fn": (t & ~p).sum(), "tn": (~t & ~p).sum()}
            rows.append({"kind": "segmentation", "task": "s", "net": "n", "arm": "a", "seed": 0, "external": "", "image": record.digest,
                         "subject": record.subject, "layer": "tumour", "class_name": name, **counts})
    scores = subject_scores(pd.DataFrame(rows)).set_index(["subject", "class_name"])["score"]
    assert len(stacks) == 8
    for subject, (truth, drawn) in stacks.items():
        assert (np.array([0, 1, 2, 0, 3])[volumes(int(subject[-3:]))["seg"]] == truth).all()  # the volume itself, since all slices are there
        for k, name in enumerate(structures, 1):
            dice = 2 * ((truth == k) & (drawn == k)).sum() / ((truth == k).sum() + (drawn == k).sum())
            assert dice < 1 and scores[subject, name] == pytest.approx(dice, abs=1e-12)


def test_the_sample(real_data, tmp_path):
    root = real_data / "original_layouts" / "brats2020_style_derived"
    if not root.is_dir():
        pytest.skip("no original_layouts")
    assert main(["prepare", "brats", str(root), str(tmp_path / "out"), "--fractions", "1", "0", "0", "0", "--skip-near-copies"]) == 0
    manifest = Manifest.read(tmp_path / "out")
    assert len(manifest) == 24 and set(manifest.column("subject")) == {"BraTS20_Training_901"}
    seg = np.asarray(nibabel.load(next(root.rglob("*_seg.nii.gz"))).dataobj)
    pixels = sum((np.array(Image.open(r.masks[0])) == 2).sum() for r in manifest)
    assert pixels == (seg == 2).sum() and np.array(Image.open(manifest[0].channels[0])).shape == (256, 256)

"""Trees of volumes by patterns, and nnU-Net's folder."""

import json

import nibabel
import numpy as np
import pytest
from PIL import Image

from synthrad.__main__ import main
from synthrad.lineage import is_pseudonym
from synthrad.records import Manifest

LPS = np.diag([-1.0, -1.0, 3.0, 1.0])
SHAPE = (12, 10, 4)


def save(path, array, affine=LPS):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def picture(seed):
    """A body in slices 1 to 3 on a background of -1000, as CT has it."""
    array = np.full(SHAPE, -1000, np.int16)
    array[2:10, 2:8, 1:] = np.random.default_rng(seed).integers(-100, 300, (8, 6, 3))
    return array


def mask():
    array = np.zeros(SHAPE, np.uint8)
    array[4:7, 3:5, 2] = 1
    array[5, 4, 2] = 2
    return array


def nnunet(root, cases=8, version=2):
    for i in range(cases):
        for k in (0, 1):
            save(root / "imagesTr" / f"case{i}_{k:04d}.nii.gz", picture(10 * i + k))
        save(root / "labelsTr" / f"case{i}.nii.gz", mask())
    save(root / "imagesTs" / "case9_0000.nii.gz", picture(9))
    names = {"0": "CT", "1": "Contrast CT"}
    facts = {"channel_names": names, "labels": {"background": 0, "Liver": 1, "tumour": 2}, "numTraining": cases, "file_ending": ".nii.gz"}
    if version == 1:
        facts = {"modality": names, "labels": {"0": "background", "1": "Liver", "2": "tumour"}}
    (root / "dataset.json").write_text(json.dumps(facts))


def prepare(tmp_path, *flags):
    return main(["prepare", "nifti", str(tmp_path / "in"), str(tmp_path / "out"), "--skip-near-copies", *flags])


@pytest.mark.parametrize("version", [1, 2])
def test_an_nnunet_folder(tmp_path, version):
    nnunet(tmp_path / "in", version=version)
    assert prepare(tmp_path, "--scaling", "fixed", "-160", "240", "--slices", "all") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.channels == ("ct", "contrast_ct") and dict(manifest.info.layers) == {"label": ("liver", "tumour")}
    assert set(manifest.column("subject")) == {f"case{i}" for i in range(8)} and len(manifest) == 24  # the empty slice is left out
    row = next(r for r in manifest if r.subject == "case3" and r.origin["slice"] == "2")
    expected = np.rint(np.clip((picture(31)[:, :, 2].T + 160.0) / 400, 0, 1) * 255)
    assert (np.array(Image.open(row.channels[1])) == expected).all()
    assert (np.array(Image.open(row.masks[0])) == mask()[:, :, 2].T).all()
    assert row.origin["spacing_mm"] == "1 x 1 x 3" and row.origin["grey_ct"] == "-160 to 240"


def test_folders_a_subject_other_planes_and_sessions(tmp_path, capsys):
    """A tree sub-1/ses-1/t1.nii.gz in RAS; two sessions are one subject; a session without a mask has none."""
    for i in range(8):
        for session in (1, 2):
            folder = tmp_path / "in" / f"sub-{i}" / f"ses-{session}"
            save(folder / "t1.nii.gz", picture(i + 10 * session)[::-1, ::-1].copy(), np.diag([1.0, 1.0, 3.0, 1.0]))
            if session == 1:
                save(folder / "seg.nii.gz", mask()[::-1, ::-1].copy(), np.diag([1.0, 1.0, 3.0, 1.0]))
    flags = ["--channels", "t1=*/*/t1.nii.gz", "--mask", "*/*/seg.nii.gz", "--mask-classes", "any:1=any,2=any", "core:2=core"]
    assert prepare(tmp_path, *flags, "--subject-pattern", r"(sub-\d+)", "--slices", "all", "--plane", "coronal", "--pad", "16", "16") == 0
    assert "labelled voxels" in capsys.readouterr().out
    manifest = Manifest.read(tmp_path / "out")
    assert set(manifest.column("subject")) == {f"sub-{i}" for i in range(8)} and list(manifest.info.layers) == ["any", "core"]
    row = next(r for r in manifest if r.channels[0].name == "sub-2_ses-1_004.png")
    flat = mask()[:, 4].T[::-1]  # head on top
    assert (np.array(Image.open(row.masks[0]))[6:10, 2:14] == (flat > 0)).all() and np.array(Image.open(row.masks[1])).sum() == 1
    assert next(r for r in manifest if r.channels[0].name == "sub-2_ses-2_004.png").masks == (None, None)


def test_labelled_slices_every_second_and_hashed_subjects(tmp_path, capsys):
    nnunet(tmp_path / "in")
    assert prepare(tmp_path, "--slices", "labelled", "--hash-subjects") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert len(manifest) == 8 and "case" not in (tmp_path / "out" / "manifest.csv").read_text()
    assert len(set(manifest.column("subject"))) == 8 and all(map(is_pseudonym, manifest.column("subject")))
    assert prepare(tmp_path, "--slices", "all", "--every", "2") == 0
    assert sorted(set(Manifest.read(tmp_path / "out").column("origin:slice"))) == ["1", "3"]
    assert "kept 16 of 32 slices" in capsys.readouterr().out


def test_spellings_are_told_before_they_are_hashed(tmp_path, capsys):
    for k, case in enumerate(("P012", "p12", "P13", "P14", "P15")):
        save(tmp_path / "in" / f"{case}_t1.nii.gz", picture(k))
    flags = ["--channels", "t1=*_t1.nii.gz", "--hash-subjects", "--slices", "all"]
    assert prepare(tmp_path, *flags) == 2 and "p12_t1.nii.gz: subject: the subject" in capsys.readouterr().err
    for how, number in (("one", 4), ("apart", 5)):
        assert prepare(tmp_path, *flags, "--subject-spellings", how) == 0
        assert len(set(Manifest.read(tmp_path / "out").column("subject"))) == number


def test_the_area_rule_uses_the_first_channel(tmp_path):
    nnunet(tmp_path / "in")
    for i in range(8):
        thin = picture(i)
        thin[:, :, 3] = -1000
        thin[5, 5, 3] = 300  # a single bright pixel
        save(tmp_path / "in" / "imagesTr" / f"case{i}_0000.nii.gz", thin)
    assert prepare(tmp_path, "--scaling", "fixed", "-1000", "300") == 0
    assert sorted(set(Manifest.read(tmp_path / "out").column("origin:slice"))) == ["1", "2"]


FLAGS = {
    "no star": (["--channels", "t1=t1.nii.gz"], "the same number of"), "no name": (["--channels", "*_0000.nii.gz"], "NAME=PATTERN"),
    "nothing": (["--channels", "t1=*_t9.nii.gz"], "no file that fits"), "mask alone": (["--channels", "ct=*_0000.nii.gz", "--mask", "*.nii.gz"], "one without"),
    "a channel less": (["--channels", "a=imagesT?/*_0000.nii.gz", "b=imagesTr/*_0001.nii.gz"], "no file for channel a"),
    "twice": (["--channels", "ct=*_0*.nii.gz", "--mask", "*case*.nii.gz", "--mask-classes", "l:1=a,2=b"], "a mask without images"),
    "value": (["--mask-classes", "l:1=liver"], "value(s) 2"), "scaling": (["--scaling", "percentile", "5"], "percentile LOW HIGH"),
    "range": (["--scaling", "percentile", "5", "101"], "from 0 to 100"), "subject": (["--subject-pattern", "(sub)"], "does not fit"),
    "regex": (["--subject-pattern", "("], "regular expression"), "max": (["--scaling", "max"], "below 0"), "every": (["--every", "0"], "1 or more"),
    "limit": (["--largest", "0.0001"], "--largest"),
}  # fmt: skip


@pytest.mark.parametrize("name", FLAGS)
def test_options_that_fit_nothing(tmp_path, capsys, name):
    flags, said = FLAGS[name]
    nnunet(tmp_path / "in", cases=2)
    assert prepare(tmp_path, *flags) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", '{"labels": {}}', '{"channel_names": {"0": "CT"}, "labels": {"all": [1, 2]}}',
                                     '{"channel_names": {"0": "../x", "1": "..\\u002fx"}, "labels": {"a": 1}}', "[" * 100_000])
def test_dataset_json_that_is_none(tmp_path, capsys, content):
    nnunet(tmp_path / "in", cases=1)
    (tmp_path / "in" / "dataset.json").write_text(content)
    assert prepare(tmp_path) == 2
    assert "dataset.json" in capsys.readouterr().err


def test_the_sample(real_data, tmp_path):
    root = real_data / "original_layouts" / "deepmedic_brats2015"
    if not root.is_dir():
        pytest.skip("no original_layouts")
    flags = ["--channels", "flair=*/Flair_subtrMeanDivStd.nii.gz", "t1c=*/T1c_subtrMeanDivStd.nii.gz", "--mask", "*/OTMultiClass.nii.gz",
             "--mask-classes", "tumour:1=necrosis,2=oedema,3=non_enhancing,4=enhancing"]
    assert main(["prepare", "nifti", str(root), str(tmp_path / "out"), *flags, "--fractions", "1", "0", "0", "0", "--every", "20",
                 "--skip-near-copies"]) == 0
    manifest = Manifest.read(tmp_path / "out")
    volume = np.asarray(nibabel.load(next(root.rglob("OTMultiClass.nii.gz"))).dataobj)
    for record in manifest:
        assert (np.array(Image.open(record.masks[0])) == volume[:, :, int(record.origin["slice"])].T).all()
    assert set(manifest.column("subject")) == {"brats_2013_pat0006_1"} and len(manifest) >= 3

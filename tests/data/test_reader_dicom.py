"""`synthrad prepare dicom`: trees as they come from an archive or a CD; subjects are hashes, nothing else of a header stays."""

import os

import numpy as np
import pytest
from pydicom.dataset import Dataset
from tiny_dicom import JPEG_2000, SECRET, square, write

from synthrad.__main__ import main
from synthrad.data.images import read_image
from synthrad.records import Manifest

SR, PR, SEG, DICOMDIR = "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.1.3.10"
SPLIT = ("--fractions", "0.5", "0.25", "0", "0.25", "--skip-near-copies")


def tree(root, patients=6):
    """Two pictures a patient, under names that tell who it is, with and without an ending; and what else lies on a CD."""
    for i in range(patients):
        tags = {"PatientID": f"ID{i}{SECRET}", "PatientSex": "MF"[i % 2], "PatientAge": f"{30 + 12 * i:03d}Y", "ViewPosition": "PA"}
        write(root / f"{SECRET}{i}" / "IM0", square(seed=2 * i), bits=12, **tags)
        write(root / f"{SECRET}{i}" / "IM1.dcm", square(40, seed=2 * i + 1), bits=12, compress=JPEG_2000, **tags)
    for name, uid in {"SR0": SR, "PR0.dcm": PR, "SEG0": SEG, "DICOMDIR": DICOMDIR}.items():
        write(root / name, square(), bits=12, SOPClassUID=uid)
    (root / "README.txt").write_text("a viewer")
    (root / ".hidden").write_text("")
    return root


def prepare(root, out, *flags):
    return main(["prepare", "dicom", str(root), str(out), *SPLIT, *flags])


def everything(folder):
    """All bytes and names under a folder."""
    return b"\n".join(str(p.relative_to(folder)).encode() + (p.read_bytes() if p.is_file() else b"") for p in sorted(folder.rglob("*")))


def test_a_tree(tmp_path, capsys):
    assert prepare(tree(tmp_path / "raw"), tmp_path / "out", "--attributes", "sex", "age", "view", "modality", "--age-bands", "50") == 0
    said = capsys.readouterr()
    assert "left out: 1 Comprehensive SR Storage, 1 DICOMDIR, 1 Grayscale Softcopy Presentation State Storage, 1 Segmentation Storage, 1 not DICOM" in said.out
    manifest = Manifest.read(tmp_path / "out")
    assert len(manifest) == 12 and len(set(manifest.column("subject"))) == 6
    assert manifest.info.intensity == {"low": 0.0, "high": 4095.0}  # of the headers
    assert dict(manifest[0].attributes) == {"sex": "M", "age": "30", "view": "PA", "modality": "DX", "age_band": "<50"}
    for k in range(12):
        wanted = square(40 if k % 2 else 16, seed=k)
        np.testing.assert_array_equal(read_image(manifest[k].channels[0]), wanted)
        assert manifest[k].channels[0].name == f"{k:06d}.png"
        assert manifest[k].subject == manifest[k - k % 2].subject and manifest[k].split == manifest[k - k % 2].split
    for trace in (SECRET, "4711", str(tmp_path / "raw")):
        assert trace.encode() not in everything(tmp_path / "out"), trace
    assert SECRET not in said.out + said.err


def test_spellings_of_a_patient_id(tmp_path, capsys):
    for k, patient in enumerate(["0012", "13", "12", "14", "12.0"]):
        write(tmp_path / "raw" / f"{k}.dcm", square(seed=k), bits=12, PatientID=patient)
    assert prepare(tmp_path / "raw", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "2.dcm: subject: the subject" in said and "0.dcm) but for case" in said and "4.dcm: subject" in said and "--subject-spellings" in said
    assert "0012" not in said and "'12" not in said
    for how, groups in (("one", [0, 1, 0, 3, 0]), ("apart", [0, 1, 2, 3, 4])):
        assert prepare(tmp_path / "raw", tmp_path / "out", "--subject-spellings", how) == 0
        subjects = list(Manifest.read(tmp_path / "out").column("subject"))
        assert [subjects.index(s) for s in subjects] == groups


def test_subjects_are_bound_to_project_and_dataset(tmp_path, monkeypatch):
    root = tree(tmp_path / "raw")
    write(root / "more" / "a", square(seed=99), bits=12, PatientID=f" id00{SECRET.lower()} ")  # patient 0 by another hand

    def subjects(name, *flags):
        assert prepare(root, tmp_path / name, "--subject-spellings", "one", *flags) == 0
        return list(Manifest.read(tmp_path / name).column("subject"))

    first = subjects("a")
    assert len(set(first)) == 6 and first[0] == first[12]
    assert subjects("b") == first
    assert not set(subjects("c", "--name", "other")) & set(first)
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path / "elsewhere"))
    assert not set(subjects("d")) & set(first)


def test_patients_by_folder(tmp_path, capsys):
    for i in range(6):
        write(tmp_path / "raw" / str(i // 2) / f"{i}.dcm", square(seed=i), bits=12, PatientID="" if i else None)
    assert prepare(tmp_path / "raw", tmp_path / "out") == 2
    assert "6 of 6 pictures without a PatientID" in capsys.readouterr().err
    assert prepare(tmp_path / "raw", tmp_path / "out", "--subject", "folder") == 0
    subjects = Manifest.read(tmp_path / "out").column("subject")
    assert len(set(subjects)) == 3 and subjects[0] == subjects[1] != subjects[2]


def test_burned_in_text(tmp_path, capsys):
    for i, said in enumerate(["NO", None, "YES"] * 2):
        write(tmp_path / "raw" / f"{i}", square(seed=i), bits=12, PatientID=str(i), BurnedInAnnotation=said)
    assert prepare(tmp_path / "raw", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert "4 fault(s)" in err and "--allow-unmarked" in err and "--allow-burned-in" in err
    assert prepare(tmp_path / "raw", tmp_path / "out", "--allow-unmarked") == 2
    assert "2 fault(s)" in capsys.readouterr().err
    assert prepare(tmp_path / "raw", tmp_path / "out", "--allow-burned-in") == 0
    assert len(Manifest.read(tmp_path / "out")) == 6


def test_display_window(tmp_path, capsys):
    for i, bits in enumerate([10, 12, 14, 12]):
        write(tmp_path / "raw" / f"{i}", square(bits=bits, seed=i), bits=bits, PatientID=str(i), WindowCenter=1 << (bits - 1), WindowWidth=1 << bits)
    assert prepare(tmp_path / "raw", tmp_path / "out") == 2
    assert "several ranges of grey levels: 0 to 4095 (2), " in capsys.readouterr().err
    assert prepare(tmp_path / "raw", tmp_path / "out", "--window", "window") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.intensity["high"] == 255.0
    assert all(read_image(r.channels[0]).dtype == np.uint8 and read_image(r.channels[0]).max() == 255 for r in manifest)
    assert prepare(tmp_path / "raw", tmp_path / "deep", "--intensity", "0", "16383") == 0
    assert Manifest.read(tmp_path / "deep").info.intensity["high"] == 16383.0


def test_hounsfield_units_have_one_zero(tmp_path, capsys):
    for i in range(4):
        write(tmp_path / "raw" / f"{i}", square(seed=i), bits=12, PatientID=str(i), RescaleSlope=1, RescaleIntercept=-1024)
    assert prepare(tmp_path / "raw", tmp_path / "out") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert manifest.info.intensity == {"low": 32768.0 - 1024, "high": 32768.0 + 3071}
    np.testing.assert_array_equal(read_image(manifest[0].channels[0]), square(seed=0).astype(int) - 1024 + 32768)
    write(tmp_path / "raw" / "5", square(seed=5), bits=12, PatientID="5")
    assert prepare(tmp_path / "raw", tmp_path / "out", "--intensity", "0", "65535") == 2
    assert "with and without negative values" in capsys.readouterr().err


def test_all_faults_at_once(tmp_path, capsys):
    root = tree(tmp_path / "raw")
    write(root / "frames", square(), bits=12, NumberOfFrames=3)
    (root / "text.dcm").write_text("no DICOM at all")
    data = (root / f"{SECRET}0" / "IM0").read_bytes()
    assert prepare(root, tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert "2 fault(s)" in err and "frames: found several frames" in err and "text.dcm: found a file that does not begin" in err
    (root / "frames").unlink()
    (root / "text.dcm").unlink()
    (root / "torn").write_bytes(data[:-20])  # shows when it is decoded
    assert prepare(root, tmp_path / "out") == 2
    assert "492 bytes of pixels; expected 512" in capsys.readouterr().err
    assert not (tmp_path / "out" / "dataset.yaml").exists()


def test_wrong_roots(tmp_path, capsys):
    assert prepare(tmp_path / "nothing", tmp_path / "out") == 2
    assert "no such folder" in capsys.readouterr().err
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.txt").write_text("")
    assert prepare(tmp_path / "raw", tmp_path / "out") == 2
    assert "no DICOM picture; 1 not DICOM" in capsys.readouterr().err


def test_links_stay_inside(tmp_path, capsys):
    root = tree(tmp_path / "raw")
    write(tmp_path / "elsewhere" / "a", square(seed=50), bits=12)
    (root / "folder").symlink_to(tmp_path / "elsewhere")  # not followed
    os.mkfifo(root / "pipe")  # never opened
    assert prepare(root, tmp_path / "out") == 0
    assert len(Manifest.read(tmp_path / "out")) == 12
    (root / "file").symlink_to(tmp_path / "elsewhere" / "a")
    assert prepare(root, tmp_path / "out") == 2
    assert "a link to a file outside the root" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:Invalid value for VR")  # pydicom, while the test writes such a file
@pytest.mark.parametrize("name", ["../../elsewhere/a", "/etc/passwd"])
def test_a_dicomdir_is_never_followed(tmp_path, name):
    root = tree(tmp_path / "raw")
    write(tmp_path / "elsewhere" / "a", square(seed=50), bits=12)
    record = Dataset()
    record.ReferencedFileID = name.split("/")
    write(root / "DICOMDIR", square(), bits=12, SOPClassUID=DICOMDIR, DirectoryRecordSequence=[record])
    assert prepare(root, tmp_path / "out") == 0
    assert len(Manifest.read(tmp_path / "out")) == 12


def test_samples_of_published_files(tmp_path, real_data, capsys):
    folder = real_data / "original_layouts" / "dicom" / "wrapped_by_us"
    if not folder.is_dir():
        pytest.skip("no DICOM samples")
    assert prepare(folder, tmp_path / "out", "--allow-unmarked", "--attributes", "sex", "age", "view") == 0
    manifest = Manifest.read(tmp_path / "out")
    assert len(manifest) == 4 and manifest.info.intensity["high"] == 4095.0
    assert {r.attributes["view"] for r in manifest} == {"PA", "AP"}

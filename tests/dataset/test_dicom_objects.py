"""Synthetic sets as DICOM: pixels and masks come back, and every object says that it is synthetic."""

import numpy as np
import pydicom
import pytest
from tiny_set import make

from synthrad.__main__ import main
from synthrad.data.images import read_image, read_mask

highdicom = pytest.importorskip("highdicom", reason="the extra `export` is not installed")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dcm")
    made = make(folder / "set", rows=6, source="synthetic")
    assert main(["prepare", "export", str(folder / "set"), str(folder / "out"), "--to", "dicom"]) == 0
    return made, folder / "out"


def test_pixels_and_attributes(exported):
    made, out = exported
    uids = set()
    for i, record in enumerate(made):
        image = pydicom.dcmread(out / f"{i + 1:06d}/image.dcm")
        np.testing.assert_array_equal(image.pixel_array, read_image(record.channels[0]))
        assert (image.SyntheticData, image.ConversionType, list(image.ImageType)) == ("YES", "SYN", ["DERIVED", "SECONDARY"])
        assert image.PatientName == f"SYNTHETIC^{i + 1:06d}" and image.BurnedInAnnotation == "NO"
        assert record.subject not in str(image)
        uids.add(image.SOPInstanceUID)
    assert len(uids) == len(made)


def test_every_object_says_that_it_is_synthetic_and_belongs_to_its_image(exported):
    made, out = exported
    objects = {p: pydicom.dcmread(p) for p in sorted(out.rglob("*.dcm"))}
    assert len({o.SOPInstanceUID for o in objects.values()}) == len(objects) == 2 * len(made)
    assert {o.StudyInstanceUID for o in objects.values()} == {next(iter(objects.values())).StudyInstanceUID}
    assert len({(o.SOPClassUID, o.SeriesInstanceUID) for o in objects.values()}) == 2
    for path, found in objects.items():
        image = objects[path.parent / "image.dcm"]
        assert (found.SyntheticData, found.ContentQualification) == ("YES", "RESEARCH") and list(found.ImageType)[0] == "DERIVED"
        assert found.PatientID == image.PatientID == f"SYNTHETIC-{path.parent.name}" and found.PatientBirthDate == "" and "SYNTHETIC" in found.SeriesDescription
        if found is not image:
            assert found.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4" and found.FrameOfReferenceUID == image.FrameOfReferenceUID
            assert found.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
        else:
            assert "SYNTHETIC" in found.DerivationDescription and (found.PatientIdentityRemoved, found.Modality) == ("YES", "OT")


def test_what_was_drawn_is_not_read_as_a_patient(exported, tmp_path, capsys):
    _, out = exported
    assert main(["prepare", "dicom", str(out), str(tmp_path / "again"), "--window", "window"]) == 2
    assert "a synthetic image (Synthetic Data is YES)" in capsys.readouterr().err and not (tmp_path / "again" / "dataset.yaml").exists()


def test_segments(exported):
    made, out = exported
    for i, record in enumerate(made):
        seg = highdicom.seg.segread(out / f"{i + 1:06d}/tooth.dcm")
        mask = read_mask(record.masks[0])
        names = [s.segment_label for s in seg.SegmentSequence]
        assert names == [n for k, n in enumerate(("crown", "root"), 1) if (mask == k).any()] and seg.SyntheticData == "YES"
        frames = seg.pixel_array.reshape(-1, *mask.shape)
        for name, frame in zip(names, frames, strict=True):
            np.testing.assert_array_equal(frame > 0, mask == 1 + ["crown", "root"].index(name))


def test_the_same_set_gives_the_same_objects(exported, tmp_path):
    from synthrad.dataset import dicom_objects

    made, out = exported
    dicom_objects.export(made, tmp_path / "again")
    for path in sorted(out.rglob("image.dcm")):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(out)).read_bytes()


def test_real_images_are_refused(tmp_path, capsys):
    make(tmp_path / "set", rows=6)
    assert main(["prepare", "export", str(tmp_path / "set"), str(tmp_path / "out"), "--to", "dicom"]) == 2
    assert "found real images; expected a synthetic set" in capsys.readouterr().err and not (tmp_path / "out").exists()

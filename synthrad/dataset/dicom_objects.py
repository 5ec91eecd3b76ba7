"""Synthetic images as DICOM: secondary captures that say `synthetic` where the standard has a place for it, masks as DICOM SEG.

PS3.3: Image Type DERIVED\\SECONDARY (C.7.6.1), Conversion Type SYN, synthetic image (C.8.6.1), Synthetic Data (0008,001C) YES
(C.12.1, SOP Common), Burned In Annotation NO, Content Qualification RESEARCH (C.8.13.2.1.1). `synthrad prepare` refuses such
files as images of patients. Every UID is new and comes from the set's digest: the same set gives the same objects.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from synthrad.data.images import read_image, read_mask
from synthrad.dataset.plain_copy import open_folder
from synthrad.errors import InputError
from synthrad.progress import progress
from synthrad.records import Manifest, Record

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DATE, TIME = "19000101", "000000"  # nobody was examined; the standard wants a date
WORDS = "SYNTHETIC: drawn by a generative model; shows no patient"


def export(manifest: Manifest, out: Path | str) -> list[Path]:
    """Write <number>/image.dcm and <number>/<layer>.dcm of every image, <channel>.dcm where there are several; returns the images.

    Args:
        manifest: a synthetic set. out: a new folder.

    Raises:
        InputError: real images, or highdicom is not installed and there are masks.
    """
    if not (manifest.column("source") == "synthetic").all():
        raise InputError(manifest.info.name, "real images", "a synthetic set: DICOM of patients is made by their hospital", "export it as coco or croissant")
    if manifest.info.layers:
        _highdicom()
    out, written = open_folder(out), []
    study = _uid(manifest.digest, "study")
    for i, record in enumerate(progress(manifest, desc="writing DICOM", total=len(manifest), unit="image")):
        folder = out / f"{i + 1:06d}"
        folder.mkdir()
        images = []
        for channel, path in zip(manifest.info.channels, record.channels, strict=True):
            image = _capture(manifest, read_image(path), i, channel, study)
            image.save_as(folder / f"{'image' if len(record.channels) == 1 else channel}.dcm", enforce_file_format=True)
            images.append(image)
        _segment(manifest, record, images[0], folder, i)
        written.append(folder)
    return written


def _uid(*parts: object) -> str:
    from pydicom.uid import generate_uid

    return generate_uid(entropy_srcs=["synthrad", *map(str, parts)])


def _capture(manifest: Manifest, pixels: np.ndarray, i: int, channel: str, study: str) -> Any:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    image, bits = Dataset(), 16 if pixels.dtype == np.uint16 else 8
    image.SpecificCharacterSet = "ISO_IR 192"  # names of channels are the set's
    image.SOPClassUID = SECONDARY_CAPTURE
    image.SOPInstanceUID = _uid(manifest.digest, i, channel)
    image.StudyInstanceUID, image.SeriesInstanceUID = study, _uid(manifest.digest, "series", channel)
    image.FrameOfReferenceUID = _uid(manifest.digest, i, "frame")
    image.PatientID, image.PatientName = f"SYNTHETIC-{i + 1:06d}", f"SYNTHETIC^{i + 1:06d}"
    image.PatientBirthDate = image.PatientSex = image.AccessionNumber = image.ReferringPhysicianName = ""
    image.PatientComments = image.ImageComments = WORDS
    image.StudyDate = image.ContentDate = DATE
    image.StudyTime = image.ContentTime = TIME
    image.StudyID, image.SeriesNumber, image.InstanceNumber = "1", manifest.info.channels.index(channel) + 1, i + 1
    image.StudyDescription, image.SeriesDescription = "SYNTHETIC", f"SYNTHETIC {channel}"[:64]
    image.Modality, image.ConversionType, image.SyntheticData = "OT", "SYN", "YES"
    image.Manufacturer, image.SecondaryCaptureDeviceManufacturer = "synthrad", "synthrad"
    image.ImageType, image.DerivationDescription = ["DERIVED", "SECONDARY"], WORDS
    image.ContentQualification = "RESEARCH"
    image.BurnedInAnnotation, image.PatientIdentityRemoved, image.DeidentificationMethod = "NO", "YES", "no patient"
    image.PatientOrientation = ""
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated = image.BitsStored = bits
    image.HighBit, image.PixelRepresentation = bits - 1, 0
    low, high = manifest.info.intensity["low"], manifest.info.intensity["high"]
    image.WindowCenter, image.WindowWidth = (low + high) / 2, max(high - low, 1)
    data = np.ascontiguousarray(pixels).tobytes()
    image.PixelData = data + b"\0" * (len(data) % 2)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID, image.file_meta.MediaStorageSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    image["PixelData"].VR = "OW" if bits == 16 else "OB"
    return image


def _highdicom() -> Any:
    try:
        import highdicom
    except ImportError as e:
        raise InputError("--to dicom", "no highdicom", "the extra `export`, which writes masks as DICOM SEG", "pip install 'synthrad[export]'") from e
    return highdicom


def _segment(manifest: Manifest, record: Record, image: Any, folder: Path, i: int) -> None:
    """One SEG object a layer, a segment a structure that is there."""
    for (layer, structures), path in zip(manifest.info.layers.items(), record.masks, strict=True):
        if path is None:
            continue
        mask = read_mask(path)
        there = [k for k in range(1, len(structures) + 1) if (mask == k).any()]
        if not there:
            continue  # an empty SEG is no valid object
        planes = np.stack([mask == k for k in there], axis=-1)[None]
        made = _highdicom().seg.Segmentation(
            source_images=[image], pixel_array=planes.astype(np.uint8), segmentation_type="BINARY",
            segment_descriptions=[_description(n, structures[k - 1], layer) for n, k in enumerate(there, 1)],
            series_instance_uid=_uid(manifest.digest, "seg", layer), series_number=100 + list(manifest.info.layers).index(layer),
            sop_instance_uid=_uid(manifest.digest, i, "seg", layer), instance_number=i + 1, manufacturer="synthrad",
            manufacturer_model_name="synthrad", software_versions="0.1", device_serial_number="0", omit_empty_frames=False,
            series_description=f"SYNTHETIC {layer}"[:64],
        )
        made.SyntheticData, made.ContentQualification = "YES", "RESEARCH"
        made.save_as(folder / f"{layer}.dcm")


def _description(number: int, structure: str, layer: str) -> Any:
    hd = _highdicom()
    from highdicom.sr.coding import CodedConcept

    return hd.seg.SegmentDescription(
        segment_number=number, segment_label=structure[:64],
        segmented_property_category=CodedConcept("85756007", "SCT", "Tissue"),
        segmented_property_type=CodedConcept(f"{layer}-{structure}"[:16], "99SYNTHRAD", structure[:64]),
        algorithm_type="AUTOMATIC",
        algorithm_identification=hd.AlgorithmIdentificationSequence(name="synthrad generator", version="0.1", family=CodedConcept("123109", "DCM", "Artificial Intelligence")),
    )

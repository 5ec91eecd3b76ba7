"""Gate: mutated DICOM files, a DICOMDIR and links that lead out, and 30 identifiers in headers and private tags.

Plain, RLE, JPEG 2000, JPEG-LS and lossless JPEG. Short forms of what is judged: tests/data/test_dicom.py; how: tests/test_hostile_files.py.
"""

import numpy as np
import pytest
import tiny_dicom
from canaries import CANARIES, hits
from forks import forks
from mutants import in_place, judged, mutants, of_bytes, told
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from test_canaries import said
from test_hostile_paths import Watch, hostile, links, world

from synthrad.records import Manifest

pytestmark = [pytest.mark.gate, forks, pytest.mark.filterwarnings("ignore::UserWarning")]
SYNTAXES = {"plain": None, "RLE": tiny_dicom.RLE, "JPEG 2000": tiny_dicom.JPEG_2000, "JPEG-LS": tiny_dicom.JPEG_LS, "lossless JPEG": tiny_dicom.JPEG_LOSSLESS}
NUMBER = 70  # of each


def tree(root, compress=None, **tags):
    """Six patients, one picture each; the victim, the command."""
    for k in range(6):
        tiny_dicom.write(root / f"p{k}" / f"{k}.dcm", tiny_dicom.square(64, seed=k), compress, bits=12, PatientID=f"P{k}", PatientName=f"N{k}", **tags)
    return root / "p2" / "2.dcm", ["prepare", "dicom", str(root), str(root.parent / "out"), "--name", "set", "--skip-near-copies"]


@pytest.mark.parametrize("kind", SYNTAXES)
def test_mutants(tmp_path, tally, kind):
    path, argv = tree(tmp_path / "root", SYNTAXES[kind])
    assert told(argv, path.name) == "" and len(Manifest.read(tmp_path / "out")) == 6
    made = mutants(path.read_bytes(), of_bytes, NUMBER, kind)
    tally("Mutated files", NUMBER, [f"{kind}, mutant {k}: {w}" for k, w in enumerate(judged(made, in_place(path, argv))) if w])


def dicomdir(root, name: str) -> None:
    """A DICOMDIR whose only record names a file."""
    record, made = Dataset(), tiny_dicom.dataset(tiny_dicom.square())
    record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", name.split("/")
    for tag in ("PixelData", "Rows", "Columns"):
        delattr(made, tag)
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    made.DirectoryRecordSequence = Sequence([record])
    made.save_as(root / "DICOMDIR", enforce_file_format=True)


def test_paths(tmp_path, tally):
    root, target = world(tmp_path)
    tiny_dicom.write(target, tiny_dicom.square(seed=9), bits=12)
    _, argv = tree(root)
    names = [n for n in hostile(root, target) if n.isascii() and "\0" not in n and len(n) < 500]
    watches = []

    def take(name: str) -> str:
        if not watches:
            watches.append(Watch(target.parent, tmp_path / "rooted"))
        dicomdir(root, name)
        wrong = told(argv, "")
        opened, watches[0].opened = watches[0].opened, []
        return wrong or "; ".join(opened)

    lost = [f"DICOMDIR, {n[:60]!r}: {w}" for n, w in zip(names, judged(names, take), strict=True) if w]
    links(root, target)

    def follow(_) -> str:
        watch = Watch(target.parent, tmp_path / "rooted")
        wrong = told(argv, "")
        return wrong or "; ".join(watch.opened)

    lost += [f"links in the tree: {w}" for w in judged([None], follow) if w]
    tally("Hostile paths", len(names) + 1, lost)


def test_identifiers(tmp_path, monkeypatch, tally):
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(tmp_path / "project"))
    keywords = ("PatientName PatientID OtherPatientNames PatientAddress PatientMotherBirthName InstitutionName InstitutionAddress ReferringPhysicianName "
             "PerformingPhysicianName OperatorsName StudyDescription SeriesDescription AccessionNumber StationName PatientComments ImageComments StudyID "
             "RequestingPhysician DeviceSerialNumber ProtocolName").split()  # fmt: skip
    root = tmp_path / "root"
    for k in range(6):
        made = tiny_dicom.dataset(tiny_dicom.square(seed=k), bits=12)
        for word, name in zip(CANARIES, keywords, strict=False):
            setattr(made, name, f"{word}{k}"[:16])
        block = made.private_block(0x0011, CANARIES[20], create=True)
        for j, word in enumerate(CANARIES[21:28]):
            block.add_new(j, "LO", word)
        folder = root / CANARIES[28] / f"{CANARIES[29]}{k}"
        folder.mkdir(parents=True)
        made.save_as(folder / f"{CANARIES[29]}.dcm", enforce_file_format=True)
    assert len({h.split(": ")[1] for h in hits(root)}) == len(CANARIES)
    log = said(["prepare", "dicom", str(root), str(tmp_path / "out"), "--name", "set", "--skip-near-copies"])
    lost = hits(tmp_path / "out") + [f"said: {w}" for w in CANARIES if w in log]
    assert len(Manifest.read(tmp_path / "out")) == 6 and np.asarray(Image.open(Manifest.read(tmp_path / "out")[0].channels[0])).size == 256
    tally("Identifiers in outputs", len(CANARIES), lost)

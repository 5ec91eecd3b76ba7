"""Small DICOM files for the tests of its pixels and of the readers built on it."""

import struct
from pathlib import Path

import numpy as np
import pytest
from openjpeg.utils import encode_array
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from synthrad.data.dicom import read_dicom
from synthrad.errors import InputError

DX = "1.2.840.10008.5.1.4.1.1.1.1"  # Digital X-Ray Image Storage - For Presentation
RLE, JPEG, JPEG_LS, JPEG_2000, JPEG_2000_LOSSY, JPEG_LOSSLESS = (f"1.2.840.10008.1.2.{n}" for n in ("5", "4.50", "4.80", "4.90", "4.91", "4.70"))
LENGTHS = (2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 16)  # bits of the code of a category, in the lossless JPEG that we write
SECRET = "CANARY^IDA"  # a name that must show nowhere


def dataset(pixels: np.ndarray, bits: int | None = None, syntax: str = ExplicitVRLittleEndian, **tags) -> FileDataset:
    """A radiograph of the pixels ([H, W] or [H, W, 3], signed or not) that says NO to burned-in text; tags replace or, with None, drop."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID = UID(tags.get("SOPClassUID") or DX)
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(sorted(tags.items(), key=str)), pixels.tobytes().hex()])
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128, is_implicit_VR=implicit, is_little_endian=little)
    allocated = pixels.dtype.itemsize * 8
    bits = bits or allocated
    plain = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "PatientName": SECRET,
        "PatientID": "4711-" + SECRET,
        "PatientBirthDate": "19650401",
        "Modality": "DX",
        "BurnedInAnnotation": "NO",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 3 if pixels.ndim == 3 else 1,
        "PhotometricInterpretation": "RGB" if pixels.ndim == 3 else "MONOCHROME2",
        "BitsAllocated": allocated,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(np.issubdtype(pixels.dtype, np.signedinteger)),
    }
    if pixels.ndim == 3:
        plain["PlanarConfiguration"] = 0
    for name, value in (plain | tags).items():
        if value is not None:
            setattr(made, name, value)
    data = pixels.tobytes()
    made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OB" if allocated == 8 else "OW"
    return made


def encapsulated(made: FileDataset, stream: bytes, syntax: str) -> FileDataset:
    """The dataset with a compressed code stream instead of its pixels."""
    made.file_meta.TransferSyntaxUID = UID(syntax)
    made.PixelData = encapsulate([stream])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    return made


def write(path: Path, pixels: np.ndarray, compress: str | None = None, **tags) -> Path:
    """Write such a radiograph, where `compress` is given in that transfer syntax; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = dataset(pixels, **tags)
    if compress in (JPEG_2000, JPEG_2000_LOSSY):
        made = encapsulated(made, encode_array(pixels, bits_stored=tags.get("bits"), photometric_interpretation=1 + (pixels.ndim < 3)), compress)
    elif compress == JPEG_LOSSLESS:
        made = encapsulated(made, lossless_jpeg(pixels.view(f"u{pixels.itemsize}") & ((1 << (tags.get("bits") or 8 * pixels.itemsize)) - 1), tags.get("bits") or 8 * pixels.itemsize), compress)
    elif compress:
        made.compress(UID(compress), generate_instance_uid=False)
    made.save_as(path, enforce_file_format=True)
    return path


def lut_item(entries, first: int = 0, bits: int = 8) -> Dataset:
    """An item of a Modality LUT or VOI LUT sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries), first, bits])
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    return item


def square(size: int = 16, bits: int = 12, seed: int = 0) -> np.ndarray:
    """[size, size] uint16 (uint8 for up to 8 bits) noise with a bright square."""
    values = np.random.default_rng(seed).integers(0, 1 << (bits - 1), (size, size))
    values[size // 4 : size // 2, size // 4 : size // 2] = (1 << bits) - 1
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def refused(path, match, **options):
    """read_dicom refuses the file in words that match and that repeat nothing of its header."""
    with pytest.raises(InputError, match=match) as e:
        read_dicom(path, **options)
    text = str(e.value)
    assert str(path) in text and "CANARY" not in text and "4711" not in text
    assert e.value.__cause__ is None  # a traceback would print what pydicom quotes
def lossless_jpeg(samples: np.ndarray, bits: int, predictor: int = 1, restart: int = 0, shift: int = 0) -> bytes:
    """A code stream of process 14 (T.81 Annex H), sample by sample as the text says it.

    Args:
        samples: [H, W] unsigned. bits: of a sample. predictor: 1 to 7. restart: rows between markers, 0 for none. shift: point transform.
    """
    values, (rows, columns) = (samples.astype(int) >> shift).tolist(), samples.shape
    codes, code, before = {}, 0, LENGTHS[0]
    for category, length in enumerate(LENGTHS):
        code <<= length - before
        codes[category], code, before = format(code, f"0{length}b"), code + 1, length

    def guess(y: int, x: int) -> int:
        first = y % restart == 0 if restart else y == 0
        if first:
            return 1 << (bits - shift - 1) if x == 0 else values[y][x - 1]
        if x == 0:
            return values[y - 1][0]
        a, b, c = values[y][x - 1], values[y - 1][x], values[y - 1][x - 1]
        return (a, b, c, a + b - c, a + ((b - c) >> 1), b + ((a - c) >> 1), (a + b) >> 1)[predictor - 1]

    parts, said = [], ""
    for y in range(rows):
        if restart and y and y % restart == 0:
            parts.append(said)
            said = ""
        for x in range(columns):
            difference = (values[y][x] - guess(y, x)) % 65536
            difference -= 65536 if difference > 32768 else 0
            category = abs(difference).bit_length()
            said += codes[category]
            if 0 < category < 16:
                said += format(difference if difference > 0 else difference + (1 << category) - 1, f"0{category}b")
    packed = [int(p + "1" * (-len(p) % 8), 2).to_bytes(-(-len(p) // 8), "big").replace(b"\xff", b"\xff\0") for p in [*parts, said]]
    data = b"".join(p + (bytes([0xFF, 0xD0 + k % 8]) if k + 1 < len(packed) else b"") for k, p in enumerate(packed))
    counts = bytes(LENGTHS.count(n) for n in range(1, 17))
    marks = [(0xC4, b"\0" + counts + bytes(range(17))), (0xC3, struct.pack(">BHHBBBB", bits, rows, columns, 1, 1, 0x11, 0))]
    marks += [(0xDD, struct.pack(">H", restart * columns))] if restart else []
    marks += [(0xDA, bytes([1, 1, 0, predictor, 0, shift]))]
    return b"\xff\xd8" + b"".join(bytes([0xFF, m]) + struct.pack(">H", len(b) + 2) + b for m, b in marks) + data + b"\xff\xd9"

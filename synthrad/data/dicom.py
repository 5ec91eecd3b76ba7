"""DICOM files: one grey picture and the few facts of its header that a study may use; nothing else of the header leaves here.

A file is untrusted: what it declares is compared with what it holds before anything is decoded, and every way in which it can
be wrong ends in one InputError that names the file and the reason. No message, log or manifest ever holds a value of the
header: any field may hold a name.
"""

from __future__ import annotations

import io
import logging
import struct
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from synthrad.data.ages import parse_age
from synthrad.data.dicom_fields import number, text
from synthrad.data.dicom_greys import GreyTable, grey_table
from synthrad.data.dicom_pixels import AGAIN, stored_pixels
from synthrad.errors import InputError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MOST_PIXELS = 50_000_000  # of a picture, as for PNG and JPEG: a digitised film mammogram has 35 million
MOST_BYTES = 1 << 28  # of a file: a picture of the most pixels has 150 million in colour, 100 million in grey
BURNED_IN = ("no", "unstated", "yes")  # what a file says of text in its pixels; `yes` is also all that is not NO
GREY, COLOUR = ("MONOCHROME1", "MONOCHROME2"), ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_DEFLATED = "1.2.840.10008.1.2.1.99"
_VIEWS = ("PA", "AP", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "LAT", "LATERAL", "CC", "MLO", "ML", "LM", "LMO", "XCCL", "XCCM")
_MODALITIES = ("CR", "DX", "MG", "CT", "MR", "US", "PX", "IO", "XA", "RF", "RG", "NM", "PT", "OP", "OCT", "XC", "ES", "GM", "SM")
_WANTED = (
    "SOPClassUID SyntheticData Modality PatientID PatientSex PatientAge ViewPosition BurnedInAnnotation Rows Columns SamplesPerPixel "
    "PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation NumberOfFrames PlanarConfiguration "
    "PixelPaddingValue PixelPaddingRangeLimit RescaleSlope RescaleIntercept ModalityLUTSequence VOILUTSequence WindowCenter WindowWidth VOILUTFunction"
).split()


@dataclass(frozen=True)
class Facts:
    """What a header says that a study may use.

    Args:
        kind: "image", or what it is instead: the name of its SOP class, DICOMDIR.
        rows, columns: of the picture.
        sex: M, F, O or "". age: in whole years, 90 for all above 89 (an age beyond tells who it is), or "".
        view, modality: a term of the standard, "other", or "".
        burned_in: what the file says of text in its pixels, one of BURNED_IN.
        low, high, shifted: of the grey levels that the header allows, see GreyTable.
        patient: PatientID without outer blanks: to be hashed, and shown nowhere.
    """

    kind: str
    rows: int = 0
    columns: int = 0
    sex: str = ""
    age: str = ""
    view: str = ""
    modality: str = ""
    burned_in: str = "unstated"
    low: int = 0
    high: int = 255
    shifted: bool = False
    patient: str = field(default="", repr=False)


def is_dicom(path: Path | str) -> bool:
    """Whether a file begins as DICOM files do (PS3.10: 128 bytes, then DICM)."""
    with open(path, "rb") as f:
        return f.read(132)[128:] == b"DICM"


def read_header(path: Path | str, window: str = "none") -> Facts:
    """The facts of a file, checked, without its pixels.

    Args:
        path: of the file. window: see `read_dicom`.

    Raises:
        InputError: not a DICOM file, or a picture that read_dicom would refuse by its header.
    """
    with _opened(path) as stream:
        header = _parsed(path, stream, pixels=False)
    return _facts(header, window, str(path))


def read_dicom(path: Path | str, window: str = "none", burned_in: str = "no") -> tuple[np.ndarray, Facts]:
    """Read one grey picture.

    MONOCHROME1 is inverted, so that dense is bright as in MONOCHROME2; padding is the darkest level. Colour of 8 bit becomes grey by ITU-R 601 luma.

    Args:
        path: of the file.
        window: none gives the values after the Modality LUT (rescale slope and intercept), in whole numbers, plus 32768
            where the header allows negative ones; window gives the file's first VOI LUT or window as 0-255.
        burned_in: how much text in the pixels is accepted: "no" takes files that say BurnedInAnnotation NO, "unstated" also
            those that say nothing, "yes" all.

    Returns:
        [H, W] uint8 or uint16, and the facts.

    Raises:
        InputError: a file that is missing, no DICOM, no single picture, of a kind that is not read, declared larger than what
            it holds, truncated, or that may have text in its pixels.
    """
    where = str(path)
    with _opened(path, MOST_BYTES) as stream:
        header = _parsed(path, stream, pixels=True)
    facts = _facts(header, window, where)
    if facts.kind != "image":
        raise InputError(where, f"no image ({facts.kind})", "an image", "leave it out")
    check_burned_in(facts, burned_in, where)
    pixels = stored_pixels(header, where)
    if pixels.ndim == 3:
        return np.array(Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8)).convert("L")), facts
    codes = pixels.astype(pixels.dtype.newbyteorder("="), copy=False).view(f"u{pixels.dtype.itemsize}") & ((1 << int(number(header, "BitsStored", where) or 0)) - 1)
    return grey_table(header, window, where).apply(codes, where), facts


def check_burned_in(facts: Facts, accepted: str, where: str) -> None:
    """Refuse a picture that may have text in its pixels, such as the patient's name.

    Raises:
        InputError: the file says more than `accepted` (see read_dicom).
    """
    if BURNED_IN.index(facts.burned_in) <= BURNED_IN.index(accepted):
        return
    unstated = facts.burned_in == "unstated"
    raise InputError(
        where,
        "no word on text in the pixels (BurnedInAnnotation is missing)" if unstated else "text in the pixels (BurnedInAnnotation is not NO)",
        "BurnedInAnnotation NO",
        "look at the pictures; if no name or date is in them, add " + ("--allow-unmarked" if unstated else "--allow-burned-in"),
    )


class _Bounded(io.BufferedReader):
    """A file that never asks for more memory than it has bytes left: a header may declare four gigabytes."""

    def __init__(self, raw: io.FileIO, size: int):
        super().__init__(raw)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def _opened(path: Path | str, most: int | None = None) -> BinaryIO:
    """The file, of at most so many bytes.

    Raises:
        InputError: no file, or too large.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError(str(path), "no such file", "a DICOM file")
        size = path.stat().st_size
        if most is not None and size > most:
            raise InputError(str(path), f"a file of {size:,} bytes", f"at most {most:,}", "split it into single frames")
        return _Bounded(io.FileIO(path), size)
    except (OSError, ValueError) as e:
        if isinstance(e, InputError):
            raise
        raise InputError(str(path), f"a file that cannot be opened ({type(e).__name__})", "a DICOM file") from None


def _parsed(path: Path | str, stream: BinaryIO, pixels: bool) -> Dataset:
    """The header of a file, with or without its pixel data.

    Raises:
        InputError: no DICOM file, a broken one, or a transfer syntax that is not read.
    """
    from pydicom import dcmread

    _quiet()
    syntax = _transfer_syntax(path, stream)
    if syntax == _DEFLATED:
        raise InputError(str(path), "a deflated file", "a file whose header is not packed", "inflate it, e.g. with `dcmconv --write-xfer-little IN OUT`")
    stream.seek(0)
    try:
        return dcmread(stream, stop_before_pixels=not pixels, specific_tags=[*_WANTED, *["PixelData"] * pixels])
    except Exception as e:  # pydicom raises what the bytes lead it to; its words may quote them
        raise InputError(str(path), f"a file that is broken or cut off ({type(e).__name__})", "a whole DICOM file", AGAIN) from None


def _transfer_syntax(path: Path | str, stream: BinaryIO) -> str:
    """From the file meta group (PS3.10 7.1), which is always explicit and little endian."""
    head = stream.read(132)
    if head[128:] != b"DICM":
        raise InputError(str(path), "a file that does not begin as DICOM (128 bytes, then DICM)", "a DICOM file", AGAIN)
    while len(head := stream.read(8)) == 8 and stream.tell() < 1 << 20:
        group, element, kind, length = struct.unpack("<HH2sH", head)
        if group != 2:
            break
        if kind in (b"OB", b"OW", b"UN", b"SQ", b"UT", b"OF", b"UC"):
            length = int.from_bytes(stream.read(4), "little")
        if element == 0x10:
            return stream.read(min(length, 64)).rstrip(b"\0 ").decode("ascii", "replace")
        stream.seek(length, io.SEEK_CUR)
    raise InputError(str(path), "no transfer syntax", "a file meta group that names one", AGAIN)


def _quiet() -> None:
    """Silence pydicom's warnings and log: they quote what is in the header."""
    if (log := logging.getLogger("pydicom")).level <= logging.CRITICAL:  # setting it clears what all loggers have cached
        log.setLevel(logging.CRITICAL + 1)
    quiet = r"pydicom|synthrad\.data\.dicom"
    if not any(getattr(f[3], "pattern", "") == quiet for f in warnings.filters):
        warnings.filterwarnings("ignore", module=quiet)


def _facts(header: Dataset, window: str, where: str) -> Facts:
    kind = _kind(header)
    if kind != "image":
        return Facts(kind)
    if text(header, "SyntheticData").upper() == "YES":
        raise InputError(where, "a synthetic image (Synthetic Data is YES)", "images of patients: nets would be tested on drawn ones",
                         "leave it out; a study takes a synthetic set by the manifest that `synthrad sample` writes")
    table = _check_kind(header, window, where)
    said = text(header, "BurnedInAnnotation").upper()
    sex, view, modality = (text(header, k).upper() for k in ("PatientSex", "ViewPosition", "Modality"))
    return Facts(
        kind,
        int(number(header, "Rows", where) or 0),
        int(number(header, "Columns", where) or 0),
        sex=sex if sex in ("M", "F", "O") else "",
        age=_age(text(header, "PatientAge")),
        view=_term(view, _VIEWS),
        modality=_term(modality, _MODALITIES),
        burned_in={"NO": "no", "": "unstated"}.get(said, "yes"),
        low=table.low,
        high=table.high,
        shifted=table.shifted,
        patient=text(header, "PatientID"),
    )


def _term(value: str, known: tuple[str, ...]) -> str:
    """A code only where the standard has it: the field may hold anything."""
    return value if value in known or not value else "other"


def _age(text: str) -> str:
    """Whole years of an age string (PS3.5: 058Y, 004M, 010D), also of a bare number, as some public sets have it."""
    try:
        years = parse_age(text.upper())
    except ValueError:
        return ""
    return "" if years is None else str(min(int(years), 90))


def _kind(header: Dataset) -> str:
    """ "image", or the standard's name of what it is instead."""
    from pydicom.uid import UID

    meta = getattr(header, "file_meta", None)
    uid = text(header, "SOPClassUID") or (text(meta, "MediaStorageSOPClassUID") if meta is not None else "")
    name = UID(uid).name
    if name == uid:  # private or missing: an image where it has a size
        return "image" if "Rows" in header else "an object without a known SOP class"
    if name == "Media Storage Directory Storage":
        return "DICOMDIR"
    return "image" if "Image Storage" in name else name


def _check_kind(header: Dataset, window: str, where: str) -> GreyTable:
    """The grey levels that the header allows.

    Raises:
        InputError: several frames, a size that is missing or too large, or a kind of pixel that is not read.
    """
    rows, columns, frames = (int(number(header, k, where) or 0) for k in ("Rows", "Columns", "NumberOfFrames"))
    if rows < 1 or columns < 1:
        raise InputError(where, f"Rows {rows} x Columns {columns}", "a picture of at least 1 x 1", AGAIN)
    if rows * columns > MOST_PIXELS:
        raise InputError(where, f"a picture of {rows * columns:,} pixels", f"at most {MOST_PIXELS:,}", "shrink it, or cut out what the task needs")
    if frames > 1:
        raise InputError(where, "several frames", "a single one", "write each frame that the task needs as a file of its own")
    allocated, stored, high = (int(number(header, k, where) or 0) for k in ("BitsAllocated", "BitsStored", "HighBit"))
    if allocated not in (8, 16) or not 1 <= stored <= allocated or high != stored - 1:
        raise InputError(where, f"BitsAllocated {allocated}, BitsStored {stored}, HighBit {high}",
                         "8 or 16 allocated, no more stored, HighBit one below BitsStored", AGAIN)
    colours = text(header, "PhotometricInterpretation").upper()
    samples = int(number(header, "SamplesPerPixel", where) or 0)
    if samples == 1 and colours in GREY:
        return grey_table(header, window, where)
    if samples == 3 and colours in COLOUR and allocated == stored == 8:
        return GreyTable(np.arange(256.0), 0, 255)
    found = colours if colours in (*GREY, *COLOUR, "PALETTE COLOR") else "an unknown PhotometricInterpretation"
    raise InputError(where, f"{found} with SamplesPerPixel {samples} and {stored} bit",
                     "MONOCHROME1 or MONOCHROME2, or RGB or YBR of 8 bit", "export it as grey")

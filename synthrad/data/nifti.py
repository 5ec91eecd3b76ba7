"""NIfTI volumes (.nii, .nii.gz) read with suspicion: what a header claims is compared with the file before anything of that size is made.

Orientation: a volume is turned to LPS, its axes then run toward the patient's left, back (posterior) and head (superior), by the nearest
permutation and flips that its affine names (sform, else qform, else NIfTI's default); nothing is interpolated. `stored` leaves the axes as
they lie in the file. Values are the stored ones times scl_slope plus scl_inter where the header has them. Of a header nothing but shape,
type, place of the voxels, scaling and affine is read: its text fields and extensions may name a patient.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from synthrad.errors import InputError

if TYPE_CHECKING:
    import nibabel

LARGEST = 2**28  # bytes of voxels, 256 MiB: 512 x 512 x 500 of 16 bit
DEFLATE = 1032  # no gzip stream gives more bytes out of one
BEHIND = 2**20  # bytes that may follow the voxels; a gzip stream is read to its end, where its checksum stands
FARTHEST = 1e6  # mm from the origin
EXTENSIONS = 2**24  # bytes between header and voxels
ORIENTATIONS = ("LPS", "stored")
_SIZES = {348: "Nifti1Header", 540: "Nifti2Header"}
_REPAIR = "copy or convert the file again; it has to open in an image viewer"


@dataclass(frozen=True)
class Volume:
    """A volume as stored, turned.

    Args:
        path: of the file.
        voxels: [x, y, z] in the file's type.
        slope, inter: value = slope * voxel + inter.
        affine: [4, 4], voxel to mm, of the turned voxels; identity where they are as stored.
        spacing_mm: of the three axes.
    """

    path: Path
    voxels: np.ndarray
    slope: float
    inter: float
    affine: np.ndarray
    spacing_mm: tuple[float, float, float]

    def values(self, index: Any = ...) -> np.ndarray:
        """float32 values of an index into the voxels."""
        part = self.voxels[index]
        if (self.slope, self.inter) == (1.0, 0.0):
            return part.astype(np.float32)
        return (part.astype(np.float64) * self.slope + self.inter).astype(np.float32)

    def labels(self) -> np.ndarray:
        """The values as whole numbers, uint16, [x, y, z].

        Raises:
            InputError: fractions, or numbers outside 0-65535.
        """
        if np.issubdtype(self.voxels.dtype, np.integer) and (self.slope, self.inter) == (1.0, 0.0):
            whole = self.voxels
        else:
            values = self.values()
            whole = np.rint(values)
            if (np.abs(whole - values) > 1e-3).any():
                found = values[np.abs(whole - values) > 1e-3][0]
                raise InputError(str(self.path), f"the value {found:g} in a mask", "whole numbers, one a structure",
                                 "take the file of labels, resampled by nearest neighbours")
        if whole.min(initial=0) < 0 or whole.max(initial=0) > 65535:
            raise InputError(str(self.path), f"values from {whole.min():g} to {whole.max():g} in a mask", "whole numbers from 0 to 65535")
        return whole.astype(np.uint16)


def read_volume(path: Path | str, orientation: str = "LPS", largest: int = LARGEST) -> Volume:
    """Read one volume.

    Args:
        path: .nii or .nii.gz; which of the two is told from the bytes.
        orientation: LPS or stored, see the module.
        largest: bytes of voxels that are read at most.

    Raises:
        InputError: no NIfTI file, a broken one, one that holds fewer bytes than its header claims, more than `largest`, not three axes,
            complex or colour voxels, values that are not finite, an affine that tells no orientation.
    """
    if orientation not in ORIENTATIONS:
        raise InputError("orientation", repr(orientation), f"one of {', '.join(ORIENTATIONS)}")
    path = Path(path)
    if path.exists() and not path.is_file():
        raise InputError(str(path), "no regular file", "a NIfTI volume", _REPAIR)  # a pipe has no end
    try:
        with open(path, "rb") as raw:
            size, packed = os.fstat(raw.fileno()).st_size, raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if packed else raw as stream:
                header = _header(path, stream)
                shape, dtype = _shape(path, header), _dtype(path, header)
                start = _start(path, header)
                wanted = math.prod(shape) * dtype.itemsize
                _check_claim(path, shape, wanted, start, size, packed, largest)
                voxels = np.frombuffer(_read(path, stream, start, wanted, packed), dtype).reshape(shape, order="F")
    except InputError:
        raise
    except (OSError, EOFError, zlib.error) as e:
        found = "no such file" if isinstance(e, FileNotFoundError) else f"a file that cannot be read ({e})"
        raise InputError(str(path), found, "a NIfTI volume", _REPAIR) from e
    slope, inter = _scaling(path, header, voxels)
    if orientation == "stored":
        return Volume(path, voxels, slope, inter, np.eye(4), tuple(abs(float(v)) for v in header["pixdim"][1:4]))
    return _turned(path, voxels, slope, inter, _affine(path, header))


def _header(path: Path, stream: IO[bytes]) -> nibabel.Nifti1Header:
    """The header of either version and byte order; the stream is behind the 540 bytes that the longer one has."""
    import nibabel

    block = stream.read(540)
    sizes = {int.from_bytes(block[:4], order) for order in ("little", "big")}
    size = next((s for s in _SIZES if s in sizes), None)
    if size is None or len(block) < size:
        raise InputError(str(path), "a file that does not begin with a NIfTI header", "a NIfTI volume (.nii or .nii.gz)", _REPAIR)
    header = getattr(nibabel, _SIZES[size])(block[:size], check=False)
    magic = bytes(header["magic"])
    if magic.startswith((b"ni1", b"ni2")):
        raise InputError(str(path), "one of a pair of files (.hdr and .img)", "header and voxels in one file", "convert it to .nii.gz")
    if not magic.startswith((b"n+1", b"n+2")):
        raise InputError(str(path), f"the magic word {magic[:4]!r}", "n+1 or n+2", _REPAIR)
    return header


def _shape(path: Path, header: nibabel.Nifti1Header) -> tuple[int, int, int]:
    """Three axes; further ones of length 1 are dropped."""
    count = int(header["dim"][0])
    shape = tuple(int(n) for n in header["dim"][1 : count + 1]) if 1 <= count <= 7 else ()
    core = shape[:3]
    if len(core) < 3 or min(shape, default=0) < 1 or max(shape[3:], default=1) > 1:
        found = f"{len(shape)} axes of {' x '.join(map(str, shape))}" if shape else f"dim[0] = {count}"
        raise InputError(str(path), found, "a volume of three axes", "split a series (time, diffusion directions) into volumes of their own")
    return core


def _dtype(path: Path, header: nibabel.Nifti1Header) -> np.dtype:
    from nibabel.spatialimages import HeaderDataError

    code = int(header["datatype"])
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as e:
        raise InputError(str(path), f"the datatype {code}", "a type that NIfTI knows", _REPAIR) from e
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(str(path), f"voxels of type {dtype} (datatype {code})", "whole or real numbers of up to 64 bit",
                         "convert colour or complex volumes to grey ones")
    return dtype


def _start(path: Path, header: nibabel.Nifti1Header) -> int:
    least = int(header["sizeof_hdr"]) + 4
    offset = float(header["vox_offset"])
    if not (np.isfinite(offset) and least <= offset <= EXTENSIONS and offset == int(offset)):
        raise InputError(str(path), f"voxels that begin at byte {offset:g}", f"a whole number from {least} to {EXTENSIONS}", _REPAIR)
    return int(offset)


def _check_claim(path: Path, shape: tuple[int, ...], wanted: int, start: int, size: int, packed: bool, largest: int) -> None:
    """Compare what the header claims with the file, before a byte of it is allocated."""
    claim = f"a header that claims {' x '.join(map(str, shape))} voxels ({_mib(wanted)})"
    most = size * DEFLATE if packed else size
    if start + wanted > most:
        held = f"a file of {size:,} bytes" + (f", which can hold {_mib(most)} at most" if packed else "")
        raise InputError(str(path), f"{claim} in {held}", "a file that holds its voxels", _REPAIR)
    if wanted > largest:
        raise InputError(str(path), claim, f"at most {_mib(largest)}", "crop or resample it, or raise the limit with --largest")


def _read(path: Path, stream: IO[bytes], start: int, wanted: int, packed: bool) -> bytearray:
    """The voxels' bytes, chunk by chunk, so that a short stream costs what it holds; a gzip stream up to its checksum."""
    stream.seek(start)
    data = bytearray()
    while len(data) < wanted:
        chunk = stream.read(min(2**22, wanted - len(data)))
        if not chunk:
            raise InputError(str(path), f"{len(data):,} bytes of voxels", f"{wanted:,}, as its header claims", _REPAIR)
        data += chunk
    if packed:
        behind = 0
        while chunk := stream.read(2**16):
            behind += len(chunk)
            if behind > BEHIND:
                raise InputError(str(path), f"more than {BEHIND:,} bytes behind the voxels", "a file that ends with them", _REPAIR)
    return data


def _scaling(path: Path, header: nibabel.Nifti1Header, voxels: np.ndarray) -> tuple[float, float]:
    """Slope and intercept; all values must be finite with them."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or np.isnan(slope):  # the standard: not scaled
        slope, inter = 1.0, 0.0
    with np.errstate(all="ignore"):
        ends = np.array([voxels.min(), voxels.max()], dtype=np.float64) * slope + inter  # NaN where any voxel is
        fits = np.isfinite(ends.astype(np.float32)).all()
    if not fits:
        bad = 0 if voxels.dtype.kind != "f" else int(voxels.size - np.isfinite(voxels).sum())
        found = f"{bad} voxels that are NaN or infinite" if bad else f"values from {ends.min():g} to {ends.max():g} (slope {slope:g}, intercept {inter:g})"
        raise InputError(str(path), found, "finite values", "find out what made them; do not let zeros take their place unseen")
    return slope, inter


def _affine(path: Path, header: nibabel.Nifti1Header) -> np.ndarray:
    from nibabel.spatialimages import HeaderDataError

    try:
        with np.errstate(all="ignore"):
            affine = np.array(header.get_best_affine(), dtype=np.float64)
            plausible = np.isfinite(affine).all() and np.abs(affine).max() < FARTHEST
            volume = abs(np.linalg.det(affine[:3, :3])) if plausible else 0.0
    except (HeaderDataError, ValueError, ArithmeticError, np.linalg.LinAlgError) as e:
        raise InputError(str(path), f"a header without orientation ({e})", "sform or qform", "--orientation stored takes the axes as they lie") from e
    if not volume > 1e-9:
        raise InputError(str(path), "an affine that is not finite, beyond any scanner, or flat", "one that gives each voxel its place",
                         "repair the header, or --orientation stored takes the axes as they lie")
    return affine


def _turned(path: Path, voxels: np.ndarray, slope: float, inter: float, affine: np.ndarray) -> Volume:
    from nibabel import orientations

    turn = orientations.ornt_transform(orientations.io_orientation(affine), orientations.axcodes2ornt("LPS"))
    if np.isnan(turn).any():
        raise InputError(str(path), "an affine that leaves an axis without a direction", "one that gives each axis a direction",
                         "repair the header, or --orientation stored takes the axes as they lie")
    moved = affine @ orientations.inv_ornt_aff(turn, voxels.shape)
    spacing = tuple(float(v) for v in np.sqrt((moved[:3, :3] ** 2).sum(0)))
    return Volume(path, orientations.apply_orientation(voxels, turn), slope, inter, moved, spacing)


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"

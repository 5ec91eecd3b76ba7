"""Volumes: what is read equals what nibabel reads, turned; every broken or hostile file is one message, before memory is spent."""

import gzip
import os
import struct
import tracemalloc

import nibabel
import numpy as np
import pytest

from synthrad.data.nifti import LARGEST, read_volume
from synthrad.errors import InputError

SHAPE = (5, 6, 7)


def voxels(dtype=np.int16, shape=SHAPE):
    return np.random.default_rng(0).integers(0, 1000, shape).astype(dtype)


def write(path, array, codes="LPS", version=1, slope=None, spacing=(1.0, 2.0, 3.0)):
    """A file whose axes run toward `codes`."""
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    turn = nibabel.orientations.axcodes2ornt(codes)
    affine = np.diag([*spacing, 1.0]) @ nibabel.orientations.inv_ornt_aff(turn, array.shape)
    image = kind(array, affine)
    if slope:
        image.header.set_slope_inter(*slope)
    nibabel.save(image, path)
    return path


def changed(path, place, form, *values, out=None):
    """A copy of a plain file with some bytes of its header replaced."""
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, place, *values)
    out = out or path.with_name("changed.nii")
    out.write_bytes(data)
    return out


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("codes", ["LPS", "RAS", "SPL", "IAR"])
def test_volumes_are_turned_to_lps(tmp_path, name, codes):
    array = voxels()
    path = write(tmp_path / name, array, codes)
    volume = read_volume(path)
    image = nibabel.load(path)
    turned = image.as_reoriented(nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.orientations.axcodes2ornt("LPS")))
    assert (volume.voxels == np.asarray(turned.dataobj)).all() and volume.values().dtype == np.float32
    assert np.allclose(volume.affine, turned.affine) and nibabel.aff2axcodes(volume.affine) == tuple("LPS")
    assert np.allclose(volume.spacing_mm, turned.header.get_zooms())
    assert (read_volume(path, "stored").voxels == array).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, ">i2", ">f4"])
@pytest.mark.parametrize("version", [1, 2])
def test_types_and_byte_orders(tmp_path, dtype, version):
    array = voxels(dtype) % 200
    kind = nibabel.Nifti1Header if version == 1 else nibabel.Nifti2Header
    header = kind(endianness=">" if str(dtype).startswith(">") else "<")
    header.set_data_dtype(dtype)
    image = (nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image)(array, np.eye(4), header)
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert (read_volume(tmp_path / "a.nii.gz", "stored").values() == array).all()


def test_slope_and_intercept(tmp_path):
    path = write(tmp_path / "a.nii", voxels(), slope=(0.5, -10.0))
    assert np.allclose(read_volume(path).values(), nibabel.load(path).get_fdata())
    for slope in (0.0, float("nan")):  # not scaled, says the standard
        volume = read_volume(changed(path, 112, "<ff", slope, 7.0))
        assert (volume.slope, volume.inter) == (1.0, 0.0)


def test_a_fourth_axis_of_one(tmp_path):
    nibabel.save(nibabel.Nifti1Image(voxels(shape=(*SHAPE, 1)), np.eye(4)), tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii").voxels.shape == SHAPE


def test_labels_are_whole_numbers(tmp_path):
    array = voxels(np.float32)
    assert (read_volume(write(tmp_path / "a.nii", array), "stored").labels() == array).all()
    array[0, 0, 0] = 1.5
    with pytest.raises(InputError, match="1.5 in a mask"):
        read_volume(write(tmp_path / "b.nii", array)).labels()
    with pytest.raises(InputError, match="-1 to"):
        read_volume(write(tmp_path / "c.nii", np.full(SHAPE, -1, np.int16))).labels()


@pytest.mark.parametrize("packed", [False, True])
def test_a_small_file_that_asks_for_gigabytes_is_refused_before_memory_is_spent(tmp_path, packed):
    """377 bytes that claim 18 GB (the report to nifti_clib), plain and compressed; and one that claims 2^60 by NIfTI-2."""
    whole = write(tmp_path / "a.nii", voxels(np.uint8, (5, 5, 1)))
    assert whole.stat().st_size == 377
    paths = [changed(whole, 42, "<hhh", 3000, 3000, 2000)]
    whole = write(tmp_path / "b.nii", voxels(np.uint8, (5, 5, 1)), version=2)
    paths.append(changed(whole, 24, "<qqq", 2**20, 2**20, 2**20, out=tmp_path / "two.nii"))
    for path in paths:
        if packed:
            path = path.with_name(f"{path.name}.gz")
            path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))
        read_volume(whole)  # what nibabel imports is no memory of the file
        tracemalloc.start()
        with pytest.raises(InputError, match="a header that claims .* in a file of"):
            read_volume(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.stop()


def test_a_bomb_that_keeps_its_promise_is_stopped_by_the_limit(tmp_path):
    path = changed(write(tmp_path / "a.nii", voxels(np.uint8)), 42, "<hhh", 1000, 1000, 300)
    head, bomb = path.read_bytes()[:352], tmp_path / "bomb.nii.gz"
    bomb.write_bytes(gzip.compress(head + bytes(300_000_000), 1))
    assert bomb.stat().st_size < LARGEST / 50
    with pytest.raises(InputError, match="286.1 MiB.*at most 256.0 MiB"):
        read_volume(bomb)
    small = changed(path, 42, "<hhh", 5, 6, 7, out=tmp_path / "small.nii").read_bytes()[:352]
    bomb.write_bytes(gzip.compress(small + bytes(5_000_000), 1))
    with pytest.raises(InputError, match="behind the voxels"):
        read_volume(bomb)


HEADERS = {
    "no axes": (40, "<h", 0, "dim"), "eight axes": (40, "<h", 8, "dim"), "two axes": (40, "<h", 2, "three axes"),
    "a negative axis": (42, "<h", -5, "three axes"), "an empty axis": (44, "<h", 0, "three axes"), "more voxels than bytes": (46, "<h", 8, "claims"),
    "unknown type": (70, "<h", 77, "datatype"), "complex": (70, "<h", 32, "whole or real"), "colour": (70, "<h", 128, "whole or real"),
    "wider type": (70, "<h", 64, "claims"), "voxels within the header": (108, "<f", 100.0, "begin at byte"), "NaN offset": (108, "<f", float("nan"), "begin at byte"),
    "huge offset": (108, "<f", 1e30, "begin at byte"), "late voxels": (108, "<f", 400.0, "claims"), "infinite slope": (112, "<f", float("inf"), "finite"),
    "NaN intercept": (116, "<f", float("nan"), "finite"), "magic": (344, "<4s", b"n+9\0", "magic"), "pair": (344, "<4s", b"ni1\0", "pair"),
    "NaN in the sform": (280, "<f", float("nan"), "affine"), "flat sform": (280, "<ffff", 0, 0, 0, 0, "affine"), "far sform": (292, "<f", 1e30, "affine"),
    "header size": (0, "<i", 347, "NIfTI header"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_make_no_sense(tmp_path, name):
    place, form, *values, said = HEADERS[name]
    path = changed(write(tmp_path / "a.nii", voxels()), place, form, *values)
    with pytest.raises(InputError, match=said) as e:
        read_volume(path)
    assert str(path) in str(e.value)


def test_a_qform_that_is_no_rotation(tmp_path):
    path = changed(write(tmp_path / "a.nii", voxels()), 252, "<hhfff", 1, 0, 3.0, 3.0, 3.0)
    with pytest.raises(InputError, match="orientation"):
        read_volume(path)
    assert read_volume(path, "stored").voxels.shape == SHAPE


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite(tmp_path, value):
    array = voxels(np.float32)
    array[1, 2, 3] = value
    with pytest.raises(InputError, match="1 voxels that are NaN or infinite"):
        read_volume(write(tmp_path / "a.nii.gz", array))


def test_cut_and_flipped_files(tmp_path):
    """Each truncation is refused, plain and compressed; each changed byte of a compressed file that changes what is in it, too."""
    path = write(tmp_path / "a.nii", voxels())
    whole = path.read_bytes()
    bad = tmp_path / "bad.nii"
    for end in (0, 1, 100, 347, 352, len(whole) // 2, len(whole) - 1):
        bad.write_bytes(whole[:end])
        with pytest.raises(InputError, match="bad.nii"):
            read_volume(bad)
    packed = gzip.compress(whole)
    for end in range(2, len(packed), 11):
        bad.write_bytes(packed[:end])
        with pytest.raises(InputError, match="bad.nii"):
            read_volume(bad)
    refused = 0
    for place in range(len(packed)):
        bad.write_bytes(packed[:place] + bytes([packed[place] ^ 0x10]) + packed[place + 1 :])
        try:
            read_volume(bad)
        except InputError as e:
            refused += "bad.nii" in str(e)
        else:
            assert gzip.decompress(bad.read_bytes()) == whole  # a date, or bits that deflate does not use
    assert refused > len(packed) - 20


def test_other_files(tmp_path):
    for content in (b"", b"\x1f\x8b", b"not a volume", b"\x89PNG" + bytes(600), gzip.compress(b"text")):
        (tmp_path / "a.nii").write_bytes(content)
        with pytest.raises(InputError, match="a.nii"):
            read_volume(tmp_path / "a.nii")
    os.mkfifo(tmp_path / "pipe.nii")
    for path in (tmp_path, tmp_path / "pipe.nii"):
        with pytest.raises(InputError, match="no regular file"):
            read_volume(path)
    with pytest.raises(InputError, match="no such file"):
        read_volume(tmp_path / "none.nii")
    with pytest.raises(InputError, match="orientation"):
        read_volume(tmp_path / "a.nii", "RAS")

"""A set in the making: other people's files are left alone, a failure leaves the older set, sets appear whole."""

import argparse
import os

import numpy as np
import pytest

from synthrad.data import processes
from synthrad.data.images import read_image
from synthrad.data.phantom_files import PhantomFolder
from synthrad.data.writing import Draft, check_splits, draft_folder
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError, InputErrors
from synthrad.records import Manifest

INFO = DatasetInfo("set", "set", layers={"tooth": ("crown", "root")})


def fill(folder: PhantomFolder, rows: int = 2) -> None:
    for row in range(rows):
        mask = np.zeros((8, 8), np.uint8)
        mask[:2] = 2
        folder.add(row, {"image": np.full((8, 8), row, np.uint8)}, {"tooth": mask if row else None}, {"subject": f"s{row}"})
    folder.columns["split"][:] = "train"


def test_masks_areas_and_digests(tmp_path):
    with PhantomFolder(tmp_path, INFO, 2, ("seed",)) as folder:
        fill(folder)
        made = folder.finish()
    assert made[0].masks == (None,) and made[0].areas == {} and made[0].mask_digest == ""
    assert made[1].areas == {"tooth/crown": 0.0, "tooth/root": 0.25} and made[1].masks[0].is_file()
    assert made[0].digest != made[1].digest


def test_a_failure_leaves_the_older_set(tmp_path):
    with PhantomFolder(tmp_path, INFO, 2, ()) as folder:
        fill(folder)
        before = folder.finish().digest
    with pytest.raises(RuntimeError), PhantomFolder(tmp_path, INFO, 1, ()) as folder:
        fill(folder, 1)
        raise RuntimeError
    assert Manifest.read(tmp_path).digest == before
    assert not list(tmp_path.glob(".draft-*"))


def test_only_folders_of_ours_are_taken(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a file"), draft_folder(tmp_path / "file"):
        pass
    with pytest.raises(InputError, match="other files"), draft_folder(tmp_path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    for _ in range(2):  # ours from the first call on
        with draft_folder(tmp_path / "new") as folder:
            assert folder.is_dir()
        assert not folder.exists()


def test_names_of_splits():
    (fault,) = check_splits(["train", "holdout", "test"])
    assert fault[0] == 1 and "'holdout'" in fault[1]


def test_stored_images_are_plain_pngs_of_the_set(tmp_path):
    from PIL import Image

    info = DatasetInfo("two", "two", channels=("t1", "flair"))
    (tmp_path / "raw").mkdir()
    arguments = argparse.Namespace(fractions=(1.0, 0, 0, 0), seed=0, copy=True, intensity=(0.0, 4095.0))
    pixels = [np.full((4, 5), 4095, np.uint16), np.arange(20, dtype=np.uint8).reshape(4, 5)]
    with Draft(tmp_path / "out", tmp_path / "raw", info, 1, "here") as draft:
        draft.columns["subject"][0] = "a"
        draft.columns["split"][0] = "train"
        assert draft.store_image(0, "s0", pixels) == (4, 5)
        with pytest.raises(InputError, match="of one size"):
            draft.store_image(0, "s0", [pixels[0], pixels[1].T])
        made = draft.finish(arguments)
    assert [p.relative_to(tmp_path / "out").as_posix() for p in made[0].channels] == ["images/t1/s0.png", "images/flair/s0.png"]
    for path, wanted in zip(made[0].channels, pixels, strict=True):
        np.testing.assert_array_equal(read_image(path), wanted)
        assert not Image.open(path).text  # nothing but pixels


def read_set(tmp_path, work, rows=12, out="out", **options):
    """A set whose rows are filled by work(draft, row); what `each` gave, and the manifest."""
    info = DatasetInfo("set", "set", classes=("even",), layers={"tooth": ("crown", "root")}, attributes=("view",))
    arguments = argparse.Namespace(fractions=(1.0, 0, 0, 0), seed=0, copy=False, intensity=None, workers=2)
    (tmp_path / "raw").mkdir(exist_ok=True)
    with Draft(tmp_path / out, tmp_path / "raw", info, rows, "here", args=arguments) as draft:
        draft.columns["subject"][:] = [f"s{k}" for k in range(rows)]
        returned = draft.each(lambda row: work(draft, row), **options)
        return returned, draft.finish(arguments)


def one_row(draft, row):
    draft.store_image(row, f"{row:03d}", [np.full((4, 4), row * 10, np.uint8)])
    draft.add_masks(row, f"{row:03d}", {"tooth": np.full((4, 4), row % 3, np.uint8) if row else None})
    draft.columns["label:even"][row] = np.float64(row % 2 == 0) if row % 3 else np.nan
    draft.columns["attribute:view"][row] = np.str_("PA") if row % 2 else ""
    return {"row": row, "pid": os.getpid()}


def test_rows_of_forks_are_those_of_one_process(tmp_path, monkeypatch):
    alone, whole = read_set(tmp_path, one_row)
    monkeypatch.setattr(processes, "ALONE_SECONDS", -1.0)
    returned, made = read_set(tmp_path, one_row, out="forked")
    assert [r["row"] for r in returned] == list(range(12)) and {r["pid"] for r in alone} == {os.getpid()} != {r["pid"] for r in returned}
    assert (tmp_path / "out" / "manifest.csv").read_bytes() == (tmp_path / "forked" / "manifest.csv").read_bytes()
    assert made.labels[:3].tolist()[1:] == [[0], [1]] and np.isnan(made.labels[0]) and made[3].areas["tooth/crown"] == 0 and made[4].areas["tooth/crown"] == 1
    assert whole.column("attribute:view").tolist() == ["", "PA"] * 6


def test_neighbours_that_belong_together_go_to_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "ALONE_SECONDS", -1.0)
    volume = [k // 4 for k in range(12)]
    returned, _ = read_set(tmp_path, one_row, together=volume)
    assert all(len({r["pid"] for r, v in zip(returned, volume, strict=True) if v == k}) == 1 for k in range(3))


def test_a_file_that_one_row_opens_for_its_neighbours_counts_for_each(tmp_path, monkeypatch):
    (tmp_path / "raw").mkdir()
    held, done = {}, []

    def slices(draft, row):
        path = tmp_path / "raw" / f"volume{row // 4}"
        if path not in held:
            held.clear()
            held[path] = path.read_bytes()
        done.append(row)
        one_row(draft, row)
        draft.columns["attribute:view"][row] = held[path].decode()

    def killed(*_):
        raise KeyboardInterrupt

    for k in range(3):
        (tmp_path / "raw" / f"volume{k}").write_text(f"view {k}")
    volume = [k // 4 for k in range(12)]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("synthrad.data.writing.settle", killed)
        read_set(tmp_path, slices, together=volume)
    (tmp_path / "raw" / "volume1").write_text("another view")
    held.clear()
    done.clear()
    _, made = read_set(tmp_path, slices, together=volume)
    assert done == [4, 5, 6, 7]
    assert made.column("attribute:view").tolist() == ["view 0"] * 4 + ["another view"] * 4 + ["view 2"] * 4


def test_faults_of_forks_come_in_the_order_of_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "ALONE_SECONDS", -1.0)

    def faulty(draft, row):
        if row in (3, 9):
            draft.fault(row, "found a blank, expected a name")
        if row == 7:
            raise InputError("7.png", "nothing", "something")

    with pytest.raises(InputErrors) as e:
        read_set(tmp_path, faulty)
    assert [f[:6] for f in e.value.faults] == ["row 5,", "row 9,", "row 11"] and e.value.faults[1].kind == "nothing; something; "
    assert not list((tmp_path / "out").glob(".draft-*"))

"""Rows filled by all cores: forks give what one process gives, what belongs together stays together, and files that changed are read again."""

import argparse
import os

import numpy as np
import pytest

from synthrad.data import processes
from synthrad.data.writing import Draft
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError, InputErrors


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
    monkeypatch.setattr(processes, "ALONE_SECONDS", 60.0)
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

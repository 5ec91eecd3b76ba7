"""Croissant as mlcroissant reads it: the description is valid, and its records are those of the set."""

import pytest
from tiny_set import make

from synthrad.__main__ import main

mlc = pytest.importorskip("mlcroissant", reason="the extra `export` is not installed")


def test_records_come_back(tmp_path):
    made = make(tmp_path / "set", rows=12)
    assert main(["prepare", "export", str(tmp_path / "set"), str(tmp_path / "out"), "--to", "croissant"]) == 0
    read = mlc.Dataset(jsonld=str(tmp_path / "out/croissant.json"))
    assert not read.metadata.ctx.issues.errors
    rows = list(read.records("records"))
    assert len(rows) == 12
    for row, record in zip(rows, made, strict=True):
        assert row["records/split"].decode() == record.split
        assert row["records/label:caries"] == record.labels[0]
        assert (tmp_path / "out" / row["records/image:image"].decode()).is_file()

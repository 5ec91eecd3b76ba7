"""Thumbnails: every row's comes back as it was made, from forks too; a lost one is known as lost, and nothing is decoded twice."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from forks import forks, in_child
from PIL import Image

from synthrad.__main__ import main
from synthrad.data import leaks, processes
from synthrad.data.journal import Journal
from synthrad.data.near_copies import picture_of
from synthrad.data.thumbnails import NAME, Thumbnails


def test_rows_come_back(tmp_path):
    rng = np.random.default_rng(0)
    rows = {k: [rng.integers(0, 4095, (90, 70)).astype(np.uint16)] * (1 + k % 2) for k in (0, 3, 2)}
    kept = Thumbnails(tmp_path)
    checks = {k: kept.keep(k, channels) for k, channels in rows.items()}
    kept.close()
    again = Thumbnails(tmp_path)
    for k, channels in rows.items():
        np.testing.assert_array_equal(again.read(k, checks[k]), picture_of(channels))
    assert again.read(1, None) is None and again.read(7, 5) is None and again.read(0, checks[3]) is None
    assert again.path.stat().st_mode & 0o77 == 0
    again.close()


@forks
def test_forks_write_their_own_rows(tmp_path):
    kept, pixels = Thumbnails(tmp_path), np.arange(64, dtype=np.uint8).reshape(8, 8)
    for k in range(3):
        assert in_child(lambda k=k: kept.keep(k, [pixels + k]) and 0) == 0
    check = kept.keep(3, [pixels])
    assert all(kept.read(k, check) is not None for k in range(4))  # a grey level more everywhere is the same thumbnail
    kept.close()


@pytest.fixture
def command(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(12):
        Image.fromarray(rng.integers(0, 255, (64, 64), np.uint8)).save(tmp_path / f"{k}.png")
    Image.open(tmp_path / "3.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "8.png")
    pd.DataFrame({"image": [f"{k}.png" for k in range(12)], "patient": range(12)}).to_csv(tmp_path / "t.csv", index=False)
    return lambda out, *more: ["prepare", "table", str(tmp_path / "t.csv"), str(tmp_path / out), "--subject", "patient", "--workers", "2", "--look-for-text", "none", *more]


def copies(folder):
    return json.loads((folder / leaks.FILE).read_text())


def again(monkeypatch) -> list[str]:
    """Names of the images that the search for copies decodes from now on."""
    from synthrad.data import images

    read, names = images.read_image, []
    monkeypatch.setattr(images, "read_image", lambda path: (names.append(path.name), read(path))[1])
    return names


@forks
def test_the_search_decodes_nothing_and_finds_what_it_found(command, tmp_path, monkeypatch):
    names = again(monkeypatch)
    assert main(command("alone")) == 0 and names == []
    monkeypatch.setattr(processes, "ALONE_SECONDS", -1.0)
    assert main(command("forks")) == 0 and names == []
    monkeypatch.setattr(Thumbnails, "read", lambda *_: None)
    assert main(command("decoded")) == 0 and len(names) == 12
    assert copies(tmp_path / "alone") == copies(tmp_path / "forks") == copies(tmp_path / "decoded")
    assert [p[:2] for p in copies(tmp_path / "alone")["pairs"]] == [[3, 8]]


def test_a_stopped_run_keeps_its_thumbnails_but_for_those_that_a_crash_lost(command, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "ALONE_SECONDS", 60.0)

    def stop(self, found, add=Journal.add):
        if found["row"] == 9:
            raise KeyboardInterrupt
        add(self, found)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", stop)
        assert main(command("out")) == 1
    (path,) = (tmp_path / "out").glob(f".draft-*/{NAME}")
    with path.open("r+b") as file:
        file.seek(2 * 64 * 64 * 4)
        file.write(bytes(64 * 64 * 4))
    names = again(monkeypatch)
    assert main(command("out")) == 0 and names == ["2.png"]
    assert main(command("whole")) == 0 and copies(tmp_path / "out") == copies(tmp_path / "whole")


def test_rows_of_a_run_that_compared_nothing_are_decoded_for_it(command, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("synthrad.records.Manifest.write", stop)
        assert main(command("out", "--skip-near-copies")) == 1
        assert not next((tmp_path / "out").glob(f".draft-*/{NAME}")).stat().st_size
    names = again(monkeypatch)
    assert main(command("out")) == 0 and len(names) == 12 and copies(tmp_path / "out")["compared"]


def test_no_file_of_the_draft_is_open_when_it_becomes_the_set(command, tmp_path, monkeypatch):
    from synthrad.data import writing

    settle, names = writing.settle, []

    def noted(draft, *rest):
        names.extend(os.path.basename(os.readlink(f"/proc/self/fd/{n}")) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}"))
        return settle(draft, *rest)

    monkeypatch.setattr(writing, "settle", noted)
    assert main(command("out")) == 0 and ".synthrad-prepare" in names
    assert not {NAME, "journal.jsonl"} & set(names)

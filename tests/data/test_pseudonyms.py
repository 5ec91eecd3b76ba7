"""Sets without names: what is written, and that a run which was killed meanwhile goes on."""

import os
import signal

import numpy as np
import pandas as pd
import pytest
from PIL import Image, PngImagePlugin

import synthrad.data.pseudonyms
from synthrad.__main__ import main
from synthrad.data.images import files_digest, read_image, write_image, write_mask
from synthrad.data.pseudonyms import pseudonymise
from synthrad.dataset_info import HERE, DatasetInfo
from synthrad.lineage import hash_subjects, project_key, pseudonym
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest


@pytest.fixture
def drafted(tmp_path):
    """Two rows of two channels: the first refers to files of the root, the second is stored in the draft, under a name that is to be another's."""
    info = DatasetInfo("set", "set", channels=("t1", "t2"), layers={"tooth": ("crown",)}, roots={"images": str(tmp_path / "root")})
    columns = empty_columns(info, 2) | {"origin:file": np.array(["anna.png", ""], dtype=object)}
    columns["subject"][:] = ["anna", "bert"]
    text = PngImagePlugin.PngInfo()
    text.add_text("PatientName", "anna")
    (tmp_path / "root").mkdir()
    for k, channel in enumerate(info.channels):
        Image.new("L", (4, 3), 10 + k).save(tmp_path / "root" / f"anna_{channel}.png", pnginfo=text)
        write_image(tmp_path / "draft" / "images" / channel / "000000.png", np.full((3, 4), 60000 + k, np.uint16))
        columns[f"channel:{channel}"][:] = [f"anna_{channel}.png", f"images/{channel}/000000.png"]
    write_mask(tmp_path / "draft" / "masks" / "tooth" / "000000.png", np.eye(3, 4, dtype=np.uint8))
    columns["root"][:], columns["mask:tooth"][1] = ["images", HERE], "masks/tooth/000000.png"
    return columns, info


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_pixels_alone_under_neutral_names(tmp_path, drafted):
    columns, info = drafted
    before, into = files(tmp_path / "draft"), tmp_path / "draft" / "into"
    into.mkdir()
    (into / "left by a killed run").touch()
    made = pseudonymise(columns, info, tmp_path / "draft", tmp_path / "root", into)
    assert made.roots == {HERE: str(into)} and set(columns["root"]) == {HERE} and set(columns["origin:file"]) == {""}
    names = [f"images/{c}/00000{row}.png" for row in (0, 1) for c in info.channels]
    assert sorted(files(into)) == sorted([*names, "masks/tooth/000001.png"])
    assert [read_image(into / n).max() for n in names] == [10, 11, 60000, 60001]
    assert not Image.open(into / names[0]).text
    assert columns["mask:tooth"].tolist() == ["", "masks/tooth/000001.png"] and np.array(Image.open(into / "masks/tooth/000001.png")).sum() == 3
    assert columns["digest"].tolist() == [files_digest([into / n for n in pair]) for pair in (names[:2], names[2:])]
    assert columns["subject"].tolist() == [pseudonym("set", s, project_key()) for s in ("anna", "bert")]
    assert hash_subjects("set", columns["subject"], project_key()) == hash_subjects("set", ["anna", "bert"], project_key())  # in lineages they are one
    assert {n: b for n, b in files(tmp_path / "draft").items() if not n.startswith("into/")} == before


def test_a_run_that_was_stopped_meanwhile_goes_on(tmp_path, monkeypatch):
    for k in range(6):
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (8, 8)).astype(np.uint8)).save(tmp_path / f"{k}.png")
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / f"m{k}.png")
    pd.DataFrame({"image": [f"{k}.png" for k in range(6)], "mask": [f"m{k}.png" for k in range(6)]}).to_csv(tmp_path / "t.csv", index=False)
    words = ["prepare", "table", str(tmp_path / "t.csv"), "OUT", "--mask", "mask", "--mask-classes", "organ:1=lung", "--name", "n", "--pseudonymise"]
    command = lambda out: [str(tmp_path / out) if w == "OUT" else w for w in words]  # noqa: E731
    written = []

    def write_or_stop(path, pixels):
        write_image(path, pixels)
        written.append(path)
        if len(written) == 4:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(synthrad.data.pseudonyms, "write_image", write_or_stop)
        assert main(command("out")) == 1
    with monkeypatch.context() as patch:
        patch.setattr("synthrad.data.writing.read_image", None)  # rows are not read again
        patch.setattr("synthrad.data.writing.write_mask", None)
        assert main(command("out")) == 0
    assert main(command("whole")) == 0
    both = [files(tmp_path / out) for out in ("out", "whole")]
    for found in both:
        found.pop(".synthrad-prepare")
    assert both[0] == both[1] and len(Manifest.read(tmp_path / "out")) == 6

"""A `prepare` that was killed, stopped or out of room goes on by the same command to the same bytes; two never write one folder."""

import multiprocessing
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from disks import full_disk
from forks import dying, forks, in_child
from PIL import Image

import synthrad.data.writing
import synthrad.swap
from synthrad.__main__ import main
from synthrad.data import processes
from synthrad.data.journal import Journal
from synthrad.records import Manifest

pytestmark = forks
ROWS = 16


@pytest.fixture
def command(tmp_path):
    """A table of pictures with masks, and how it is prepared into a folder."""
    rng = np.random.default_rng(0)
    for k in range(ROWS):
        Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).save(tmp_path / f"{k}.png")
        Image.fromarray(np.kron(rng.integers(0, 2, (4, 4)), np.ones((4, 4))).astype(np.uint8)).save(tmp_path / f"m{k}.png")
    rows = {"image": [f"{k}.png" for k in range(ROWS)], "mask": [f"m{k}.png" for k in range(ROWS)], "patient": range(ROWS)}
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    options = ["--subject", "patient", "--mask", "mask", "--mask-classes", "organ:1=lung", "--workers", "2", "--skip-near-copies"]
    return lambda out, *more: ["prepare", "table", str(tmp_path / "t.csv"), str(tmp_path / out), *options, *more]


def everything(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".synthrad-prepare"}


def drafts(folder: Path) -> list[Path]:
    return list(folder.glob(".draft-*"))


def waited_for(command: list[str]) -> int:
    """The exit code of a command, after the forks of a killed one have seen that it is gone."""
    for _ in range(200):
        if (code := in_child(main, command)) != 1:
            return code
        time.sleep(0.05)
    return code


MOMENTS = {
    "first row": (Journal, "add", 1),
    "some rows": (Journal, "add", 9),
    "last row": (Journal, "add", ROWS),
    "before all is put in place": (synthrad.swap.os, "replace", 4),  # after near_copies.json and the manifest's two files
    "before the table": (Manifest, "write", 1),
}


@pytest.mark.parametrize("processes_from", [-1.0, 60.0], ids=["forks", "alone"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_prepare_goes_on_to_the_same_bytes(command, tmp_path, monkeypatch, moment, processes_from):
    monkeypatch.setattr(processes, "ALONE_SECONDS", processes_from)
    assert main(command("whole")) == 0
    owner, name, call = MOMENTS[moment]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying(getattr(owner, name), call))
        assert in_child(main, command("out")) == -signal.SIGKILL
    assert len(drafts(tmp_path / "out")) == 1 and not (tmp_path / "out" / "dataset.yaml").exists()
    assert waited_for(command("out")) == 0
    assert everything(tmp_path / "out") == everything(tmp_path / "whole")


# renames of the swap: 4 the older set leaves, 5-8 its parts, 9 the new one enters, 10-13 its parts (dataset.yaml last); then the older one is deleted
STEPS = {**{f"rename {k}": (synthrad.swap.os, "replace", k) for k in range(4, 14)}, "deleting": (synthrad.swap.shutil, "rmtree", 1)}


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_while_a_set_takes_an_older_ones_place_leaves_one_of_them(command, tmp_path, monkeypatch, recwarn, step):
    monkeypatch.setattr(processes, "ALONE_SECONDS", 60.0)
    assert main(command("out", "--name", "n", "--seed", "1")) == main(command("new", "--name", "n")) == 0
    older, newer = everything(tmp_path / "out"), everything(tmp_path / "new")
    assert older != newer
    owner, name, call = STEPS[step]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying(getattr(owner, name), call))
        assert in_child(main, command("out", "--name", "n")) == -signal.SIGKILL
    leaves = step in ("rename 4", "rename 5")  # not begun, or nothing has left yet
    mended = not (tmp_path / "out" / "dataset.yaml").exists()
    assert mended == (step in [f"rename {k}" for k in range(6, 14)])
    recwarn.clear()
    assert len(Manifest.read(tmp_path / "out")) == ROWS
    assert any("is in its place now" in str(w.message) for w in recwarn) == mended
    found = everything(tmp_path / "out")
    wanted = older if leaves else newer
    assert {p: found[p] for p in wanted} == wanted
    assert waited_for(command("out", "--name", "n")) == 0
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".") and p.name != ".synthrad-prepare"]
    found = everything(tmp_path / "out")
    assert {p: found[p] for p in newer} == newer


def counted(monkeypatch) -> list[str]:
    """Names of the pictures that this process reads from now on."""
    read, names = synthrad.data.writing.read_image, []
    monkeypatch.setattr(processes, "ALONE_SECONDS", 60.0)
    monkeypatch.setattr(synthrad.data.writing, "read_image", lambda path: (names.append(Path(path).name), read(path))[1])
    return names


def stopped(monkeypatch, command: list[str], after: int = 12) -> None:
    """Ctrl-C while row number `after` is noted."""
    with monkeypatch.context() as patch:
        patch.setattr(processes, "ALONE_SECONDS", 60.0)
        patch.setattr(Journal, "add", dying(Journal.add, after, number=signal.SIGINT))
        assert main(command) == 1


def test_what_is_done_is_not_read_again_unless_it_changed(command, tmp_path, monkeypatch):
    stopped(monkeypatch, command("out"))
    done = [f"{k}.png" for k in range(11)]
    (mask,) = drafts(tmp_path / "out")[0].rglob("4.png")
    mask.write_bytes(mask.read_bytes()[:-9])  # as a crash of the system may leave it
    Image.new("L", (16, 16), 77).save(tmp_path / "2.png")
    Image.new("L", (16, 16), 1).save(tmp_path / "m3.png")
    with monkeypatch.context() as patch:
        names = counted(patch)
        assert main(command("out")) == 0
    again = [f"{k}.png" for k in range(ROWS) if f"{k}.png" not in done or k in (2, 3, 4)]
    assert [n for n in names if n in again] == again and not set(done) & set(names) - {"2.png", "3.png", "4.png"}
    assert main(command("whole")) == 0
    assert everything(tmp_path / "out") == everything(tmp_path / "whole")


@pytest.mark.parametrize("change", ["option", "table"])
def test_another_option_or_table_starts_again_in_one_draft(command, tmp_path, monkeypatch, change):
    stopped(monkeypatch, command("out"))
    more = ["--name", "other"] if change == "option" else []
    if change == "table":
        table = pd.read_csv(tmp_path / "t.csv")
        table.assign(mask=list(table["mask"])[::-1]).to_csv(tmp_path / "t.csv", index=False)
    (first,) = drafts(tmp_path / "out")
    stopped(monkeypatch, command("out", *more), after=3)
    (second,) = drafts(tmp_path / "out")
    assert first != second
    with monkeypatch.context() as patch:
        names = counted(patch)
        assert main(command("out", *more)) == 0 and not drafts(tmp_path / "out")
    assert len(names) >= ROWS - 2
    assert main(command("whole", *more)) == 0
    assert everything(tmp_path / "out") == everything(tmp_path / "whole")


def test_ctrl_c_keeps_what_is_done_and_the_older_set(command, tmp_path, monkeypatch, capfd):
    assert main(command("out")) == 0
    older = everything(tmp_path / "out")
    stopped(monkeypatch, command("out", "--seed", "1"))
    assert "interrupted; the same command resumes" in capfd.readouterr().err
    assert {p: d for p, d in everything(tmp_path / "out").items() if ".draft" not in p.parts[0]} == older
    assert len(drafts(tmp_path / "out")) == 1
    assert main(command("out")) == 0  # the other command's draft is no use to this one
    assert everything(tmp_path / "out") == older


def test_bad_input_leaves_no_draft(command, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(processes, "ALONE_SECONDS", -1.0)
    (tmp_path / "5.png").write_bytes(b"no picture")
    (tmp_path / "m9.png").unlink()
    assert main(command("out")) == 2
    said = capfd.readouterr().err
    assert re.search(r"2 fault\(s\)\n  row 7, .*5\.png.*\n(.*\n)?  row 11, .*m9\.png", said), said
    assert not drafts(tmp_path / "out")


LATE = {  # what is known only when all is read: the option that repairs it
    "16 bit": ["--intensity", "0", "65535"],
    "few subjects": ["--fractions", "0.5", "0", "0", "0.5"],
    "copies": ["--drop-near-copies"],
}


@pytest.mark.parametrize("what", LATE)
def test_an_option_that_is_missed_late_throws_no_reading_away(command, tmp_path, monkeypatch, capfd, what):
    if what == "16 bit":
        Image.fromarray(np.full((16, 16), 60000, np.uint16)).save(tmp_path / "3.png")
    table = pd.read_csv(tmp_path / "t.csv").assign(split=["train", "test"] * (ROWS // 2))
    table.assign(patient=table["patient"] % 3 if what == "few subjects" else table["patient"]).to_csv(tmp_path / "t.csv", index=False)
    Image.fromarray(np.array(Image.open(tmp_path / "4.png"))[::-1]).save(tmp_path / "7.png")
    words = [w for w in command("out") if w != "--skip-near-copies"] + (["--split", "split"] if what == "copies" else [])
    assert main(words) == 2 and "kept in" in (said := capfd.readouterr().err) and LATE[what][0] in said
    assert len(drafts(tmp_path / "out")) == 1
    with monkeypatch.context() as patch:
        names = counted(patch)
        assert main([*words, *LATE[what]]) == 0 and names == []
    assert not drafts(tmp_path / "out") and len(Manifest.read(tmp_path / "out")) == ROWS - (what == "copies")


def test_fractions_are_checked_first(command, monkeypatch, capfd):
    names = counted(monkeypatch)
    for wrong in (["0.5", "0.5", "0.5", "0"], ["nan", "0.5", "0.25", "0.25"], ["inf", "0", "0", "0"]):
        assert main(command("out", "--fractions", *wrong)) == 2 and "--fractions" in capfd.readouterr().err
    assert main(command("out", "--seed", "-1")) == 2 and "--seed" in capfd.readouterr().err
    assert names == []


def test_a_full_disk_keeps_what_is_done(command, tmp_path, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        full_disk(patch, 5)
        assert main(command("out")) == 1
    said = capfd.readouterr().err
    assert "No space left on device" in said and str(tmp_path / "out") in said and "Repair: make room" in said and "Traceback" not in said
    assert len(drafts(tmp_path / "out")) == 1
    names = counted(monkeypatch)
    assert main(command("out")) == 0 and names == []


def test_a_second_prepare_is_refused(command, tmp_path, monkeypatch, capfd):
    def wait(*_):
        (tmp_path / "begun").touch()
        time.sleep(600)

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "write", wait)
        child = multiprocessing.get_context("fork").Process(target=main, args=(command("out"),))
        child.start()
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "begun").exists():
            assert child.is_alive() and time.monotonic() < deadline
            time.sleep(0.02)
        before = everything(tmp_path / "out")
        assert main(command("out", "--name", "other")) == 1
        assert f"prepare: another process (pid {child.pid}) is writing {tmp_path / 'out'}" in capfd.readouterr().err
        assert main(["prepare", "phantom", str(tmp_path / "out"), "--number", "8"]) == 1
        assert everything(tmp_path / "out") == before
    finally:
        child.kill()
        child.join()
    assert main(command("out")) == 0


def test_a_killed_worker_is_told_and_the_same_command_goes_on(command, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(processes, "ALONE_SECONDS", -1.0)
    parent, read = os.getpid(), synthrad.data.writing.read_image

    def read_or_die(path):
        if Path(path).name == "9.png" and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(synthrad.data.writing, "read_image", read_or_die)
        assert main(command("out")) == 1
    assert "SIGKILL" in (said := capfd.readouterr().err) and "--workers" in said
    assert main(command("out")) == 0
    assert main(command("bad", "--workers", "0")) == 2

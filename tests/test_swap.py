"""A set takes an older one's place: whatever moment a kill comes at, what is found then is the older set, the new one, or becomes the new one."""

import errno
import signal
import threading
from pathlib import Path

import pytest
from forks import dying, forks, in_child

import synthrad.swap
from synthrad.data.leaks import FILE
from synthrad.errors import RunError
from synthrad.locking import locked
from synthrad.swap import ENTERING, LEAVING, LOCK, PARTS, finish_others_swap, finish_swap, put_in_place

pytestmark = forks


def fill(folder: Path, text: str, parts=PARTS) -> None:
    for name in parts:
        path = folder / name / "0.png" if "." not in name else folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def found(out: Path) -> dict[str, str]:
    return {p.relative_to(out).as_posix(): p.read_text() for name in PARTS for p in [out / name, *(out / name).glob("*")] if p.is_file()}


def drafted(tmp_path: Path, older=PARTS, newer=PARTS) -> tuple[Path, Path]:
    out = tmp_path / "out"
    (out / ".draft-1").mkdir(parents=True)
    fill(out, "old", older)
    fill(out / ".draft-1", "new", newer)
    (out / ".draft-1" / "journal.jsonl").touch()
    (out / "cache").touch()
    return out, out / ".draft-1"


@pytest.mark.parametrize(("older", "newer"), [(PARTS, PARTS[1:]), (PARTS[1:], PARTS), ((), PARTS)], ids=["masks go", "masks come", "none before"])
def test_a_kill_at_any_step(tmp_path, monkeypatch, older, newer):
    steps = 2 + len(older) + len(newer) + 1  # renames, and the deletion
    fill(tmp_path / "wanted", "new", newer)
    wanted = found(tmp_path / "wanted")
    for step in range(1, steps + 1):
        out, ready = drafted(tmp_path / str(step), older, newer)
        before = found(out)
        owner, name, call = (synthrad.swap.shutil, "rmtree", 1) if step == steps else (synthrad.swap.os, "replace", step)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, dying(getattr(owner, name), call))
            assert in_child(put_in_place, ready, out) == -signal.SIGKILL
        if (out / "dataset.yaml").exists():  # written last and gone first: what is there is whole
            assert found(out) == (wanted if (out / "dataset.yaml").read_text() == "new" else before)
        if step > 1:
            with pytest.warns(UserWarning, match="is in its place now"):
                assert finish_swap(out)
            assert found(out) == wanted and sorted(p.name for p in out.iterdir()) == sorted([*newer, "cache"])
        else:
            assert not finish_swap(out) and ready.is_dir()


def test_a_kill_while_it_is_made_up_for(tmp_path, monkeypatch):
    out, ready = drafted(tmp_path)
    for call in (3, 4, 5, 2):  # of the renames that are left
        with monkeypatch.context() as patch:
            patch.setattr(synthrad.swap.os, "replace", dying(synthrad.swap.os.replace, call))
            assert in_child(put_in_place if ready.exists() else lambda *_: finish_swap(out), ready, out) == -signal.SIGKILL
    with pytest.warns(UserWarning):
        assert finish_others_swap(out)
    assert set(found(out).values()) == {"new"} and len(found(out)) == len(PARTS)


def test_readers_wait_for_the_writer_and_leave_folders_that_are_not_theirs(tmp_path, monkeypatch):
    out, ready = drafted(tmp_path)
    assert not finish_others_swap(out)
    ready.rename(out / LEAVING)
    monkeypatch.setattr(synthrad.swap, "WAIT", 0.2)
    with locked(out / LOCK, "prepare"), pytest.raises(RunError, match="is writing"):
        finish_others_swap(out)
    with monkeypatch.context() as patch:
        patch.setattr(synthrad.swap.os, "access", lambda *_: False)
        assert not finish_others_swap(out)
    assert (out / LEAVING).is_dir() and set(found(out).values()) == {"old"}


@pytest.mark.parametrize("name", [LEAVING, ENTERING])
def test_links_are_not_followed(tmp_path, name):
    out, ready = drafted(tmp_path)
    fill(tmp_path / "elsewhere", "other")
    (out / name).symlink_to(tmp_path / "elsewhere")
    assert not finish_swap(out) and not finish_others_swap(out)
    assert len(found(tmp_path / "elsewhere")) == len(PARTS) and set(found(out).values()) == {"old"}


def test_what_prepare_writes_is_a_part():
    assert FILE in PARTS


def test_an_older_set_that_cannot_be_deleted_fails_nothing(tmp_path, monkeypatch):
    out, ready = drafted(tmp_path)

    def busy(folder):
        raise OSError(39, "Directory not empty", str(folder))

    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="cannot be deleted .Directory not empty"):
        patch.setattr(synthrad.swap.shutil, "rmtree", busy)
        put_in_place(ready, out)
    assert set(found(out).values()) == {"new"} and not (out / ENTERING).exists() and len(list(out.glob(".draft-older-*"))) == 1
    assert not finish_swap(out)


def test_a_reader_waits_for_whoever_swaps(tmp_path):
    out, ready = drafted(tmp_path)
    ready.rename(out / LEAVING)
    held = locked(out / LOCK, "prepare")
    held.__enter__()
    threading.Timer(0.3, held.__exit__, (None, None, None)).start()
    with pytest.warns(UserWarning, match="is in its place now"):
        assert finish_others_swap(out)
    assert set(found(out).values()) == {"new"}


def test_a_reader_finishes_nothing_without_locks(tmp_path, monkeypatch):
    out, ready = drafted(tmp_path)
    ready.rename(out / LEAVING)

    def without(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("synthrad.locking.fcntl.flock", without)
    with pytest.warns(UserWarning, match="no locks"):
        assert not finish_others_swap(out)
    assert (out / LEAVING).is_dir() and set(found(out).values()) == {"old"}


def test_a_draft_with_names_of_files_does_not_outlive_the_swap(tmp_path):
    out, ready = drafted(tmp_path)
    (ready / "pseudonymised").mkdir()
    fill(ready / "pseudonymised", "hashed")
    (ready / "pseudonymised").rename(out / LEAVING)
    with pytest.warns(UserWarning):
        assert finish_others_swap(out)
    assert set(found(out).values()) == {"hashed"} and not list(out.glob(".draft-*"))


def test_a_set_that_cannot_be_moved_stays_whole(tmp_path, monkeypatch):
    out, ready = drafted(tmp_path)
    monkeypatch.setattr(synthrad.swap.os, "access", lambda path, mode: Path(path).name != "images")
    with pytest.raises(RunError, match="images: found a folder that may not be changed"):
        put_in_place(ready, out)
    assert set(found(out).values()) == {"old"} and ready.is_dir() and not finish_swap(out)

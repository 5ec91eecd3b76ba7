import pytest

from synthrad.errors import InputError
from synthrad.files import check_inside, write_durably


def test_write_durably_leaves_old_or_new(tmp_path, monkeypatch):
    write_durably(tmp_path / "a", b"old")
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError):
            write_durably(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("path", ["a/../../secret", "../secret", "a\0b", "/etc/passwd"])
def test_paths_that_leave(tmp_path, path):
    (tmp_path / "root").mkdir()
    check_inside(tmp_path / "root" / "new", tmp_path / "root")
    check_inside(tmp_path / "root" / "a" / ".." / "new", tmp_path / "elsewhere", tmp_path / "root")
    with pytest.raises(InputError, match="secret|followed|passwd"):
        check_inside(tmp_path / "root" / path, tmp_path / "root")

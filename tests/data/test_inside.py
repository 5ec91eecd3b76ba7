import pytest

from synthrad.data.inside import inside
from synthrad.errors import InputError

HOSTILE = ["", "  ", "../secret.png", "a/../../secret.png", "/etc/passwd", "\\\\server\\share", "C:\\x.png", "c:/x.png", "a\0.png", "a" * 300,
           "/".join(["ab"] * 2000), "..", "a\\..\\..\\x.png", "out.png", "linked/secret.png", "circle"]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_leave_the_root(tmp_path, name):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "linked").symlink_to(tmp_path)
    (root / "circle").symlink_to(root / "circle")
    with pytest.raises(InputError, match="(?s)list.json.*found"):
        inside(root, name, "list.json")


def test_names_inside(tmp_path):
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "root" / "a" / "b.png").write_bytes(b"x")
    (tmp_path / "root" / "link.png").symlink_to("a/b.png")
    (tmp_path / "alias").symlink_to(tmp_path / "root")
    for name in ("a/b.png", "link.png", "none yet.png", "a/..b.png"):
        assert inside(tmp_path / "root", name) == tmp_path / "root" / name
    assert inside(tmp_path / "alias", "a/b.png") == tmp_path / "alias" / "a/b.png"  # the root itself may be a link

"""The folder that a set is made in: other people's files are left alone, a failure leaves the older set, sets appear whole."""

import pytest
from test_writing import INFO, fill

from synthrad.data.drafts import draft_folder
from synthrad.data.phantom_files import PhantomFolder
from synthrad.errors import InputError
from synthrad.records import Manifest


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


def test_an_unfinished_swap_is_finished_before_another_set_is_made(tmp_path):
    from synthrad.swap import LEAVING

    with PhantomFolder(tmp_path / "out", INFO, 2, ("seed",)) as folder:
        fill(folder)
        before = folder.finish().digest
    with PhantomFolder(tmp_path / "new", INFO, 1, ("seed",)) as folder:
        fill(folder, 1)
        after = folder.finish().digest
    (tmp_path / "new").rename(tmp_path / "out" / LEAVING)  # as a kill right after the first rename leaves it
    assert Manifest.read(tmp_path / "out").digest == before != after
    with pytest.warns(UserWarning, match="in its place now"), draft_folder(tmp_path / "out"):
        assert Manifest.read(tmp_path / "out").digest == after

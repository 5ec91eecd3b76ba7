"""Pictures in two splits: the row for training goes, with its files, and is told; equal files are faults of the later row."""

import numpy as np

from synthrad.data.crossing import equal_across_splits, leave_out_crossing
from synthrad.data.leaks import Copies


def test_the_row_for_training_goes_with_its_files(tmp_path, capsys):
    columns = {"root": np.array(["here", "images", "here", "here"], object), "channel:image": np.array(["a.png", "b.png", "c.png", "d.png"], object),
               "mask:organ": np.array(["", "m1.png", "m2.png", ""], object), "subject": np.array(list("wxyz"), object),
               "split": np.array(["test", "train", "val", "train"], object), "digest": np.array(list("1234"), object)}
    for name in ("a.png", "b.png", "c.png", "d.png", "m1.png", "m2.png"):
        (tmp_path / name).touch()
    copies = Copies(((0, 1, 0.99), (0, 2, 0.98), (1, 3, 0.97)), 0.95)
    keep, left = leave_out_crossing(columns, copies, tmp_path, lambda row: f"row {row}, ", named=False)
    assert keep.tolist() == [True, False, False, True] and left == Copies((), 0.95, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png", "d.png"]  # b.png is not the set's own
    said = capsys.readouterr().out
    assert "2 row(s) left out" in said and "row 1, train: nearly the picture of row 0, test" in said and "subject" not in said
    leave_out_crossing(columns, copies, tmp_path, lambda row: f"row {row}, ", named=True)
    assert "row 2, subject 'y' in val: nearly the picture of row 0, subject 'w' in test" in capsys.readouterr().out


def test_equal_files_in_two_splits():
    assert equal_across_splits(["a", "b", "a"], ["train", "test", "train"], [2, 3, 4]) == []
    ((row, text),) = equal_across_splits(["a", "b", "a"], ["train", "test", "val"], [2, 3, 7])
    assert row == 2 and "the same picture as row 2 is in val, that one in train" in text

from argparse import Namespace

import numpy as np
import pytest

from synthrad.data.leaks import Copies
from synthrad.data.published_splits import divide
from synthrad.data.writing import Draft
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError


def drafted(tmp_path, rows=40):
    (tmp_path / "root").mkdir(exist_ok=True)
    draft = Draft(tmp_path / "out", tmp_path / "root", DatasetInfo("d", "d", classes=("a",)), rows, "t.csv")
    draft.columns["subject"][:] = [f"p{i // 2}" for i in range(rows)]
    draft.columns["digest"][:] = [f"d{i}" for i in range(rows)]
    draft.columns["label:a"][:] = np.arange(rows) % 4 == 0
    return draft


def test_published_test_rows_stay_and_take_their_patients_with_them(tmp_path):
    draft = drafted(tmp_path)
    draft.columns["split"][:] = ["test" if i in (0, 2, 4) else "" for i in range(40)]
    draft.columns["digest"][30] = "d0"  # another name for the picture of a test patient
    divide(draft, Namespace(fractions=None, seed=0))
    split = draft.columns["split"]
    assert set(np.flatnonzero(split == "test")) == {0, 1, 2, 3, 4, 5, 30, 31}
    assert set(split) == {"train", "val", "audit", "test"} and 20 <= (split == "train").sum() <= 26
    assert all(split[i] == split[i + 1] for i in range(0, 40, 2))


def test_shares_of_test_need_no_published_test(tmp_path):
    draft = drafted(tmp_path)
    divide(draft, Namespace(fractions=[0.5, 0, 0, 0.5], seed=0))
    assert set(draft.columns["split"]) == {"train", "test"}
    again = drafted(tmp_path)
    again.columns["split"][0] = "test"
    with pytest.raises(InputError, match="--fractions"):
        divide(again, Namespace(fractions=[0.5, 0, 0, 0.5], seed=0))


def test_near_copies_share_a_split_but_do_not_become_published_test_rows(tmp_path, monkeypatch):
    pairs = tuple((i, 39 - i, 0.99) for i in range(0, 20, 2))
    monkeypatch.setattr("synthrad.data.writing.find_copies", lambda *_: Copies(pairs, 0.9))
    for published in ([], [0]):
        draft = drafted(tmp_path)
        draft.columns["split"][published] = "test"
        divide(draft, Namespace(fractions=None, seed=0, skip_near_copies=False))
        split = draft.columns["split"]
        assert {i for i, j, _ in pairs if split[i] != split[j]} == set(published)

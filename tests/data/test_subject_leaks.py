import numpy as np
import pytest

from synthrad.data.leaks import (
    Copies,
    hashed,
    one_spelling,
    plain_subject,
    read_copies,
    refuse_crossing,
    rows_to_drop,
    spellings,
    write_copies,
)
from synthrad.errors import InputErrors
from synthrad.lineage import is_pseudonym


@pytest.mark.parametrize("other", ["p007", "P 7", " p7", "P0007", "p07 ", "P\t7"])
def test_variants_of_a_subject(other):
    assert plain_subject(other) == plain_subject("P7") and spellings(["x", "P7", other, "y"]) == [("P7", other)]


@pytest.mark.parametrize("pair", [("P7", "P70"), ("100", "10"), ("1.0.1", "1.1"), ("a1b0", "a1b"), ("1", "-1"), ("0", ""), ("10.05", "10.5x"), ("p_1", "p1")])
def test_different_subjects(pair):
    assert spellings(pair) == []


def test_spreadsheets_make_numbers_of_ids():
    assert spellings(["12", "12.0"]) == [("12", "12.0")]


def test_one_spelling():
    subjects = np.array(["P01", "q", "p1", "P1", "q"], dtype=object)
    place = lambda row: f"row {row + 2}, "  # noqa: E731
    with pytest.raises(InputErrors, match=r"row 4, subject 'p1': 'P01' \(row 2\)") as e:
        one_spelling(subjects, "error", "t.csv", place)
    assert len(e.value.faults) == 2
    one_spelling(subjects, "apart", "t.csv", place)
    assert list(subjects) == ["P01", "q", "p1", "P1", "q"]
    one_spelling(subjects, "one", "t.csv", place)
    assert list(subjects) == ["P01", "q", "P01", "P01", "q"]


def test_hashes_are_of_one_spelling_and_faults_name_none():
    told = lambda how, *subjects, dataset="set": hashed(dataset, subjects, how, "folder", "file{}: ".format)  # noqa: E731
    a, b, c, d, e = told("one", "AB 007", "ab7", " Ab0007 ", "AB 70", "ab 8")
    assert a == b == c and len({a, d, e}) == 3 and is_pseudonym(a)
    assert told("one", a, "q")[0] == a  # a pseudonym stays itself
    assert told("one", "12", "12.0", "0012") == told("error", "012") * 3 != told("error", "012", dataset="other") * 3
    with pytest.raises(InputErrors, match=r"file2: subject: the subject \(file0\) but for case") as e:
        told("error", "0012", "13", "12")
    assert "12" not in str(e.value)
    apart = told("apart", "0012", "13", "12", "12.0")
    assert len(set(apart)) == 4 and apart[1:2] == told("error", "0013")


def test_copies_across_given_splits(tmp_path):
    columns = {"split": ["train", "train", "test"], "subject": list("abc")}
    place = lambda row: f"row {row + 2}, "  # noqa: E731
    refuse_crossing(Copies(((0, 1, 0.99),), 0.9), columns, "t.csv", place, False)
    crossing = Copies(((0, 1, 0.99), (1, 2, 0.97)), 0.9)
    with pytest.raises(InputErrors, match="1 fault.*\n.*row 4, subject 'c' in test: nearly the picture of subject 'b' in train"):
        refuse_crossing(crossing, columns, "t.csv", place, False)
    refuse_crossing(crossing, columns, "t.csv", place, True)
    write_copies(tmp_path, crossing)
    assert read_copies(tmp_path) == crossing
    write_copies(tmp_path, Copies())
    assert read_copies(tmp_path) == read_copies(tmp_path / "none") == Copies()


def test_the_row_for_training_is_dropped_with_all_of_its_file():
    split = ["test", "train", "val", "train", "train", "audit"]
    copies = Copies(((0, 1, 0.99), (2, 0, 0.98), (3, 4, 0.97), (2, 5, 0.96)), 0.9)
    dropped = rows_to_drop(copies, split, ["t", "x", "v", "x", "", ""])
    assert set(dropped) == {1, 2, 3} and dropped[1] == dropped[3] == 0  # row 3 is the file of row 1
    left = copies.without(dropped.keys(), 6)
    assert left == Copies((), 0.9, 3)
    assert copies.without({0}, 6).pairs == ((2, 3, 0.97), (1, 4, 0.96))

import pytest

from synthrad.data.subject_names import subject_names
from synthrad.errors import InputError


def test_subjects_of_files():
    names = ["a/p1_x.png", "b/p1_y.jpeg", "b/p2.v2.png"]
    assert subject_names(names, None, "set") == ["a/p1_x", "b/p1_y", "b/p2.v2"]
    assert subject_names(names, r"(p\d)", "set") == ["p1", "p1", "p2"]
    with pytest.raises(InputError, match="(?s)set: 2 fault.*a/p1_x.png.*b/p1_y.jpeg"):
        subject_names(names, r"(p\d)\.v", "set")


@pytest.mark.parametrize("pattern", ["(", "p\\d", "[", "*(a)"])
def test_patterns_that_are_none(pattern):
    with pytest.raises(InputError, match="--subject-pattern"):
        subject_names(["p1"], pattern, "set")

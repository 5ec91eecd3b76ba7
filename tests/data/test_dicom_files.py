"""Trees of DICOM files: what is listed, what is sorted out, which subjects and ranges come of it."""

from argparse import ArgumentParser
from collections import Counter

import pytest
from tiny_dicom import SECRET, square, write

from synthrad.data.dicom import Facts
from synthrad.data.dicom_files import (
    Pictures,
    accepted,
    add_dicom_options,
    attribute_names,
    files_under,
    find_pictures,
    intensity,
    stem,
)
from synthrad.errors import InputError, InputErrors

FACTS = Facts("image", high=4095)


def options(*flags):
    parser = ArgumentParser()
    add_dicom_options(parser)
    return parser.parse_args(flags)


def test_options():
    args = options()
    assert (args.window, accepted(args), attribute_names(args), args.copy) == ("none", "no", (), True)
    args = options("--attributes", "age", "sex", "age", "--age-bands", "40", "60", "--allow-unmarked")
    assert attribute_names(args) == ("age", "sex", "age_band") and accepted(args) == "unstated"
    assert accepted(options("--allow-unmarked", "--allow-burned-in")) == "yes"


def test_files_under(tmp_path):
    for name in ("b/2", "b/10", "a", ".hidden/x", "b/.y"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert [p.relative_to(tmp_path).as_posix() for p in files_under(tmp_path)] == ["a", "b/10", "b/2"]
    (tmp_path / "inside").symlink_to(tmp_path / "a")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert len(files_under(tmp_path)) == 4
    (tmp_path / "b" / "out").symlink_to("/etc/passwd")
    with pytest.raises(InputErrors, match="b/out: found a link to a file outside"):
        files_under(tmp_path)


def test_find_pictures_counts_the_rest(tmp_path):
    write(tmp_path / "a", square(), bits=12)
    write(tmp_path / "b", square(), bits=12, SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1")
    (tmp_path / "c.txt").write_text(SECRET)
    found = find_pictures(files_under(tmp_path), options())
    assert [p.name for p in found.paths] == ["a"] and found.skipped == {"Encapsulated PDF Storage": 1, "not DICOM": 1}
    assert found.said() == "  left out: 1 Encapsulated PDF Storage, 1 not DICOM"
    assert Pictures([], [], Counter()).said() == ""


def test_intensity_of_the_headers():
    assert intensity([FACTS, FACTS], options(), "f").intensity == (0, 4095)
    assert intensity([Facts("image")], options(), "f").intensity == (0, 255)
    given = options("--intensity", "0", "900")
    assert intensity([FACTS, Facts("image", high=1023)], given, "f") is given
    with pytest.raises(InputError, match=r"0 to 4095 \(2\), 0 to 255 \(1\)"):
        intensity([FACTS, FACTS, Facts("image")], options(), "f")
    with pytest.raises(InputError, match="negative values"):
        intensity([FACTS, Facts("image", high=4095, shifted=True)], given, "f")


def test_names_of_files_are_numbers():
    assert stem(7) == "000007"

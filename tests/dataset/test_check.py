"""`synthrad prepare check`, from the command line to the page."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny_set import make

from synthrad.__main__ import main
from synthrad.study.study_file import load_study


def test_page_numbers_and_study(tmp_path, capsys):
    make(tmp_path / "set", rows=48)
    assert main(["prepare", "check", str(tmp_path / "set"), "--out", str(tmp_path / "page"), "--study", str(tmp_path / "s.yaml")]) == 0
    said = capsys.readouterr().out
    assert "48 images of 24 subjects, every file as the manifest says" in said and "it shows patients" in said
    page = (tmp_path / "page/check.html").read_text()
    for word in ("Recommended settings", "class_balanced", "Pictures", "tooth/crown", "Which labels come together", "data:image/png;base64,"):
        assert word in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")  # nothing is loaded from elsewhere
    assert json.loads((tmp_path / "page/check.json").read_text())["images"] == 48
    assert load_study(tmp_path / "s.yaml").manifest == str(tmp_path / "set")
    assert main(["prepare", "check", str(tmp_path / "set"), "--study", str(tmp_path / "s.yaml")]) == 2
    assert "which exists; expected a new file" in capsys.readouterr().err


def test_a_broken_set_is_refused_and_no_page_is_written(tmp_path, capsys):
    make(tmp_path / "set", rows=24)
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "set/images/1.png")
    assert main(["prepare", "check", str(tmp_path / "set")]) == 2
    assert "row 3, " in capsys.readouterr().err and not (tmp_path / "set/check.html").exists()


def test_a_synthetic_set_has_a_page_without_recommendations(tmp_path, capsys):
    make(tmp_path / "set", rows=12, source="synthetic")
    assert main(["prepare", "check", str(tmp_path / "set")]) == 0
    page = (tmp_path / "set/check.html").read_text()
    assert "All images are synthetic" in page and "Recommended settings" not in page
    assert main(["prepare", "check", str(tmp_path / "set"), "--study", str(tmp_path / "s.yaml")]) == 2


@pytest.mark.parametrize("words", [["check"], ["check", "nowhere"]])
def test_bad_calls_exit_2(words, capsys):
    try:
        code = main(["prepare", *words])
    except SystemExit as e:
        code = e.code
    assert code == 2

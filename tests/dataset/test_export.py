"""`synthrad prepare export` as a command: what it prints, and options that a format does not have."""

import pytest
from tiny_set import make

from synthrad.__main__ import main


@pytest.mark.parametrize("source, said", [("real", "an export is no de-identification"), ("synthetic", "synthrad audit ... --gate")])
def test_what_is_said_of_a_set(tmp_path, capsys, source, said):
    make(tmp_path / "set", rows=6, source=source)
    assert main(["prepare", "export", str(tmp_path / "set"), str(tmp_path / "out"), "--to", "croissant"]) == 0
    printed = capsys.readouterr().out
    assert "6 images of tiny as croissant" in printed and f"wrote {tmp_path / 'out'}\n" in printed and said in printed


@pytest.mark.parametrize("flags, said", [(["--to", "croissant", "--parts"], "--to coco"), (["--to", "dicom"], "synthetic")])
def test_what_a_format_does_not_have_is_refused_before_anything_is_written(tmp_path, capsys, flags, said):
    make(tmp_path / "set", rows=6)
    assert main(["prepare", "export", str(tmp_path / "set"), str(tmp_path / "out"), *flags]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()

"""`synthrad prepare phantom`, from the command line to a manifest."""

import pytest

from synthrad.__main__ import main
from synthrad.records import Manifest


def test_prepare_phantom(tmp_path, capsys):
    command = [
        "prepare",
        "phantom",
        str(tmp_path / "real"),
        "--number",
        "24",
        "--size",
        "48",
        "48",
        "--seed",
        "2",
    ]
    more = ["--fractions", "0.5", "0", "0", "0.5", "--tooth-classes", "fdi", "--images-per-subject", "1"]
    assert main(command + more) == 0
    assert "24 images of 24 subjects" in capsys.readouterr().out
    real = Manifest.read(tmp_path / "real")
    assert (
        len(real) == 24
        and len(real.info.layers["tooth"]) == 32
        and set(real.column("split")) == {"train", "test"}
    )
    like = ["--synthetic", "good", "--like", str(tmp_path / "real"), "--number", "5", "--seed", "1"]
    assert main(["prepare", "phantom", str(tmp_path / "good"), *like]) == 0
    made = Manifest.read(tmp_path / "good")
    assert len(made) == 5 and made[0].source == "synthetic" and made.info.layers == real.info.layers


@pytest.mark.parametrize(
    "flags, named",
    [
        (["--synthetic", "good"], "--like"),
        (["--like", "nowhere"], "--like"),
        (["--synthetic", "good", "--like", "nowhere", "--size", "64", "64"], "--size"),
        (["--synthetic", "good", "--like", "nowhere"], "nowhere"),
        (["--synthetic", "good", "--like", "nowhere", "--noise-rate", "0.2"], "--noise-rate"),
        (["--number", "0"], "--number"),
        (["--number", "4", "--size", "8", "8"], "--size"),
        (["--number", "4", "--fractions", "1", "1", "1", "1"], "--fractions"),
        (["--number", "4", "--images-per-subject", "5"], "--images-per-subject"),
    ],
)
def test_bad_input_is_one_message(tmp_path, monkeypatch, capsys, flags, named):
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "phantom", str(tmp_path / "out"), *flags]) == 2
    said = capsys.readouterr().err
    assert named in said and "Traceback" not in said
    assert not (tmp_path / "out" / "dataset.yaml").exists()

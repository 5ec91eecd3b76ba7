"""Pictures of `synthrad sample`: what a command line asks for, and what is on them."""

import numpy as np
import pytest
from PIL import Image
from tiny_generator import sample_command

from synthrad import preview
from synthrad.__main__ import main
from synthrad.data.images import read_image
from synthrad.errors import InputError
from synthrad.preview import kind_of
from synthrad.records import Manifest
from synthrad.sample import parser


def kind(*flags):
    return kind_of(parser().parse_args(["--checkpoint", "last.ckpt", *flags]))


def test_what_a_command_line_asks_for():
    assert kind("--out", "set") == kind("--out", "set", "--sheet", "set.png") == "set"
    assert kind("--sheet", "psi.png", "--truncation", "1", "0.7") == "truncations"
    assert kind("--interpolate", "w.gif", "--fps", "5", "--steps", "3") == kind("--interpolate", "w.PNG") == "walk"


@pytest.mark.parametrize(("flags", "message"), [
    (["--truncation", "1", "0.7", "--out", "set"], "2 values for a set"),
    (["--truncation", "1", "0.7", "--interpolate", "w.gif"], "2 values"),
    (["--sheet", "psi.png"], "--out: found nothing"),
    ([], "--out: found nothing"),
    (["--out", "set", "--sheet", "set.jpg"], "set.jpg"),
    (["--out", "set", "--sheet", "set/sheet.png"], "inside the set's folder"),
    (["--out", "set", "--sheet", "set/../set/x/sheet.png"], "inside the set's folder"),
    (["--out", "set", "--interpolate", "w.gif"], "also --out"),
    (["--sheet", "a.png", "--interpolate", "w.gif"], "also --sheet"),
    (["--interpolate", "w.mp4"], "w.mp4; expected a file name that ends in .png or .gif or .webp"),
    (["--interpolate", "w.png", "--fps", "5"], "--fps"),
    (["--interpolate", "w.gif", "--fps", "0"], "--fps"),
    (["--interpolate", "w.gif", "--steps", "0"], "--steps"),
    (["--out", "set", "--steps", "4"], "--steps: found no --interpolate"),
    (["--out", "set", "--fps", "4"], "--fps: found no --interpolate"),
])  # fmt: skip
def test_flags_that_are_refused(flags, message):
    with pytest.raises(InputError, match=message):
        kind(*flags)


@pytest.fixture
def command(trained, tmp_path, monkeypatch):
    """The command of a set of 10 without --out and --number."""
    real, checkpoint = trained
    monkeypatch.setenv("SYNTHRAD_PROJECT", str(real.parent))
    words = sample_command(checkpoint, real, tmp_path / "set")
    return [w for i, w in enumerate(words) if w not in ("--out", "--number") and words[i - 1] not in ("--out", "--number")]


@pytest.fixture
def laid_out(monkeypatch):
    """What is given to `sheet`: heading, blocks, columns."""
    seen = []
    whole = preview.sheet
    monkeypatch.setattr(preview, "sheet", lambda *args: (seen.append(args), whole(*args))[1])
    return seen


def first_pixels(made, k):
    return read_image(made[k].channels[0])


def test_a_sheet_of_a_set_is_beside_it(command, tmp_path, capsys):
    whole = [*command, "--out", str(tmp_path / "set"), "--number", "10"]
    assert main(whole) == 0
    before = {p: p.read_bytes() for p in (tmp_path / "set").rglob("*") if p.is_file()}
    assert main([*whole, "--sheet", str(tmp_path / "looks" / "set.png")]) == 0  # of a finished set too
    assert f"wrote {tmp_path / 'looks' / 'set.png'}" in capsys.readouterr().out
    assert {p: p.read_bytes() for p in (tmp_path / "set").rglob("*") if p.is_file()} == before
    page = np.asarray(Image.open(tmp_path / "looks" / "set.png"))
    shown = np.repeat(first_pixels(Manifest.read(tmp_path / "set"), 0).repeat(8, 0).repeat(8, 1)[..., None], 3, -1)
    corners = np.argwhere((page[:-128, :-128] == shown[0, 0]).all(-1))
    assert any(np.array_equal(page[y : y + 128, x : x + 128], shown) for y, x in corners)


def test_the_same_images_at_several_truncations(command, tmp_path, laid_out):
    sheet = tmp_path / "psi.png"
    assert main([*command, "--number", "6", "--sheet", str(sheet), "--truncation", "1", "0.7", "0.2"]) == 0
    (_, blocks, columns, _), = laid_out
    assert [b.title for b in blocks] == ["truncation 1", "truncation 0.7", "truncation 0.2"] and columns == 6
    assert not (tmp_path / "set").exists() and Image.open(sheet).size[0] == 2 * 14 + 6 * (128 + 6) - 6
    for block, psi in zip(blocks, (1, 0.7, 0.2), strict=True):
        made = tmp_path / f"set{psi}"
        assert main([*command, "--number", "6", "--out", str(made), "--truncation", str(psi)]) == 0
        made = Manifest.read(made)
        for k, panel in enumerate(block.panels):
            classes = [c for c, v in zip(made.info.classes, made[k].labels, strict=True) if v == 1]
            assert panel.caption == f"{k:06d}  {', '.join([*classes, *made[k].attributes.values()])}"
            assert np.array_equal(panel.pixels[:128:8, ::8, 0], first_pixels(made, k))


def test_a_strip_goes_from_image_to_image_of_the_set(command, tmp_path, laid_out):
    assert main([*command, "--number", "3", "--interpolate", str(tmp_path / "walk.png"), "--steps", "2", "--seed", "4"]) == 0
    (_, blocks, columns, _), = laid_out
    assert columns == 3 and [b.title[:7] for b in blocks] == ["image 0", "image 1"]
    assert " to image 2" in blocks[1].title
    assert main([*command, "--number", "3", "--out", str(tmp_path / "set"), "--seed", "4"]) == 0
    made = Manifest.read(tmp_path / "set")
    for k, block in enumerate(blocks):
        for panel, number in ((block.panels[0], k), (block.panels[2], k + 1)):
            shown = panel.pixels[:128:8, ::8, 0].astype(int)
            assert np.abs(shown - first_pixels(made, number)).max() <= 1  # another batch may move a grey level


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_an_animation(command, tmp_path, suffix):
    path = tmp_path / f"walk.{suffix}"
    flags = ["--number", "3", "--interpolate", str(path), "--steps", "4", "--fps", "20", "--truncation", "0.7"]
    assert main([*command, *flags]) == 0
    film, milliseconds = Image.open(path), 0
    for i in range(film.n_frames):  # equal frames are stored once, and shown longer
        film.seek(i)
        film.load()
        milliseconds += film.info["duration"]
    assert film.n_frames > 3 and film.size == (258, 128)
    assert milliseconds == 3 * 4 * 50


def test_previews_that_are_refused(command, tmp_path, capsys):
    assert main([*command, "--interpolate", str(tmp_path / "w.gif"), "--number", "60"]) == 2
    assert "1440 pictures; expected at most 1000" in capsys.readouterr().err
    assert main([*command, "--interpolate", str(tmp_path / "w.gif"), "--number", "1"]) == 2
    assert "at least 2" in capsys.readouterr().err
    assert main([*command, "--sheet", str(tmp_path / "s.png"), "--truncation", "1", "1.5"]) == 2
    assert "--truncation: found 1.5" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.gif")) and not list(tmp_path.glob("*.png"))

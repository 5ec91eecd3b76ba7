import io

import numpy as np
import pytest
from PIL import Image
from tiny_set import make

from synthrad.data import sheets
from synthrad.data.sheets import COLOURS, Block, Panel, animation, class_sheet, picture, sheet, to_grey
from synthrad.errors import InputError

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3


def test_pixels_are_enlarged_whole():
    drawn = picture(GREY, None, [])
    assert drawn.shape == (128, 128, 3) and np.array_equal(drawn, np.repeat(GREY.repeat(16, 0).repeat(16, 1)[..., None], 3, -1))
    assert picture(np.zeros((512, 1024), np.uint8), None, []).shape == (128, 256, 3)
    assert picture(np.zeros((100, 200), np.uint8), None, []).shape == (100, 200, 3)


def test_contours_lie_on_the_edge_of_their_structure():
    masks = np.zeros((2, 8, 8), np.int64)
    masks[0, 2:6, 2:6], masks[1, 0, :4] = 2, 1
    drawn = picture(GREY, masks, [3, 1])
    plain, outlined = drawn[:, :128], drawn[:, 130:]
    assert (drawn[:, 128:130] == 255).all()
    second = (outlined == COLOURS[1]).all(-1)  # the second of the first layer's three structures
    other = (outlined == COLOURS[3]).all(-1)  # the first of the second layer
    assert second[32, 32:96].all() and second[32:96, 95].all() and not second[:32].any() and not second[40:88, 40:88].any()
    assert other[15, :64].all() and not other[16:].any() and not other[0, :60].any()  # the picture's border is no edge
    rest = ~(second | other)
    assert np.array_equal(outlined[rest], plain[rest])
    upright = picture(GREY, masks, [3, 1], upright=True)
    assert upright.shape == (258, 128, 3) and np.array_equal(upright[130:], outlined)


def test_grey_covers_the_range():
    assert to_grey(np.array([[-1, 0, 1, 1.2]])).tolist() == [[0, 128, 255, 255]]


def test_a_block_a_class_present_and_absent(tmp_path, monkeypatch):
    made = make(tmp_path / "set", rows=24, source="synthetic", name="squares")
    seen = []
    monkeypatch.setattr(sheets, "sheet", lambda heading, blocks, columns, layers: seen.extend([heading, *blocks]))
    class_sheet(made)
    heading, *blocks = seen
    assert heading == "squares: 24 images"
    labels = made.labels
    counts = [(labels[:, 0] == 1).sum(), (labels[:, 0] == 0).sum(), *[(labels[:, 1] == v).sum() for v in (1, 0)],
              np.isnan(labels[:, 1]).sum()]
    names = ["caries present", "caries absent", "implant present", "implant absent", "implant left open"]
    assert [b.title for b in blocks] == [f"{name}: {n} images" for name, n in zip(names, counts, strict=True)]
    assert [len(b.panels) for b in blocks] == [min(8, n) for n in counts]
    numbers = [int(p.caption.split()[0]) for p in blocks[0].panels]
    assert numbers[0] == 1 and numbers[-1] == 23 and all(labels[n, 0] == 1 for n in numbers)  # first to last, evenly
    assert all("caries" in p.caption for p in blocks[0].panels) and not any("caries" in p.caption for p in blocks[1].panels)
    first = np.asarray(Image.open(made[1].channels[0]))
    assert np.array_equal(blocks[0].panels[0].pixels[::4, :128:4, 0], first)
    class_sheet(made.with_columns({"label:caries": np.nan, "label:implant": np.nan}))
    assert seen[-1].title == "all images: 24 images"
    with pytest.raises(InputError, match="without images"):
        class_sheet(made.take([]))


def test_a_sheet_has_its_panels_in_rows(tmp_path):
    made = make(tmp_path / "set", rows=24, source="synthetic")
    page = np.asarray(class_sheet(made))
    assert page.shape[1] == 2 * 14 + 4 * (258 + 6) - 6
    panels = [Panel(np.full((40, 50, 3), v, np.uint8), "a caption that is far too long for its panel") for v in (10, 60, 110)]
    page = np.asarray(sheet("heading " * 50, [Block("title", panels)], 2, {"l": ("s",)}))
    assert page.shape[1] == 2 * 14 + 2 * 56 - 6
    at = {v: np.argwhere((page == v).all(-1)) for v in (10, 60, 110)}
    assert all(len(a) >= 2000 for a in at.values())
    assert at[60].min(0)[0] == at[10].min(0)[0] and at[60].min(0)[1] == at[10].min(0)[1] + 56
    assert at[110].min(0)[0] == at[10].min(0)[0] + 40 + 6 + 16
    assert (page[:, -14:] == 255).all()  # nothing is written into the margin


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_plays_for_ever(suffix):
    masks = np.zeros((1, 8, 8), np.int64)
    frames = []
    for i in range(4):
        masks[:] = 0
        masks[0, 2:6, i : i + 3] = 1
        frames.append(picture(GREY, masks, [1]))
    film = Image.open(io.BytesIO(animation(frames, 10, suffix)))
    assert film.n_frames == 4 and film.info["loop"] == 0
    film.seek(2)
    film.load()
    assert film.info["duration"] == 100 and film.size == (258, 128)
    shown = np.asarray(film.convert("RGB")).astype(int)
    assert np.abs(shown - frames[2]).mean() < 3
    if suffix == ".gif":  # contours keep their colour: greys and colours have a palette of their own
        contour = (frames[2] == COLOURS[0]).all(-1)
        assert contour.any() and (shown[contour] == COLOURS[0]).all()


def letters(page: Image.Image) -> int:
    """Height of the heading, in pixels."""
    inked = (np.asarray(page.convert("L")) < 128).any(1)
    top = int(inked.argmax())
    return int((~inked[top:]).argmax())


def test_letters_of_a_wide_sheet_grow_with_it():
    panel = Panel(np.full((40, 250, 3), 255, np.uint8), "row 2")
    one, four = (sheet("HEADING", [Block("train", [panel] * n)], n, {"m": ("lung",)}) for n in (1, 9))
    assert four.width > 2200 and letters(four) >= 1.7 * letters(one)
    assert four.height - one.height >= 50  # lines have room for them

"""Which images the report shows, how they are read, and what is drawn on them. Nearest images and pages: test_report."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from synthrad.dataset_info import HERE, DatasetInfo
from synthrad.manifest_table import empty_columns
from synthrad.records import Manifest
from synthrad.study import pictures
from synthrad.study.pictures import Picture, Triplet, draw_triplets, grid, nearest, triplets
from synthrad.study.plots import COLOURS

CLASSES = ("caries", "implant")


def make(folder, images, source="real", labels=None, masks=None, classes=CLASSES, **info):
    """A manifest of images given as arrays; masks: one array or None each."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = {"tooth": ("crown", "root"), "bone": ("lesion",)}
    about = DatasetInfo(source, "toy", classes, layers, roots={HERE: str(folder)}, **info)
    columns = empty_columns(about, len(images))
    for i, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{i}.png")
        columns["channel:image"][i], columns["digest"][i], columns["subject"][i] = f"{i}.png", f"{source}{i}", f"{source}{i}"
        if masks is not None and masks[i] is not None:
            Image.fromarray(masks[i]).save(folder / f"mask{i}.png")
            columns["mask:tooth"][i] = f"mask{i}.png"
    columns["source"][:], columns["split"][:] = source, "train"
    for k, c in enumerate(classes):
        columns[f"label:{c}"] = np.array(labels if labels is not None else [[0] * len(classes)] * len(images), float)[:, k]
    return Manifest(pd.DataFrame(columns), about)


def noise(rows, seed, shape=(24, 48)):
    return list(np.random.default_rng(seed).integers(0, 255, (rows, *shape), dtype=np.uint8))


def opened(uri):
    head, data = uri.split(",", 1)
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def share(page, colour):
    """Of the pixels that have a colour of the plots."""
    return (np.abs(page.astype(int) - np.round(np.array(to_rgb(colour)) * 255)).max(axis=-1) <= 2).mean()


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """12 training images, and 8 synthetic ones of which number 5 mirrors training image 7."""
    home = tmp_path_factory.mktemp("sets")
    real = noise(12, 0)
    made = noise(8, 1)
    made[5] = np.ascontiguousarray(real[7][:, ::-1])
    return make(home / "real", real), make(home / "made", made, "synthetic")


def test_a_mirrored_copy_finds_its_original(sets):
    position, correlation = nearest(*sets)
    assert position[5] == 7 and correlation[5] > 0.99 and correlation[np.arange(8) != 5].max() < 0.5
    assert position.shape == correlation.shape == (8,)


def test_scores_are_not_taken_where_a_row_lacks_them(sets):
    train, made = sets
    told = [train.column("digest")[3]] * 8
    for names in (told[:7] + [""], told[:7] + ["of another set"]):
        scored = made.with_columns({"origin:nearest": names, "score:max_correlation": [0.25] * 8})
        assert nearest(train, scored)[0][5] == 7
    assert nearest(train, made.with_columns({"origin:nearest": told}))[0][5] == 7


@pytest.mark.parametrize(("number", "drawn", "close"), [(1, 1, 0), (2, 1, 1), (5, 3, 2), (8, 4, 4), (30, 8, 0)])
def test_half_is_drawn_at_random_and_half_is_most_similar(sets, number, drawn, close):
    train, made = sets
    rows = triplets(train, made, number, seed=2)
    captions = [t.synthetic.caption for t in rows]
    assert [c.endswith("(drawn at random)") for c in captions] == [True] * drawn + [False] * close
    assert all(c.endswith("(among the most similar)") for c in captions[drawn:])
    assert len({t.synthetic.image.tobytes() for t in rows}) == len(rows)
    copy = [t for t in rows if t.nearest.caption.endswith("correlation 1.00")]
    assert len(copy) == (number > 1)
    for t in copy:
        assert np.array_equal(t.synthetic.image, t.nearest.image[:, ::-1])


def test_the_seed_decides_what_is_drawn(sets):
    one, same, other = ([t.synthetic.image.tobytes() for t in triplets(*sets, number=6, seed=s)][:3] for s in (0, 0, 1))
    assert one == same != other


def test_nothing_is_shown_of_an_empty_set(sets):
    train, made = sets
    assert triplets(train.take([]), made) == [] and triplets(train, made, number=0) == []
    assert draw_triplets([]) == grid(made.take([])) == ""


def test_the_real_image_agrees_in_most_known_labels(tmp_path):
    nan = np.nan
    train = make(tmp_path / "real", noise(4, 0), labels=[[1, 0], [1, 1], [nan, 1], [0, 0]])
    made = make(tmp_path / "made", noise(4, 1), "synthetic", labels=[[1, 1], [0, 1], [nan, 1], [nan, nan]])
    rng = np.random.default_rng(0)
    found = [{pictures._alike(train, made, i, rng) for _ in range(60)} for i in range(4)]
    assert found == [{1}, {1, 2, 3}, {1, 2}, {0, 1, 2, 3}]


def test_captions_name_positive_labels(tmp_path):
    nan = np.nan
    made = make(tmp_path, noise(5, 0), labels=[[1, 1], [0, 1], [0, 0], [nan, 0], [nan, nan]])
    found = [pictures._labels(made, i) for i in range(5)]
    assert found == ["caries, implant", "implant", "no finding", "no finding", "labels unknown"]


def test_a_set_without_classes_has_pictures_all_the_same(tmp_path):
    train, made = (make(tmp_path / s, noise(3, k), s, classes=()) for k, s in enumerate(("real", "synthetic")))
    assert len(triplets(train, made, number=3)) == 3 and opened(grid(made)).size


def test_stored_values_are_stretched_to_grey(tmp_path):
    row = np.array([[0, 1000, 3000, 5000, 60_000]], np.uint16).repeat(5, axis=0)
    shown = pictures.picture_of(make(tmp_path, [row], intensity={"low": 1000.0, "high": 5000.0}), 0, "x")
    assert shown.image.dtype == np.uint8 and shown.image[0].tolist() == [0, 0, 127, 255, 255] and shown.caption == "x"


@pytest.mark.parametrize(("shape", "shown"), [((512, 512), (256, 256)), ((300, 2000), (77, 512)), ((200, 500), (200, 500)),
                                              ((1, 4000), (1, 512))])  # fmt: skip
def test_no_picture_is_kept_larger_than_the_page_needs_and_none_is_enlarged(tmp_path, shape, shown):
    mask = np.ones(shape, np.uint8)
    found = pictures.picture_of(make(tmp_path, [np.zeros(shape, np.uint8)], masks=[mask]), 0, "")
    assert found.image.shape == shown == found.masks["tooth/crown"].shape


def test_masks_are_those_of_the_structures_that_are_there(tmp_path):
    mask = np.zeros((24, 48), np.uint8)
    mask[4:10, 5:20] = 2
    made = make(tmp_path, noise(2, 0), masks=[mask, None])
    first, second = (pictures.picture_of(made, i, "") for i in (0, 1))
    assert list(first.masks) == ["tooth/root"] and np.array_equal(first.masks["tooth/root"], mask == 2) and second.masks == {}


def picture(*structures, shape=(40, 80), caption=""):
    masks = {}
    for k, name in enumerate(structures):
        masks[name] = np.zeros(shape, bool)
        masks[name][8:30, 4 + 9 * k : 12 + 9 * k] = True
    return Picture(np.full(shape, 90, np.uint8), masks, caption)


def test_contours_have_a_colour_for_each_structure_in_all_three_columns():
    plain = picture()
    page = opened(draw_triplets([Triplet(plain, picture("tooth/crown", "bone/crown"), plain)]))
    assert min(share(page, c) for c in COLOURS[:2]) > 10 * max(share(page, c) for c in COLOURS[2:6])
    assert max(share(opened(draw_triplets([Triplet(plain, plain, plain)])), c) for c in COLOURS[:6]) == 0


def test_what_has_a_contour_and_nothing_else_is_drawn(monkeypatch):
    """A mask of the whole picture has no border, and one without a pixel none either."""
    drawn = []
    monkeypatch.setattr(pictures.Axes, "contour", lambda axes, inside, **how: drawn.append((inside.sum(), how["colors"])))
    whole, none, part = np.ones((40, 80), bool), np.zeros((40, 80), bool), np.eye(40, 80, dtype=bool)
    shown = Picture(np.zeros((40, 80), np.uint8), {"tooth/crown": whole, "tooth/root": none, "bone/lesion": part})
    draw_triplets([Triplet(picture(), shown, picture())])
    assert drawn == [(40, [COLOURS[2]])]


def test_more_structures_than_colours_share_them_without_names(monkeypatch):
    names = [f"tooth/s{k}" for k in range(9)]
    structures = pictures.structures_of([Triplet(picture(*names[:4]), picture(*names[4:]), picture(names[0]))])
    assert structures == {("tooth", f"s{k}"): k for k in range(9)} and len(structures) > pictures.NAMED
    legends = []
    monkeypatch.setattr(pictures.Figure, "legend", lambda self, **options: legends.append(len(options["handles"])))
    for count in (8, 9):
        draw_triplets([Triplet(picture(*names[:count]), picture(), picture())])
    assert legends == [8]


def test_the_same_pictures_give_the_same_bytes_and_each_triplet_a_line(sets):
    rows = triplets(*sets, number=2)
    assert draw_triplets(rows) == draw_triplets(rows)
    assert 1.5 < opened(draw_triplets(rows)).shape[0] / opened(draw_triplets(rows[:1])).shape[0] < 2.2


def test_a_grid_has_the_lines_that_its_images_need(sets):
    _, made = sets
    height = {n: opened(grid(made, n, columns=2)).shape[0] for n in (1, 2, 3)}
    assert abs(height[1] - height[2]) < 10 and height[3] > 1.7 * height[2]
    assert grid(made, 1, seed=1) == grid(made, 1, seed=1) != grid(made, 1, seed=2)


def test_a_long_caption_is_cut_with_a_mark():
    assert pictures._short("x" * 58) == "x" * 58 and pictures._short("x" * 59) == "x" * 57 + "…"


def test_no_patient_is_named_where_there_are_no_classes(tmp_path):
    train, made = make(tmp_path / "real", noise(3, 0), classes=()), make(tmp_path / "made", noise(3, 1), "synthetic", classes=())
    row = triplets(train, made, number=1)[0]
    assert (row.real.caption, row.synthetic.caption) == ("real", "synthetic (drawn at random)")
    assert row.nearest.caption.startswith("correlation ")

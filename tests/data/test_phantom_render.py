"""The picture of a patient: the order of brightness, the dials of a style, and the arithmetic of the film."""

import numpy as np
import pytest

from synthrad.data import phantom_render
from synthrad.data.phantom_anatomy import make_anatomy
from synthrad.data.phantom_render import Plate, Style, render

SIZE = (96, 192)
SQUARE = np.array([(-0.2, 0.4), (0.2, 0.4), (0.2, 0.6), (-0.2, 0.6)])  # in units: 0.4 x 0.2 of a picture of 2 x 1


class Straight:
    """Random numbers of an exposure without turn, zoom or shift."""

    def uniform(self, low, high, number):
        return np.zeros(number)


def drawn(labels=(0, 0, 0, 0), style=None, subject=0, size=SIZE, overlooked=(), pose=0, age=45):
    patient = make_anatomy(6, subject, labels, "male", age)
    return render(patient, size, np.random.default_rng(pose), style or Style(), overlooked)


def test_brightness_follows_the_order_of_a_real_picture(monkeypatch):
    plates = []
    monkeypatch.setattr(phantom_render, "Plate", lambda *a: plates.append(Plate(*a)) or plates[-1])
    found = []
    for subject in (2, 4, 7):  # with metal wide enough to be seen whole
        image, _, _ = drawn(style=Style(noise=0.0), subject=subject, age=60)
        x, y = plates[-1].units()

        def cover(*names, plate=plates[-1]):
            return np.maximum.reduce([plate.cover(n) for n in names])

        tooth = cover("dentine", "enamel", "metal", "pulp")
        hard = ("cortex", "chin", "crest", "hyoid")
        solid = np.maximum(tooth, cover("mandible", "maxilla", "palate", "ghost", "zygoma", *hard))
        hollow = cover("air", "bite", "nose", "sinus")
        bone = (cover("mandible") > 0.99) & (tooth + cover("canal", "gap", "lamina", "air", *hard) < 0.01)
        neck = (cover("dentine") > 0.95) & (cover("enamel", "pulp", "metal", "gap") < 0.01)  # dentine that no bone lies behind
        air = (plates[-1].cover("air", 0.013) > 0.6) & (solid < 0.01)
        soft = (solid + hollow < 0.01) & (y > 0.25) & (y < 0.85) & (np.abs(x) < 0.9)
        places = air, soft, bone, neck, (cover("enamel") > 0.9) & (cover("metal") < 0.01), cover("metal") > 0.95
        found.append([image[p].mean() for p in places])
    assert np.diff(found, axis=1).min() > 5, found  # air, soft tissue, bone, dentine, enamel, metal


def test_findings_without_darkness_leave_the_picture_and_stay_in_the_mask():
    labels = (1, 1, 1, 0)
    plain, _, none = drawn()
    unseen, _, marked = drawn(labels, Style(lesions=0.0))
    assert np.array_equal(plain, unseen) and not none.any() and set(np.unique(marked)) == {0, 1, 2, 3}


def test_findings_are_as_bright_as_they_would_be_dark():
    labels = (1, 1, 1, 0)
    plain = drawn(style=Style(noise=0.0))[0].astype(float)
    dark, bright = (drawn(labels, Style(lesions=k, noise=0.0))[0] - plain for k in (1.0, -1.0))
    weak = drawn(labels, Style(lesions=0.3, noise=0.0))[0] - plain
    where = drawn(labels)[2] > 0
    assert dark[where].mean() < -20 and bright[where].mean() > 20 and 0.2 < weak[where].mean() / dark[where].mean() < 0.4


def test_what_is_overlooked_stays_dark_where_findings_are_bright():
    patient = make_anatomy(6, 0, (1, 1, 1, 0), "male", 45)
    plain, _, _ = drawn(style=Style(lesions=-1.0, noise=0.0))
    careless, _, mask = drawn(style=Style(lesions=-1.0, noise=0.0), overlooked=patient.lesions)
    where = drawn((1, 1, 1, 0))[2] > 0
    assert (careless.astype(float) - plain)[where].mean() < -20 and not mask.any()


def test_masks_move_off_the_picture_that_stays():
    plain, moved = drawn((1, 1, 0, 1)), drawn((1, 1, 0, 1), Style(mask_shift=(0.125, -0.0625)))
    x, y = round(0.125 * SIZE[1] / 2), round(-0.0625 * SIZE[0])
    assert (x, y) == (12, -6) and np.array_equal(plain[0], moved[0])
    assert np.array_equal(moved[1][:y, x:], plain[1][-y:, :-x]) and not moved[1][y:].any() and not moved[1][:, :x].any()
    for k in (1, 2, 4):
        rows, columns = (np.argwhere(m[2] == k).mean(axis=0) for m in (plain, moved))
        assert np.abs(columns - rows - [y, x]).max() < 2


def test_a_finding_moved_off_the_picture_is_in_no_mask():
    assert not drawn((0, 0, 0, 1), Style(mask_shift=(3.0, 0.0)))[2].any()


def test_gamma_darkens_and_noise_grows_with_the_signal():
    plain, dim = (drawn(style=Style(noise=0.0, gamma=g))[0].astype(float) for g in (1.0, 2.0))
    assert (dim <= plain + 1).all() and dim.mean() < 0.7 * plain.mean()
    light, noisy = (np.stack([drawn(style=Style(noise=k), pose=p)[0].astype(float) for p in range(4)]) for k in (0.0, 4.0))
    low, high = ((noisy - light)[(light > a) & (light < b)] for a, b in ((20, 60), (150, 220)))
    assert len(high) > 200 and high.std() > 1.5 * low.std() > 0


@pytest.mark.parametrize("size", [(32, 32), (32, 64)])
def test_a_finding_keeps_a_pixel_in_the_smallest_picture(size):
    for subject in range(25):
        assert set(np.unique(drawn((1, 1, 1, 1), subject=subject, size=size)[2])) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(("size", "factor"), [((32, 64), 4), ((160, 160), 4), ((100, 320), 3), ((321, 64), 2)])
def test_small_pictures_are_drawn_finer(size, factor):
    plate = Plate(size, Straight())
    assert plate.factor == factor and plate.picture("x").size == (size[1] * factor, size[0] * factor)


@pytest.mark.parametrize("size", [(64, 128), (64, 64), (50, 130)])
def test_pixels_and_units_are_each_others_inverse_under_any_pose(size):
    for pose in range(5):
        plate = Plate(size, np.random.default_rng(pose))
        x, y = plate.units()
        back = np.reshape(plate.pixels(np.stack([x.ravel(), y.ravel()], axis=1).astype(float)), (*size, 2))
        columns, rows = np.meshgrid(np.arange(size[1]), np.arange(size[0]))
        middle = (np.stack([columns, rows], axis=-1) + 0.5) * plate.factor - 0.5
        assert np.abs(back - middle).max() < 0.01
    assert np.abs(plate.units()[0].mean()) < 0.05 and plate.units()[1].mean() == pytest.approx(0.5, abs=0.05)


def test_the_cover_of_a_polygon_is_its_area():
    plate = Plate(SIZE, Straight())
    plate.fill("a", SQUARE)
    plate.fill("half", SQUARE, 128)
    cover = plate.cover("a")
    assert cover.shape == SIZE and cover.dtype == np.float32 and cover.min() == 0 and cover.max() == 1
    assert cover.mean() == pytest.approx(0.4 * 0.2 / 2, rel=0.05)
    assert plate.cover("half").max() == pytest.approx(128 / 255) and not plate.cover("nothing").any()
    assert plate.cover("nothing").shape == SIZE


def test_a_blur_moves_what_is_covered_and_takes_nothing_away():
    plate = Plate(SIZE, Straight())
    plate.fill("a", SQUARE)
    sharp, soft = plate.cover("a"), plate.cover("a", 0.03)
    assert soft.mean() == pytest.approx(sharp.mean(), rel=0.01) and soft.std() < 0.95 * sharp.std()
    assert np.array_equal(plate.cover("a", 0.29 / SIZE[0]), sharp)  # too little to be seen
    for edge, pixel in ((soft[48, :96], 2 / SIZE[1]), (soft[:48, 96], 1 / SIZE[0])):  # a unit is as long on both axes
        rise, at = np.diff(edge), np.arange(len(edge) - 1) * pixel
        middle = np.average(at, weights=rise)
        assert np.sqrt(np.average((at - middle) ** 2, weights=rise)) == pytest.approx(0.03, rel=0.1)


def test_a_thin_line_is_seen_and_a_thick_one_is_as_wide_as_asked_for():
    plate = Plate(SIZE, Straight())
    across = np.array([(-2.0, 0.5), (2.0, 0.5)])
    plate.line("thin", across, 1e-6)
    plate.line("thick", across, 0.1)
    assert plate.cover("thin").sum(axis=0).max() == pytest.approx(1 / plate.factor, abs=0.01)
    assert plate.cover("thick").mean() == pytest.approx(0.1, rel=0.06)

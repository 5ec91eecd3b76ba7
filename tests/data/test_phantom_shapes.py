"""Outlines: symmetric, closed, of the size that textbooks give, and one within the other where anatomy has it so."""

import numpy as np
import pytest
from matplotlib.path import Path

from synthrad.data import phantom_shapes as shapes

KINDS = sorted(set(shapes.KINDS))
SQUARE = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])


def area(polygon):
    x, y = polygon.T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def same_points(a, b):
    return all(np.abs(b - p).sum(axis=1).min() < 1e-9 for p in a) and len(a) == len(b)


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_corners_are_cut_and_points_doubled_each_round(rounds, closed):
    found = shapes.smooth(SQUARE, rounds, closed)
    assert len(found) == 4 * 2**rounds and found.min() >= 0 and found.max() <= 1
    kept = [any(np.array_equal(corner, p) for p in found) for corner in SQUARE]
    assert kept == ([True] * 4 if rounds == 0 else [False] * 4 if closed else [True, False, False, True])


def test_cutting_takes_an_eighth_of_a_square():
    assert area(shapes.smooth(SQUARE)) == pytest.approx(7 / 8) and np.array_equal(SQUARE[2], [1, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_teeth_are_symmetric_and_fill_their_frame(kind):
    for polygon in (shapes.CROWNS[kind], shapes.OUTLINES[kind], shapes.ROOTS[kind]):
        assert same_points(polygon * [-1, 1], polygon) and area(polygon) > 0.1
        assert np.abs(polygon[:, 0]).max() <= 1 + 1e-9
    crown, outline, root = shapes.CROWNS[kind], shapes.OUTLINES[kind], shapes.ROOTS[kind]
    assert crown[:, 1].min() >= -1e-9 and 0.9 < outline[:, 1].max() <= 1.04 and -1 <= outline[:, 1].min() < -0.9
    assert root[:, 1].max() < 0.1 and area(crown) < area(outline)


@pytest.mark.parametrize("kind", KINDS)
def test_the_pulp_lies_inside_its_tooth(kind):
    outline = Path(shapes.OUTLINES[kind])
    for part in shapes.PULPS[kind]:
        assert outline.contains_points(part).all()
    assert sum(map(area, shapes.PULPS[kind])) < 0.4 * area(shapes.OUTLINES[kind])


def test_an_implant_is_symmetric_and_no_wider_than_its_crown():
    assert same_points(shapes.IMPLANT * [-1, 1], shapes.IMPLANT)
    assert np.abs(shapes.IMPLANT[:, 0]).max() < 0.5 and shapes.IMPLANT[:, 1].max() == 0


def test_sixteen_teeth_cover_what_the_scale_says():
    """64 mm a side are 60 % of half the picture."""
    for sizes in (shapes.UPPER_MM, shapes.LOWER_MM):
        assert sizes.shape == (8, 3) and sizes[:, 0].sum() * shapes.UNITS_PER_MM == pytest.approx(0.6, abs=0.01)


def test_a_wider_jaw_is_wider_and_not_higher():
    plain, wide = shapes.ramus(1.0, 0.0), shapes.ramus(1.1, 0.0)
    assert np.allclose(wide, plain * [1.1, 1.0]) and plain[0, 0] == 0 and plain.min() >= 0 and plain.max() <= 1


def test_the_angle_of_the_jaw_opens():
    def opening(angle):
        corner, chin, joint = shapes.ramus(1.0, angle)[[5, 3, 8]]
        a, b = chin - corner, joint - corner
        return np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))

    assert opening(-1.0) < opening(0.0) < opening(1.0)
    moved = np.abs(shapes.ramus(1.0, 1.0) - shapes.ramus(1.0, 0.0)).max(axis=1)
    assert 4 <= moved.argmax() <= 6 and moved[0] < 1e-6 and moved[13] < 1e-6  # chin and joint stay


def test_a_blob_without_wobble_is_an_ellipse():
    found = shapes.blob((0.3, -0.2), (0.5, 0.1), np.zeros(4))
    assert found.shape == (18, 2) and np.allclose((((found - [0.3, -0.2]) / [0.5, 0.1]) ** 2).sum(axis=1), 1)
    assert shapes.blob((0, 0), (1, 1), np.zeros(4), points=7).shape == (7, 2)


@pytest.mark.parametrize("k", range(4))
def test_each_wobble_makes_another_shape_around_the_same_middle(k):
    found = shapes.blob((0, 0), (1, 1), 0.2 * np.eye(4)[k])
    radii = np.linalg.norm(found, axis=1)
    assert radii.max() <= 1.2 + 1e-9 and radii.min() >= 0.8 - 1e-9 and np.ptp(radii) > 0.34
    assert np.abs(found.mean(axis=0)).max() < 0.15
    assert np.argmax(np.abs(np.fft.rfft(radii - radii.mean()))) == (2, 2, 3, 3)[k]

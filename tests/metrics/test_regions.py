import numpy as np

from synthrad.metrics.regions import area_shares, component_counts, ranges, share_inside


def test_areas_and_components_of_a_drawn_mask():
    mask = np.zeros((10, 10), dtype=np.uint8)
    mask[0:2, 0:2] = 1
    mask[2, 2] = 1  # touches by a corner: the same piece
    mask[8, 8] = 1
    mask[5, 0:5] = 3
    np.testing.assert_allclose(area_shares(mask, 3), [0.06, 0, 0.05])
    np.testing.assert_array_equal(component_counts(mask, 3), [2, 0, 1])


def test_unknown_layers_are_unknown():
    mask = np.full((4, 4), 255, dtype=np.uint8)
    assert np.isnan(area_shares(mask, 2)).all() and np.isnan(component_counts(mask, 2)).all()


def test_range_counts_only_images_with_the_structure():
    values = np.array([[0.0, 0.2], [0.3, np.nan], [0.1, 0.0], [0.5, 0.4]])
    low, high = ranges(values)
    np.testing.assert_allclose(low, [0.1, 0.2])
    np.testing.assert_allclose(high, [0.5, 0.4])


def test_range_leaves_out_the_tails_of_a_large_set():
    low, high = ranges(np.arange(1, 1001, dtype=float)[:, None])
    assert (low[0], high[0]) == (5, 996)


def test_share_inside():
    low, high = np.array([0.1, np.nan]), np.array([0.2, np.nan])
    values = np.array([[0.15, 0.0], [0.3, 0.0], [0.15, 0.5], [0.0, 0.0]])
    np.testing.assert_array_equal(share_inside(values, low, high), [1.0, 0.0, 0.5, np.nan])

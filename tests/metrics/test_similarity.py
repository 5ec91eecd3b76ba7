import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthrad.metrics.similarity import near_copies, nearest_images


def pictures(n: int, seed: int, shape: tuple[int, ...] = (1, 6, 8)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 12),
    m=st.integers(1, 12),
    seed=st.integers(0, 10_000),
    memory=st.sampled_from([1, 4096, 2**20]),
)
def test_equals_corrcoef_whatever_the_block(n, m, seed, memory):
    queries, references = pictures(n, seed), pictures(m, seed + 1)
    table = np.corrcoef(queries.reshape(n, -1), references.reshape(m, -1))[:n, n:]
    found = nearest_images(queries, references, memory_bytes=memory)
    np.testing.assert_allclose(found.correlation, table.max(axis=1), atol=1e-5)
    np.testing.assert_array_equal(found.index, table.argmax(axis=1))
    assert not found.flipped.any()


def test_planted_copies_are_found_through_contrast_noise_and_flip():
    references, queries = pictures(40, 0, (1, 16, 16)), pictures(8, 1, (1, 16, 16)).astype(float)
    queries[2] = references[7] * 0.4 + 30
    queries[5] = references[31][..., ::-1]
    plain = nearest_images(queries, references)
    both = nearest_images(queries, references, flip=True)
    assert plain.correlation[2] == pytest.approx(1, abs=1e-5) and plain.index[2] == 7
    assert plain.correlation[5] < 0.5
    assert both.correlation[5] == pytest.approx(1, abs=1e-5) and both.index[5] == 31 and both.flipped[5]
    assert not both.flipped[2] and (both.correlation >= plain.correlation).all()
    others = [0, 1, 3, 4, 6, 7]
    assert both.correlation[others].max() < 0.5


def test_excluded_pairs_do_not_count():
    images = pictures(6, 3)
    found = nearest_images(images, images, exclude=np.eye(6, dtype=bool))
    assert (found.index != np.arange(6)).all() and (found.correlation < 0.99).all()
    alone = nearest_images(images[:1], images[:1], exclude=np.ones((1, 1), dtype=bool))
    assert alone.index[0] == -1 and np.isnan(alone.correlation[0])


def test_flat_images_have_correlation_zero():
    flat = np.full((1, 1, 6, 8), 17, dtype=np.uint8)
    assert nearest_images(flat, pictures(3, 0)).correlation[0] == 0


def test_sixteen_bit_and_large_offsets_keep_their_precision():
    references = pictures(5, 0).astype(np.uint16) + 60_000
    found = nearest_images(references[[4, 2]], references)
    assert found.index.tolist() == [4, 2] and found.correlation.min() > 0.9999


def test_memory_is_bounded():
    script = """
import resource, numpy as np
from synthrad.metrics.similarity import nearest_images
a = np.random.default_rng(0).integers(0, 256, (4000, 1, 64, 64)).astype("u1")
b = a[::-1].copy()
def run(kind, n):
    nearest_images(a[:n].astype(kind, copy=False), b[:n], flip=True, memory_bytes=2**22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
floats = run("f2", 400), run("f2", 2000)
print(floats[1] - floats[0], -run("u1", 400) + run("u1", 4000))
"""
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    floats, small = (float(x) for x in said.split())
    assert floats < 16 + 10 and small < 10  # MiB beside the float16 copy of the queries; both sets in float32: 47 and 125


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="one size"):
        nearest_images(pictures(1, 0), pictures(1, 0, (1, 4, 4)))


def test_copies_are_told_from_images_as_similar_as_those_of_other_patients():
    rng = np.random.default_rng(0)
    held_out = rng.normal(0.8, 0.05, 60)
    found = near_copies(np.r_[rng.normal(0.8, 0.05, 90), np.full(10, 0.999), np.nan], held_out)
    assert found.number >= 10 and found.threshold == held_out.max() and found.p < 0.01
    assert near_copies([0.9], [0.8, 0.7, np.nan]) == (1, 0.8, pytest.approx(1 / 3))  # 1 of 3 is the most similar
    assert near_copies([], [0.5]).p == near_copies([0.5], []).p == 1.0


def test_exchangeable_images_are_rarely_called_copies():
    rng = np.random.default_rng(1)
    p = np.array([near_copies(rng.normal(size=40), rng.normal(size=30)).p for _ in range(2000)])
    for alpha in (0.2, 0.05, 0.01):
        assert (p <= alpha).mean() <= alpha + 3 * np.sqrt(alpha / 2000)
    assert (p <= 0.2).mean() > 0.02  # and the p is not always 1


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 9), m=st.integers(1, 9), seed=st.integers(0, 10_000), memory=st.sampled_from([1, 4096, 2**20]), flip=st.booleans())
def test_integers_find_what_float64_finds(n, m, seed, memory, flip):
    queries, references = pictures(n, seed, (1, 7, 5)), pictures(m, seed + 1, (1, 7, 5))
    references[0] = queries[0, ..., ::-1] if flip else queries[0]
    references[m // 2] = 200  # flat
    exact = nearest_images(queries, references, flip=flip, memory_bytes=memory)
    slow = nearest_images(queries.astype(np.float64), references.astype(np.float64), flip=flip, memory_bytes=memory)
    np.testing.assert_allclose(exact.correlation, slow.correlation, atol=1e-6)
    table = np.corrcoef(queries.reshape(n, -1), references.reshape(m, -1))[:n, n:]
    if not flip:
        np.testing.assert_array_equal(exact.index, np.where(np.isnan(table), 0, table).argmax(1))


def test_the_largest_8_bit_images_whose_products_fit_into_32_bits():
    from synthrad.metrics.similarity import MOST_PIXELS

    bright = np.zeros((1, 1, 1, MOST_PIXELS), np.uint8)
    bright[..., : MOST_PIXELS // 2] = 255
    assert nearest_images(bright, bright).correlation[0] == pytest.approx(1, abs=1e-6)
    wider = np.concatenate([bright, bright], -1)  # too large: by the other way
    assert nearest_images(wider, 255 - wider).correlation[0] == pytest.approx(-1, abs=1e-5)

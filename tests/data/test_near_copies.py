"""Near copies: what counts as one picture, and what does not. Long form: tests/gates/test_gate_leaks.py."""

import io

import numpy as np
import pytest
from PIL import Image

from synthrad.data.near_copies import LEAST, MOST, near_copies, picture_of, threshold_of
from synthrad.data.phantom import draw_phantom


def jpeg(image, quality):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.array(Image.open(stream))


KINDS = {
    "same": lambda a: a.copy(),
    "brighter": lambda a: (a * 0.8 + 30).astype(np.uint8),
    "jpeg": lambda a: jpeg(a, 75),
    "mirrored": lambda a: a[:, ::-1],
    "upside down": lambda a: a[::-1],
    "turned by 180": lambda a: a[::-1, ::-1],
    "cropped": lambda a: a[3:, 5:-4],
    "cropped and mirrored": lambda a: a[4:-3, 2:-8][:, ::-1],
    "larger": lambda a: np.array(Image.fromarray(a).resize((160, 90))),
    "smaller": lambda a: np.array(Image.fromarray(a).resize((84, 42))),
    "16 bit": lambda a: a.astype(np.uint16) * 257,
}


@pytest.fixture(scope="module")
def phantoms():
    return [draw_phantom(3, k, (64, 128), subject=k).image for k in range(60)]


def test_each_kind_of_copy_is_found_and_nothing_else(phantoms):
    copies = [change(phantoms[k]) for k, change in enumerate(KINDS.values())]
    pictures = np.stack([picture_of([a]) for a in [*phantoms, *copies]])
    pairs, threshold = near_copies(pictures, range(len(pictures)))
    assert {(p.first, p.second) for p in pairs} == {(k, 60 + k) for k in range(len(KINDS))}
    assert all(threshold <= p.likeness <= 1 for p in pairs) and LEAST <= threshold <= MOST
    owners = [*range(60), *range(len(KINDS))]  # of one patient nothing is compared
    assert not {(p.first, p.second) for p in near_copies(pictures, owners)[0]} & {(k, 60 + k) for k in range(len(KINDS))}


def test_several_channels_are_one_picture(phantoms):
    rows = [[phantoms[k], phantoms[k + 20]] for k in range(20)] + [[jpeg(phantoms[4], 90), jpeg(phantoms[24], 90)]]
    pairs, _ = near_copies(np.stack([picture_of(r) for r in rows]), range(21))
    assert [(p.first, p.second) for p in pairs] == [(4, 20)]


def test_flat_pictures_and_few_of_them():
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(0, 200, (8, 8)), np.ones((8, 8))).astype(np.uint8)
    flat = np.full((64, 64), 9, np.uint8)
    picture = lambda *several: np.stack([picture_of([a]) for a in several])  # noqa: E731
    assert near_copies(picture(flat, flat + 1), "ab") == ([], MOST)
    assert near_copies(picture(texture), "a") == ([], MOST)
    assert [p[:2] for p in near_copies(picture(texture, flat, texture[::2, ::2]), "abc")[0]] == [(0, 2)]
    assert near_copies(picture(texture, texture.T), "ab")[0] == []


def test_the_threshold_follows_the_set():
    rng = np.random.default_rng(0)
    alike, unlike = np.tanh(rng.normal(1.0, 0.22, 400)), np.tanh(rng.normal(0.5, 0.1, 400))
    assert LEAST <= threshold_of(unlike) < threshold_of(alike) < MOST
    copied = np.concatenate([unlike, np.full(80, 0.999)])
    assert threshold_of(copied) < 0.92
    assert threshold_of(np.full(4, 1.0)) == MOST

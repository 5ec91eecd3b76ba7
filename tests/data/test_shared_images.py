"""Two sets that share images: equal files, changed copies, and nothing else."""

import numpy as np
import pandas as pd
import pytest
from phantom_sets import COPIES, write_set

from synthrad.data.near_copies import copies_between, picture_of
from synthrad.data.phantom import draw_phantom
from synthrad.data.shared_images import Shared, shared_images
from synthrad.errors import InputError


@pytest.fixture(scope="module")
def phantoms():
    return [draw_phantom(5, k, (64, 128), subject=k).image for k in range(36)]


@pytest.fixture(scope="module")
def sets(tmp_path_factory, phantoms):
    """24 images; 12 others, a copy of each kind of the first ones, an equal file, and the first image twice."""
    folder, changed = tmp_path_factory.mktemp("sets"), [change(phantoms[k]) for k, change in enumerate(COPIES.values())]
    ours = write_set(folder / "ours", phantoms[:24])
    theirs = write_set(folder / "theirs", [*phantoms[24:], *changed, phantoms[20], phantoms[20]])
    return ours, theirs


def test_copies_are_found_and_nothing_else(sets):
    found, count = shared_images(*sets, workers=2), len(COPIES)
    planted = {(k, 12 + k) for k in range(count)} | {(20, 12 + count), (20, 13 + count)}
    assert {(p.ours, p.theirs) for p in found.pairs} == planted and found.images == (24, 14 + count)
    assert {(p.ours, p.theirs) for p in found.pairs if p.same_file} == {(20, 12 + count), (20, 13 + count)}
    assert all(found.threshold <= p.likeness <= 1 for p in found.pairs)
    assert Shared.from_dict(found.to_dict()) == found
    turned = shared_images(*sets[::-1], workers=2)
    assert {(p.theirs, p.ours) for p in turned.pairs} == planted
    held = np.arange(24) < 3
    assert {p.ours for p in found.among(held, np.ones(len(sets[1]), bool))} == {0, 1, 2}


def test_a_set_is_all_of_itself_and_nothing_more(sets):
    found = shared_images(sets[0], sets[0], workers=2)
    assert {(p.ours, p.theirs) for p in found.pairs} == {(k, k) for k in range(24)} and all(p.same_file for p in found.pairs)


def test_no_pictures_and_other_channels(sets, phantoms, tmp_path):
    none = np.zeros((0, 64, 64), np.float32)
    some = np.stack([picture_of([p]) for p in phantoms[:3]])
    assert copies_between(none, some)[0] == copies_between(some, none)[0] == copies_between(some, np.zeros_like(some))[0] == []
    assert [p[:2] for p in copies_between(some[:1], some[::-1])[0]] == [(0, 2)]
    other = write_set(tmp_path / "other", phantoms[:2], channels=("t1", "t2"))
    with pytest.raises(InputError, match="found t1, t2; expected image, as in"):
        shared_images(sets[0], other)


def test_blank_digests_are_files_of_their_own(sets):
    ours = type(sets[0])(sets[0].table.assign(digest=pd.Series([""] * 24, dtype=object)), sets[0].info)
    found = shared_images(ours.take(range(5)), sets[0], workers=2)
    assert {(p.ours, p.theirs) for p in found.pairs} == {(k, k) for k in range(5)} and not any(p.same_file for p in found.pairs)

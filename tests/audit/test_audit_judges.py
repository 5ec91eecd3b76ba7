"""What judges are asked and shown: targets that a set names, images small enough, the same fit again whatever was drawn before."""

import numpy as np
import pytest
import torch
from known_pictures import coins, manifest, textures

from synthrad.audit import judges
from synthrad.audit.judges import (
    MOST_VALUES,
    SIDE,
    STRIDE,
    Classifier,
    Segmenter,
    Target,
    enough,
    fit_verifier,
    small,
    targets_of,
)
from synthrad.audit.sides import Sides, Witnesses


def test_targets_of_attributes_and_labels():
    rows = manifest(range(3), **{"label:x": [1.0, np.nan, 0.0], "attribute:view": ["PA", "", "AP"]})
    assert list(np.nan_to_num(Target("label", "x", "label:x").of(rows), nan=9)) == [1, 9, 0]
    assert list(np.nan_to_num(Target("attribute", "view=AP", "attribute:view", "AP").of(rows), nan=9)) == [0, 9, 1]
    assert np.isnan(Target("label", "y", "label:y").of(rows)).all() and np.isnan(Target("attribute", "sex=F", "attribute:sex", "F").of(rows)).all()  # of what it has not


@pytest.mark.parametrize(("size", "shown"), [((32, 48), (32, 48)), ((128, 192), (SIDE, 96)), ((192, 128), (96, SIDE)), ((64, 64), (64, 64)), ((36, 44), (32, 48)), ((16, 50), (16, 48)),
                                             ((128, 1000), (SIDE, 496))])
def test_images_are_at_most_so_large_and_never_enlarged_beyond_a_multiple(size, shown):
    images = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = small(images)
    assert found.shape[2:] == shown and not [s for s in shown if s % STRIDE] and found.abs().max() <= 1
    assert (found is images) == (size == shown) and torch.allclose(small(torch.full((1, 1, *size), 0.25)), torch.tensor(0.25))


def sides_of(drawn, rows):
    nothing = torch.zeros(0)
    return Sides(nothing, nothing, None, None, np.zeros(0, int), np.zeros(0, int), rows, drawn, None, rows[:0], "")


def test_targets_are_what_the_set_names_and_the_real_images_tell_apart():
    n, many = 30, [f"v{k}" for k in range(MOST_VALUES + 1)]
    values = {"two": ["M", "F"], "three": ["a", "b", "c"], "one": ["x"], "ten": many[:MOST_VALUES], "many": many, "hidden": ["p", "q"]}
    columns = {f"attribute:{a}": [v[k % len(v)] for k in range(n)] for a, v in values.items()}
    real = manifest(range(n), **{"label:told": coins(0, n), "label:untold": coins(1, n), **columns, "attribute:three": [*["", "a", "b", "c"] * 7, "", ""]})
    drawn = manifest(range(n), **{"label:told": np.r_[1.0, np.full(n - 1, np.nan)], "label:untold": np.full(n, np.nan), **columns, "attribute:hidden": [""] * n})
    found = [t.name for t in targets_of(sides_of(drawn, real))]
    assert found == ["told", "two=F", "three=a", "three=b", "three=c", *sorted(f"ten={v}" for v in many[:MOST_VALUES])]


def test_subjects_are_counted_once_on_either_side():
    values, subjects = np.array([1, 1, 0, 1, np.nan, 0]), np.array(["a", "a", "a", "b", "c", "d"])
    assert enough(values, subjects) == (2, 2) and enough(values[:0], subjects[:0]) == (0, 0)


def test_a_fit_leaves_the_random_state_and_is_the_same_again(monkeypatch):
    monkeypatch.setattr(judges, "STEPS", 2)
    (images, masks), label = textures(0, 24, coins(0, 24)), coins(0, 24)
    witnesses = Witnesses(manifest(np.arange(24) // 2, **{"label:x": label}), images, masks[:20], np.arange(20))
    for fit in (lambda seed: Classifier(witnesses, [Target("label", "x", "label:x")] * 2, seed), lambda seed: Segmenter(witnesses, seed), lambda seed: fit_verifier(witnesses, seed).embed):
        state = torch.get_rng_state()
        one = fit(0)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(5)
        with torch.no_grad():
            answers = [torch.as_tensor(f(images)).double() for f in (one, fit(0), fit(1))]
            alone = torch.as_tensor(one(images[:3])).double()
        assert torch.equal(answers[0], answers[1]) and not torch.equal(answers[0], answers[2]) and torch.allclose(alone, answers[0][:3], atol=1e-5)
    probabilities = Classifier(witnesses, [Target("label", "x", "label:x")] * 2)(images)
    assert probabilities.shape == (24, 2) and (0 <= probabilities).all() and (probabilities <= 1).all()
    assert Segmenter(witnesses)(images).shape == (24, 1, 32, 32)

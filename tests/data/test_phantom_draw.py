"""One phantom: what its arguments promise, and what their faults say. Pictures themselves: test_phantom, test_phantom_render."""

import numpy as np
import pytest

from synthrad.data.phantom_anatomy import FDI, FINDINGS
from synthrad.data.phantom_draw import draw_phantom, layers, subject_of
from synthrad.errors import InputError

SIZE, NONE = (32, 64), (0, 0, 0, 0)


def test_layers_are_those_of_the_masks():
    assert layers() == layers("binary") == {"tooth": ("tooth",), "abnormality": FINDINGS}
    assert layers("fdi") == {"tooth": FDI, "abnormality": FINDINGS}


@pytest.mark.parametrize("mean", [1.0, 1.25, 1.6, 2.0])
def test_images_per_subject_has_the_mean_asked_for(mean):
    subjects = [subject_of(9, k, mean) for k in range(4000)]
    assert 4000 / len(set(subjects)) == pytest.approx(mean, rel=0.02)
    assert all(s in (k, k - 1) and (s == k or k % 2) for k, s in enumerate(subjects))  # pairs begin at even numbers


def test_who_shares_is_of_the_seed_and_more_share_where_more_are_asked_for():
    few, many = ({k for k in range(400) if subject_of(9, k, mean) != k} for mean in (1.2, 1.6))
    assert few < many and few != {k for k in range(400) if subject_of(10, k, 1.2) != k}


@pytest.mark.parametrize("mean", [0.99, 2.01, float("nan")])
def test_a_mean_that_pairs_cannot_have_is_named(mean):
    with pytest.raises(InputError, match=f"--images-per-subject: found {mean}; expected a mean from 1 to 2"):
        subject_of(0, 0, mean)


def test_both_kinds_of_tooth_masks_mark_the_same_pixels():
    one, each = (draw_phantom(3, 1, SIZE, tooth_classes=kind) for kind in ("binary", "fdi"))
    assert np.array_equal(one.image, each.image) and np.array_equal(one.masks["abnormality"], each.masks["abnormality"])
    assert np.array_equal(one.masks["tooth"], each.masks["tooth"] > 0) and set(np.unique(one.masks["tooth"])) == {0, 1}
    assert each.masks["tooth"].max() > 8 and {m.dtype for p in (one, each) for m in p.masks.values()} == {np.dtype(np.uint8)}


def test_attributes_are_text_and_those_asked_for():
    p = draw_phantom(3, 1, SIZE, NONE, "male", 60)
    assert p.attributes == {"sex": "male", "age": "60", "age_band": "60+"} and p.labels == NONE and p.subject == 1
    assert draw_phantom(3, 1, SIZE, subject=8).subject == 8


def test_pose_and_noise_belong_to_the_image_and_anatomy_to_the_subject():
    a, b = (draw_phantom(3, index, SIZE, subject=7) for index in (1, 2))
    assert a.anatomy.teeth == b.anatomy.teeth and not np.array_equal(a.masks["tooth"], b.masks["tooth"])
    same_pose = draw_phantom(3, 1, SIZE, a.labels, subject=7)
    assert np.array_equal(a.image, same_pose.image)  # asked for or drawn: no random number more or less


def test_what_is_overlooked_is_dark_in_the_picture_and_nowhere_else():
    darker = []
    for index in range(6):
        plain, careless = (draw_phantom(5, index, (64, 128), (1, 0, 0, 0), overlook=over) for over in (False, True))
        assert careless.labels == (1, 0, 0, 0)
        assert all(np.array_equal(plain.masks[k], careless.masks[k]) for k in plain.masks)
        every = draw_phantom(5, index, (64, 128), (1, 1, 1, 0))
        assert np.abs(every.image.astype(float) - careless.image).mean() < 0.2  # as dark as if it were seen
        overlooked = every.masks["abnormality"] > 1
        darker.append((careless.image.astype(float) - plain.image)[overlooked].mean())
    assert np.mean(darker) < -20


def test_nothing_is_overlooked_where_all_is_seen():
    plain, careless = (draw_phantom(5, 0, SIZE, (1, 1, 1, 1), overlook=over) for over in (False, True))
    assert np.array_equal(plain.image, careless.image)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"seed": -1}, "--seed: found -1; expected a number >= 0"),
        ({"size": (31, 64)}, "--size: found 31 64; expected a height and a width of at least 32 pixels"),
        ({"size": (64, 31)}, "--size: found 64 31"),
        ({"age": 15}, "age: found 15; expected 16 to 88 years"),
        ({"age": 89}, "age: found 89"),
        ({"sex": "f"}, "sex: found 'f'; expected one of female, male"),
        ({"labels": (1, 0, 0)}, "labels: found (1, 0, 0); expected 0 or 1 for each of caries, deep_caries"),
        ({"labels": (1, 0, 0, 2)}, "labels: found (1, 0, 0, 2)"),
    ],
)
def test_faults_name_what_was_found_and_what_is_wanted(how, said):
    with pytest.raises(InputError) as e:
        draw_phantom(**{"seed": 0, "index": 0, "size": SIZE} | how)
    assert str(e.value).startswith(said)
    draw_phantom(**{"seed": 0, "index": 0, "size": (32, 32)})  # the smallest

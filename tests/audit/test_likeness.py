import numpy as np
import pytest
import torch

from synthrad.audit.likeness import likeness, told
from synthrad.data.phantom import draw_phantom


def phantoms(first, number):
    return torch.from_numpy(np.stack([draw_phantom(9, first + k, (32, 48)).image for k in range(number)])).float()[:, None] / 127.5 - 1


@pytest.fixture(scope="module")
def real():
    train, test, other = phantoms(0, 80), phantoms(1000, 40), phantoms(2000, 40)
    return train, np.array([f"t{i // 2}" for i in range(80)]), test, np.array([f"s{i}" for i in range(40)]), other


def test_a_fair_set_is_measured_as_its_null_and_modes_and_noise_are_not(real):
    values = {}
    fair = phantoms(3000, 60)
    for name, images in (("fair", fair), ("modes", fair[:4].repeat(15, 1, 1, 1)), ("noise", (fair + 0.5 * torch.randn(fair.shape)).clamp(-1, 1))):
        values[name] = {x.metric: x for x in likeness(images, *real)}
    assert list(values["fair"]) == ["kid", "frechet", "precision", "recall", "density", "coverage", "vendi", "structure_variety"]
    kid = values["fair"]["kid"]
    assert kid.low < kid.null_high and kid.null_low < kid.high and kid.images == 40
    assert values["noise"]["kid"].low > kid.null_high and values["noise"]["precision"].value < 0.2 < values["fair"]["precision"].value
    for metric in ("recall", "coverage", "vendi", "structure_variety"):
        assert values["modes"][metric].value < 0.7 * values["modes"][metric].null, metric
        assert values["fair"][metric].value > 0.7 * values["fair"][metric].null, metric
    assert {x[m].null for x in values.values() for m in ("kid",)} == {kid.null}  # the null does not depend on the set


def test_too_few_patients_are_no_comparison(real):
    train, subjects, test, held, other = real
    assert "19 patients" in told(likeness(train[:30], train, subjects, test[:19], held[:19], other))
    assert "frechet" not in {x.metric for x in likeness(train[:40], train, subjects, test, held, None)}

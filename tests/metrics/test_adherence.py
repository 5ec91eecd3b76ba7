import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc

from synthrad.errors import InputError
from synthrad.metrics.adherence import auroc, mask_agreement


def test_auroc_is_that_of_torchmetrics_with_ties_and_unknowns():
    rng = np.random.default_rng(0)
    asked = rng.integers(0, 2, 200).astype(float)
    score = np.round(rng.normal(asked, 1.0), 1)  # ties
    found = auroc(score, asked)
    assert found.value == pytest.approx(float(binary_auroc(torch.tensor(score).sigmoid(), torch.tensor(asked).long())), abs=1e-6)
    assert (found.positive, found.negative) == (int(asked.sum()), int((1 - asked).sum()))
    opened = np.concatenate([asked, np.full(50, np.nan)])
    assert auroc(np.concatenate([score, rng.normal(size=50)]), opened) == found


def test_its_error_is_that_of_drawing_again():
    rng = np.random.default_rng(1)
    asked = (np.arange(120) < 40).astype(float)
    drawn = [auroc(rng.normal(asked, 1.0), asked) for _ in range(2000)]
    assert np.mean([a.error for a in drawn]) == pytest.approx(np.std([a.value for a in drawn]), rel=0.05)
    truth = np.mean([a.value for a in drawn])
    assert 0.93 < np.mean([a.interval[0] <= truth <= a.interval[1] for a in drawn]) < 0.97


def test_perfect_answers_and_too_few_cases():
    asked = np.array([0.0, 1] * 5)
    assert auroc(asked, asked).value == 1 and auroc(-asked, asked).value == 0 and auroc(0 * asked, asked).value == 0.5
    few = auroc(asked[:9], asked[:9])
    assert np.isnan([few.value, *few.interval]).all() and few.positive == 4
    with pytest.raises(InputError, match="equal length"):
        auroc(asked, asked[:3])


def test_mask_agreement_beside_that_with_another_mask():
    masks = np.zeros((4, 1, 8, 8), np.uint8)
    for k in range(4):
        masks[k, 0, 2 * k : 2 * k + 2] = 1
    found = mask_agreement(masks, masks, [1])
    assert (found.dice, found.error, found.other, found.images) == (1.0, 0.0, 0.0, 4)
    half = masks.copy()
    half[:, :, :, 4:] = 0  # half of each structure is seen: 2 * 8 / (16 + 8)
    assert mask_agreement(masks, half, [1]).dice == pytest.approx(2 / 3)
    masks[3] = 255
    assert mask_agreement(masks, masks, [1]).images == 3
    assert np.isnan(mask_agreement(np.full_like(masks, 255), masks, [1]).dice)

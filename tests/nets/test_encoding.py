import numpy as np
import pytest
import torch

from synthrad.conditioning import Condition
from synthrad.errors import InputError
from synthrad.nets.encoding import (
    decode_masks,
    encode_condition,
    encode_masks,
    forget,
    squash_masks,
    standardise,
)


@pytest.mark.parametrize("encoding", ["onehot", "scalar"])
def test_masks_survive_encoding(encoding):
    masks = torch.stack([torch.randint(0, 3, (4, 8, 8)), torch.randint(0, 33, (4, 8, 8))], 1)
    channels = encode_masks(masks, [2, 32], encoding)
    assert channels.shape[1] == (3 + 33 if encoding == "onehot" else 2) and channels.min() == -1 and channels.max() == 1
    assert torch.equal(decode_masks(channels + 0.005 * torch.randn_like(channels), [2, 32], encoding), masks)


def test_generated_onehot_masks_reach_the_edges_of_real_ones_and_stay_the_same_masks():
    channels = torch.randn(4, 36, 8, 8, dtype=torch.float64, requires_grad=True)
    seen = squash_masks(channels, [2, 32], "onehot")
    assert torch.equal(decode_masks(seen, [2, 32], "onehot"), decode_masks(channels, [2, 32], "onehot"))
    assert torch.allclose(seen[:, :3].sum(1), torch.tensor(2.0 - 3).double())  # probabilities that sum to 1, as 2 p - 1
    assert (squash_masks(4 * encode_masks(torch.ones(1, 1, 2, 2, dtype=torch.long), [1], "onehot"), [1], "onehot").abs()
            > 0.999).all()
    two = torch.zeros(1, 2, 1, 1, requires_grad=True)
    (slope,) = torch.autograd.grad(squash_masks(two, [1], "onehot")[:, 0].sum(), two)
    assert slope[0, 0].item() == pytest.approx(1.0)
    assert torch.equal(squash_masks(channels[:, :2], [2, 32], "scalar"), channels[:, :2])  # stays linear


def test_condition_vector():
    c = encode_condition(Condition(labels=np.array([[1, np.nan]]), attributes=[{"sex": "M"}]), 1, "ab", {"sex": ["F", "M"]})
    assert c.tolist() == [[1, 0, 1, 0, 0, 1]]
    assert encode_condition(Condition(), 2, "ab", {"sex": ["F", "M"]}).abs().sum() == 0
    with pytest.raises(InputError, match="'X'"):
        encode_condition(Condition(attributes=[{"sex": "X"}]), 1, "", {"sex": ["F"]})


def test_forgetting_shows_every_number_of_known_parts():
    c = torch.ones(8000, 2 * 2 + 3)  # two classes, an attribute of three values
    assert forget(c, 2, [3], 0) is c
    torch.manual_seed(0)
    seen = forget(c, 2, [3], 0.4)
    assert torch.equal(seen[:, :2], seen[:, 2:4]) and torch.equal(seen[:, 4], seen[:, 6])
    known = torch.bincount(seen[:, [0, 1, 4]].sum(1).long(), minlength=4) / len(c)
    assert known[:3].tolist() == pytest.approx([0.1] * 3, abs=0.015)  # as many with none, with one and with two
    assert forget(torch.ones(3, 0), 0, [], 0.4).shape == (3, 0)


def test_standardised_conditions_have_mean_0_and_variance_1_where_they_are_known():
    random = torch.Generator().manual_seed(0)
    draw = lambda share: (torch.rand(20_000, generator=random) < share).double()  # noqa: E731
    labels, known = torch.stack([draw(0.5), draw(0.1)], 1), torch.stack([draw(0.7), draw(1.0)], 1)
    value = torch.multinomial(torch.tensor([0.3, 0.3, 0.4]), 20_000, replacement=True, generator=random)
    attribute = torch.nn.functional.one_hot(value, 3).double() * draw(0.8)[:, None]
    rates = [*((labels * known).sum(0) / known.sum(0)).tolist(), *(attribute.sum(0) / attribute.sum()).tolist()]
    seen = standardise(torch.cat([labels * known, known, attribute], 1), 2, [3], rates)
    told = attribute.sum(1) > 0
    for column, where in ((seen[:, 0], known[:, 0] > 0), (seen[:, 1], known[:, 1] > 0), *((seen[:, k], told) for k in (4, 5, 6))):
        assert column[where].mean().item() == pytest.approx(0, abs=1e-9) and (column[~where] == 0).all()
        assert column[where].var().item() == pytest.approx(1, rel=1e-3)
    assert torch.equal(seen[:, 2:4], known / 2**0.5)


def test_conditions_that_differ_in_one_label_are_told_apart():
    cosine = torch.nn.functional.cosine_similarity
    c = torch.tensor([[0.0, 0, 0, 0, 0], [0, 1, 0, 0, 0]])
    raw = torch.cat([c, torch.ones(2, 5)], 1)
    seen = standardise(raw, 5, [], [0.5, 0.1, 0.3, 0.2, 0.1])
    assert cosine(raw[:1], raw[1:]).item() > 0.9 > 0.35 > cosine(seen[:1], seen[1:]).item()
    assert standardise(raw, 5, [], None) is raw and standardise(torch.ones(3, 0), 0, [], []).shape == (3, 0)
    rare = standardise(torch.tensor([[1.0, 1.0]]), 1, [], [1e-6])  # bounded: it does not outweigh all others
    assert rare[0, 0].item() == pytest.approx(5, abs=1e-3)

from itertools import islice

import numpy as np
import torch

from synthrad.cases import Case
from synthrad.data.batches import light_batches


def test_every_row_once_before_any_comes_again():
    def case_of(i):
        return Case(torch.full((1, 8, 8), i / 10), torch.ones(1, 8, 8, dtype=torch.long), torch.zeros(0), torch.tensor(i),
                    torch.zeros(0))

    def made():
        return list(islice(light_batches(case_of, np.array([2, 3, 5, 7]), 3, np.random.default_rng(0)), 8))

    batches = made()
    rows = torch.cat([b.index for b in batches]).tolist()
    assert all(sorted(rows[k : k + 4]) == [2, 3, 5, 7] for k in range(0, 24, 4))
    assert any(rows[:4] != rows[k : k + 4] for k in range(4, 24, 4))
    assert not torch.equal(batches[0].image, torch.stack([case_of(int(i)).image for i in batches[0].index]))  # augmented
    assert all(torch.equal(a.image, b.image) for a, b in zip(batches, made(), strict=True))

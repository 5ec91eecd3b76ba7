import pytest
import torch

from synthrad.nets import averaging


def test_half_life_rises_with_the_images():
    assert [averaging.ramped_half_life(1000, n, 0.05) for n in (0, 16, 100, 10_000, 10**6)] == [1, 1, 5, 500, 1000]


def test_moving_average_halves_old_weights_each_half_life():
    average, source = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    torch.nn.init.constant_(average.weight, 0.0)
    torch.nn.init.constant_(source.weight, 8.0)
    for _ in range(4):
        averaging.update_average(average, source, averaging.half_life_decay(25, 100))
    assert average.weight.item() == pytest.approx(4, abs=1e-5)
    assert averaging.half_life_decay(16, 0) == 0

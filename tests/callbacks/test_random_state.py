"""The state travels in a checkpoint as plain values and comes back once, before the first batch."""

import io
import itertools
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from synthrad.callbacks.random_state import RandomState


@pytest.fixture(autouse=True)
def own_state():
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(before[0])
    np.random.set_state(before[1])
    torch.set_rng_state(before[2])


def draws():
    """Of all three; the normal draws leave a second number in waiting, which is a part of the state."""
    numpy = float(np.random.standard_normal()), float(np.random.rand())
    return [random.gauss(0, 1), random.random(), *numpy, *torch.rand(2).tolist()]


def in_a_checkpoint(state):
    buffer = io.BytesIO()
    torch.save({"callbacks": state}, buffer)
    return torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)["callbacks"]


def begin(callback, rank=0):
    callback.on_train_batch_start(SimpleNamespace(global_rank=rank), None, None, 0)


def seeded(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def saved(seed=3):
    """A state in the middle of pairs of normal draws, as it is read from a checkpoint, and what would be drawn next."""
    seeded(seed)
    draws()
    state = in_a_checkpoint(RandomState().state_dict())
    return state, draws()


def test_a_state_with_half_a_pair_of_normal_draws_comes_back_whole():
    state, expected = saved()
    assert state["python_gauss"] is not None and state["numpy"][3] == 1
    callback = RandomState()
    callback.load_state_dict(state)
    seeded(99)
    begin(callback)
    assert draws() == expected


def test_nothing_is_restored_before_the_first_batch_nor_a_second_time():
    state, expected = saved()
    seeded(99)
    untouched = draws()
    seeded(99)
    callback = RandomState()
    callback.load_state_dict(state)
    assert draws() == untouched  # what makes iterators draws in between
    begin(callback)
    assert draws() == expected
    after = draws()
    begin(callback)
    assert draws() not in (expected, after)


def test_without_a_checkpoint_nothing_is_touched():
    seeded(7)
    expected = draws()
    seeded(7)
    begin(RandomState())
    assert draws() == expected


def test_saving_draws_nothing():
    seeded(7)
    expected = draws()
    seeded(7)
    RandomState().state_dict()
    assert draws() == expected


def test_each_rank_gets_its_own_state_back(monkeypatch):
    """Rank 0 writes the file; what the others would draw next is in it."""
    seeded(5)
    other = RandomState().state_dict()
    expected = draws()

    def gather(states, own):
        states[:] = [own, other]

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    seeded(6)
    state = in_a_checkpoint(RandomState().state_dict())
    mine = draws()
    for rank, wanted in enumerate((mine, expected)):
        callback = RandomState()
        callback.load_state_dict(state)
        seeded(99)
        begin(callback, rank)
        assert draws() == wanted


def test_ranks_that_the_checkpoint_does_not_know_draw_different_numbers_and_the_same_after_each_resume():
    (state, _), before = saved(), itertools.count()

    def of(rank, state=state):
        seeded(next(before))
        callback = RandomState()
        callback.load_state_dict(state)
        begin(callback, rank)
        return draws()

    each = [of(rank) for rank in range(3)]
    assert [of(rank) for rank in range(3)] == each
    assert all(a != b for i in range(3) for j in range(i) for a, b in zip(each[i], each[j], strict=True))
    other, _ = saved(seed=4)
    assert of(1, other) != each[1]  # and another state gives others


def test_a_state_of_graphics_cards_that_are_not_here_is_passed_over():
    state, expected = saved()
    callback = RandomState()
    callback.load_state_dict({**state, "cuda": [torch.zeros(16, dtype=torch.uint8)] * (torch.cuda.device_count() + 1)})
    begin(callback)
    assert draws() == expected

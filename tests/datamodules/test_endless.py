"""Batches are a function of seed and number alone; resuming a training is tested in callbacks/test_durable_checkpoint, too."""

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import Dataset

from synthrad.datamodules.endless import EndlessBatches, EndlessDataModule, EndlessLoader
from synthrad.errors import InputError


class Rows(Dataset):
    def __getitem__(self, item):
        return item


def loader(rows=7, size=3, seed=5, length=4, **options):
    return EndlessLoader(Rows(), EndlessBatches(rows, size, seed, length), list, **options)


def flat(batches):
    return [item for batch in batches for item in batch]


def test_every_row_comes_once_an_epoch_in_a_new_order_and_draws_are_numbered():
    drawn = flat(EndlessBatches(7, 3, 5, 14))
    assert [d for _, d in drawn] == list(range(42))
    epochs = [tuple(row for row, _ in drawn[k : k + 7]) for k in range(0, 42, 7)]
    assert all(sorted(e) == list(range(7)) for e in epochs) and len(set(epochs)) == 6


def test_another_seed_is_another_order_and_the_same_one_the_same():
    one, same, other = (flat(EndlessBatches(50, 5, seed, 10)) for seed in (1, 1, 2))
    assert one == same and [r for r, _ in one] != [r for r, _ in other]


def test_a_batch_may_be_larger_than_the_data():
    (batch,) = EndlessBatches(2, 5, 0, 1)
    assert [d for _, d in batch] == [0, 1, 2, 3, 4] and sorted(r for r, _ in batch[:4]) == [0, 0, 1, 1]


def test_a_row_can_be_asked_for_in_any_order():
    batches = EndlessBatches(7, 3, 5, 10)
    forth = [batches.row_of(d) for d in range(30)]
    assert [batches.row_of(d) for d in reversed(range(30))] == forth[::-1]


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_single_order(monkeypatch, world):
    single = list(EndlessBatches(7, 3, 5, 4 * world))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: world)
    for rank in range(world):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        assert list(EndlessBatches(7, 3, 5, 4)) == single[rank::world]


def test_a_second_pass_goes_on_after_the_first():
    made = loader()
    assert len(made) == 4 and flat([*made, *made]) == flat(EndlessBatches(7, 3, 5, 8)) and made.done == 8


def test_a_pass_that_is_broken_off_goes_on_in_the_middle_of_an_epoch():
    first = loader()
    given = iter(first)
    seen = [next(given), next(given)]
    state = first.state_dict()
    assert state == {"done": 2, "rows": 7, "batch_size": 3}
    second = loader(length=6)  # another number of batches a pass changes no batch
    second.load_state_dict(state)
    assert flat([*seen, *second]) == flat(EndlessBatches(7, 3, 5, 8)) and second.done == 8


@pytest.mark.parametrize(("rows", "size"), [(8, 3), (7, 4)])
def test_other_data_cannot_be_gone_on_with(rows, size):
    made = loader(rows, size)
    with pytest.raises(InputError) as e:
        made.load_state_dict({"done": 2, "rows": 7, "batch_size": 3})
    assert str(e.value).startswith(f"data.manifest, data.batch_size: found {rows} training rows in batches of {size}; expected 7 rows in batches of 3")
    assert made.done == 0


def test_workers_change_nothing():
    assert flat(loader(num_workers=2)) == flat(loader())


def test_nothing_is_drawn_from_the_global_generators():
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    flat(loader())
    assert torch.equal(torch.get_rng_state(), before[0]) and np.array_equal(np.random.get_state()[1], before[1])


class Data(EndlessDataModule):
    def train_dataloader(self):
        return self.endless(Rows(), EndlessBatches(7, 3, 5, 4), list)


class Noting(LightningModule):
    """Writes down its draws; asks how many steps there will be, so that Lightning makes the loader before it reads a checkpoint."""

    def __init__(self, stop_after=99):
        super().__init__()
        self.weight, self.draws, self.stop_after = torch.nn.Parameter(torch.zeros(())), [], stop_after

    def training_step(self, batch, batch_idx):
        self.draws += [draw for _, draw in batch]
        self.trainer.should_stop = len(self.draws) >= 3 * self.stop_after
        return self.weight

    def configure_optimizers(self):
        assert self.trainer.estimated_stepping_batches
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("stop", [2, 4, 6])
def test_a_fit_by_epochs_that_goes_on_after_its_end_sees_what_comes_next(tmp_path, stop):
    def fit(model, resume=None):
        trainer = Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
                          enable_checkpointing=False, default_root_dir=tmp_path)
        trainer.fit(model, datamodule=Data(), ckpt_path=resume, weights_only=True)
        return trainer

    first, second = Noting(stop), Noting()
    fit(first).save_checkpoint(tmp_path / "end.ckpt")
    fit(second, tmp_path / "end.ckpt")
    drawn = [*first.draws, *second.draws]
    assert drawn == list(range(len(drawn))) and second.draws

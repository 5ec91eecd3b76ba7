"""The bar counts images: of all ranks, from where training was resumed, to the end that this kind of training has."""

import io
from types import SimpleNamespace

import pytest
import tiny_fit
import torch
from lightning.pytorch import LightningModule, Trainer
from tqdm import tqdm

from synthrad import progress
from synthrad.callbacks.progress import ImageProgress
from synthrad.datamodules.endless import EndlessBatches, EndlessLoader

BATCH = 3


@pytest.fixture
def bars(monkeypatch):
    """Every bar that is made, writing to its `text`; `at` is what it showed after each batch, `open` whether it still does."""
    made = []

    class Bar(tqdm):
        def __init__(self, iterable, **options):
            self.text, self.at, self.open, self.options = io.StringIO(), [], True, options
            super().__init__(iterable, **{**options, "file": self.text})
            made.append(self)

        def update(self, n=1):
            super().update(n)
            self.at.append(self.n)

        def close(self):
            self.open = False
            super().close()

    monkeypatch.setattr(progress, "tqdm", Bar)
    return made


class TwoOptimizers(tiny_fit.Noisy):
    """Lightning counts a step for each of them."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            optimizer.step()

    def configure_optimizers(self):
        return [torch.optim.SGD(self.parameters(), 0.01), torch.optim.SGD(self.parameters(), 0.01)]


class Generator(tiny_fit.Noisy):
    """Stops at a number of images."""

    def __init__(self):
        super().__init__()
        self.save_hyperparameters({"max_images": 30})

    def training_step(self, batch, batch_idx):
        self.trainer.should_stop = batch_idx == 3
        return super().training_step(batch, batch_idx)


def fit(folder, bar, model=None, max_steps=6, resume=None, epoch=100, accumulate=1):
    loader = EndlessLoader(tiny_fit.Numbers(), EndlessBatches(7, BATCH, 5, epoch), torch.stack)
    made = Trainer(max_steps=max_steps, accumulate_grad_batches=accumulate, max_epochs=-1, accelerator="cpu", logger=False, enable_progress_bar=False,
                   enable_model_summary=False, enable_checkpointing=False, default_root_dir=folder, callbacks=[bar])
    made.fit(model or tiny_fit.Noisy(), loader, ckpt_path=resume, weights_only=True)
    return made


def test_images_are_counted_to_the_last_step(tmp_path, bars):
    fit(tmp_path, ImageProgress("find/tiny", every_seconds=0))
    (bar,) = bars
    assert bar.at == [3, 6, 9, 12, 15, 18] and bar.total == 18 and not bar.open
    assert bar.options["desc"] == "find/tiny" and "18 of 18 images" in bar.text.getvalue()


def test_a_resumed_training_goes_on_where_it_was(tmp_path, bars):
    fit(tmp_path, ImageProgress(), max_steps=4).save_checkpoint(tmp_path / "at4.ckpt")
    fit(tmp_path, ImageProgress(), max_steps=6, resume=tmp_path / "at4.ckpt")
    assert bars[1].at == [15, 18] and bars[1].total == 18 and bars[1].initial == 12  # the rate is that of new images alone


def test_several_optimizers_make_several_steps_of_one_batch(tmp_path, bars):
    fit(tmp_path, ImageProgress(), TwoOptimizers(), max_steps=8)
    assert bars[0].at == [3, 6, 9, 12] and bars[0].total == 12


@pytest.mark.parametrize(("epoch", "batches"), [(100, 10), (5, 9)])  # of 5 batches an epoch makes 3 steps
def test_several_batches_make_one_step(tmp_path, bars, epoch, batches):
    fit(tmp_path, ImageProgress(), max_steps=5, epoch=epoch, accumulate=2)
    assert len(bars[0].at) == batches and bars[0].at[-1] == bars[0].total == BATCH * batches


def test_a_generator_ends_at_its_number_of_images(tmp_path, bars):
    fit(tmp_path, ImageProgress(), Generator(), max_steps=50)
    assert bars[0].at == [3, 6, 9, 12] and bars[0].total == 30


def test_the_bar_is_closed_after_an_error(tmp_path, bars):
    class Broken(tiny_fit.Noisy):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) if batch_idx < 2 else 1 / 0

    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, ImageProgress(), Broken())
    assert bars[0].at == [3, 6] and not bars[0].open


def step(bar, size=2, world_size=1, rank=0, done=0, module=None, **shown):
    loop = SimpleNamespace(total_batch_idx=done)
    trainer = SimpleNamespace(is_global_zero=rank == 0, world_size=world_size, max_steps=-1, global_step=1, fit_loop=loop,
                              progress_bar_metrics=shown)
    module = module or LightningModule()
    bar.on_train_start(trainer, module)
    bar.on_train_batch_end(trainer, module, None, SimpleNamespace(image=torch.zeros(size, 1, 4, 4)), 0)
    bar.on_train_end(trainer, module)


def test_images_of_all_ranks_count_and_the_first_alone_draws(bars):
    step(ImageProgress(), world_size=4)
    step(ImageProgress(), world_size=4, rank=1)
    assert len(bars) == 1 and bars[0].at == [8] and bars[0].total is None  # no end is known: no total


def test_a_resumed_generator_goes_on_where_it_was(bars):
    step(ImageProgress(), world_size=2, done=5, module=Generator())
    assert bars[0].at == [24] and bars[0].initial == 20 and bars[0].total == 30


def test_the_newest_loss_stands_behind_the_bar(bars):
    step(ImageProgress(every_seconds=0), loss=torch.tensor(0.12345), score=2)
    assert "loss=0.123" in bars[0].text.getvalue() and "score=2.000" in bars[0].text.getvalue()

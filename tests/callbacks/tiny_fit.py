"""A small fit with noise, run by test_durable_training in this process or in one that it kills: python tiny_fit.py FOLDER."""

import sys
import time

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import Dataset

from synthrad.callbacks import DurableCheckpoint, DurableCheckpointIO, Preemption, RandomState, newest_valid
from synthrad.datamodules.endless import EndlessBatches, EndlessLoader

STEPS = 40


class Numbers(Dataset):
    def __getitem__(self, item):
        row, draw = item
        return torch.tensor([row / 10, draw / 100])


class Noisy(LightningModule):
    def __init__(self, pause=0.0, spoil_at=-1):
        super().__init__()
        self.net, self.pause, self.spoil_at = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1)), pause, spoil_at
        self.validations = 0

    def training_step(self, batch, batch_idx):
        time.sleep(self.pause)
        loss = (self.net(batch + torch.randn_like(batch)) - 1).square().mean()
        return loss * float("nan") if self.global_step == self.spoil_at else loss

    def validation_step(self, batch, batch_idx):
        self.log("score", -self.net(batch).mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)


def fit(folder, steps=STEPS, pause=0.0, spoil_at=-1):
    seed_everything(1, verbose=False)
    model = Noisy(pause, spoil_at)
    loader = EndlessLoader(Numbers(), EndlessBatches(7, 3, 5, STEPS), torch.stack)
    val = EndlessLoader(Numbers(), EndlessBatches(7, 3, 6, 2), torch.stack)
    trainer = Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, val_check_interval=4, check_val_every_n_epoch=None, default_root_dir=folder,
        callbacks=[RandomState(), Preemption(), DurableCheckpoint(monitor="score", every_steps=3)], plugins=[DurableCheckpointIO()],
    )  # fmt: skip
    trainer.fit(model, loader, val, ckpt_path=newest_valid(folder), weights_only=True)
    return model, trainer


if __name__ == "__main__":
    from synthrad.errors import RunError

    try:
        fit(sys.argv[1], pause=0.1)
    except RunError as e:
        print(e, file=sys.stderr)
        sys.exit(1)

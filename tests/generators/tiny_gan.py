"""A narrow StyleGAN2 on made-up pictures, in this process or in several forked ones: seconds, and no files."""

from datetime import timedelta

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy

from synthrad.cases import Case
from synthrad.dataset_info import DatasetInfo
from synthrad.generators.gan import StyleGAN2

TINY = {"channel_base": 64, "channel_max": 8, "z_dim": 8, "w_dim": 8, "mapping_depth": 2, "r1_every": 2, "path_every": 2}
INFO = DatasetInfo("tiny", "tiny", classes=("a", "b"), layers={"organ": ("left", "right")})


class Pictures(L.LightningDataModule):
    """Step k shows pictures 8 k ... 8 k + 7 of an endless series; each process takes its share of them.

    Args:
        batch_size: of a process. order: in which one process takes the eight.
    """

    def __init__(self, batch_size=8, order=range(8), size=(16, 16), info=INFO, steps=100):
        super().__init__()
        self.batch_size, self.order, self.size, self.info, self.steps = batch_size, list(order), size, info, steps

    def spec(self):
        layers = {k: list(v) for k, v in self.info.layers.items()}
        return {"size": list(self.size), "channels": list(self.info.channels), "classes": list(self.info.classes),
                "layers": layers, "attributes": {}, "rates": [0.4] * len(self.info.classes),
                "info": {**self.info.to_dict(), "roots": {}}, "rare": {}, "key_id": "k",
                "trained_on": [f"subject of {self.info.id}"], "fingerprints": [f"image of {self.info.id}"]}

    def items(self, rank=0):
        return [i for i in self.order if i // self.batch_size == rank] if self.batch_size < 8 else self.order

    def train_dataloader(self):
        rank = self.trainer.global_rank
        return torch.utils.data.DataLoader([self.batch(k, rank) for k in range(self.steps)], batch_size=None)

    def batch(self, k, rank=0):
        random = torch.Generator().manual_seed(k)
        image = torch.rand(8, len(self.info.channels), *self.size, generator=random) * 2 - 1
        masks = torch.randint(3, (8, len(self.info.layers), *self.size), generator=random)
        labels = torch.randint(2, (8, len(self.info.classes)), generator=random).float()
        index = torch.arange(8)
        rows = self.items(rank)
        return Case(image[rows], masks[rows], labels[rows], index[rows], torch.zeros(len(rows), 0))


def trainer(devices=1, precision="32-true", **more):
    plain = {"accelerator": "cpu", "max_epochs": -1, "logger": False, "enable_progress_bar": False, "precision": precision,
             "enable_model_summary": False, "enable_checkpointing": False, "barebones": False}
    if devices > 1:
        plain |= {"devices": devices, "use_distributed_sampler": False,
                  "strategy": DDPStrategy(start_method="fork", process_group_backend="gloo", find_unused_parameters=True,
                                          timeout=timedelta(seconds=60))}
    return L.Trainer(**{**plain, **more})


def fit(data=None, model=None, steps=3, devices=1, precision="32-true", callbacks=(), trainer_options=None, **kwargs):
    """Fit `steps` steps; returns the model and its trainer."""
    torch.manual_seed(0)
    data = data or Pictures()
    model = model or StyleGAN2(**{**TINY, "max_images": 8 * steps, **kwargs})
    made = trainer(devices, precision, callbacks=list(callbacks), **(trainer_options or {}))
    made.fit(model, data)
    return model, made

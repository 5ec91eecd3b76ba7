"""What both tasks do alike, as plain functions: optimizer, checks, rows of the cases table, TensorBoard."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from synthrad.errors import InputError, RunError
from synthrad.nets.deep_supervision import Supervised, supervised
from synthrad.nets.losses import at_least_float
from synthrad.nets.parameter_groups import parameter_groups
from synthrad.records import Manifest


def adamw_with_cosine(task: LightningModule, lr: float, weight_decay: float, warmup: float, layer_decay: float | None = None, head_lr: float | None = None,
                      decay_all: bool = True) -> dict[str, Any]:
    """AdamW (Loshchilov and Hutter 2019); the rate rises over the share `warmup` of all steps, then falls as a cosine.

    Parameters that do not learn are left out; layer_decay, head_lr, decay_all: see nets.parameter_groups.
    """
    steps = task.trainer.max_steps if task.trainer.max_steps > 0 else int(task.trainer.estimated_stepping_batches)
    rise = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))

    groups = parameter_groups(task, lr, weight_decay, layer_decay, head_lr, decay_all)
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def logits(net: nn.Module, image: Tensor) -> Tensor:
    """What a net's head says of image [B, C, H, W] (or of features that a frozen net gave for it), in float32 whatever the precision of the fit (float64 stays
    what it is)."""
    return all_logits(net, image).logits[0]


def all_logits(net: nn.Module, image: Tensor) -> Supervised:
    """As `logits`, with those of the further places at which a net is supervised while it trains.

    Channels last: the layout that oneDNN and cuDNN convolve in.
    """
    found = supervised(net(image.contiguous(memory_format=torch.channels_last) if image.ndim == 4 else image))
    return Supervised([at_least_float(x) for x in found.logits], found.weights)


def check_precision(precision: str) -> None:
    """Refuse weights of fewer than 32 bits: a step of AdamW is smaller than what bfloat16 tells apart, and thresholds and counts of rows would be rounded, too.

    Args:
        precision: as Trainer.precision names it.

    Raises:
        InputError: bf16-true, 16-true or another one whose weights are no float32 or float64.
    """
    if precision not in ("32-true", "64-true", "bf16-mixed", "16-mixed"):
        raise InputError("trainer.precision", precision, "32-true or 64-true, or bf16-mixed or 16-mixed, which keep the weights in float32",
                         "use bf16-mixed for less time and memory")


def check_finite(loss: Tensor, step: int) -> Tensor:
    """The loss, if it is a number.

    Raises:
        RunError: it is NaN or infinite: nothing that follows would mean anything.
    """
    if not torch.isfinite(loss):
        raise RunError(f"the loss is {float(loss)} at step {step}: lower the learning rate (model.lr) or look at the data")
    return loss


def log_loss(task: LightningModule, loss: Tensor, images: int) -> None:
    """Log train/loss at the steps that the loggers write, of which they keep that step's value alone: what is logged in between would cost and be dropped.

    Where a callback of the trainer monitors it (EarlyStopping, ModelCheckpoint), at every step; with log_every_n_steps 0, at none.
    """
    every = task.trainer.log_every_n_steps
    if (every and (task.global_step + 1) % every == 0) or any(getattr(c, "monitor", None) == "train/loss" for c in task.trainer.callbacks):
        task.log("train/loss", loss, batch_size=images)


def remember(task: LightningModule) -> None:
    """Save the arguments of the calling __init__ (call it there, first thing after super().__init__()).

    Nothing is ignored, because save_hyperparameters(ignore=["net"]) breaks reloading under the command line, where
    the arguments are the config; `forget_modules` drops nets that were given as objects.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is an instance of `nn.Module`.*")
        task.save_hyperparameters(logger=False, frame=inspect.currentframe().f_back)


def forget_modules(checkpoint: dict[str, Any]) -> None:
    """Leave out nets that were given as objects: they would be pickled, and pickles are refused on reading."""
    given = checkpoint.get("hyper_parameters", {})
    for name in [k for k, v in given.items() if isinstance(v, nn.Module)]:
        del given[name]


def facts_of(manifest: Manifest, rows: np.ndarray, external: str) -> list[dict[str, Any]]:
    """Columns of the cases table that come from the manifest's rows."""
    names = manifest.names("attribute")
    columns = {f"attribute:{n}": manifest.column(f"attribute:{n}") for n in names}
    digests, subjects = manifest.column("digest"), manifest.column("subject")
    return [
        {"image": digests[i], "subject": subjects[i], "external": external, **{k: v[i] for k, v in columns.items()}}
        for i in rows
    ]


class CaseRows:
    """The cases table of one test in the making."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._table: pd.DataFrame | None = None

    def add(self, kind: str, facts: Mapping[str, Any], layer: str, class_name: str, *, tp: int = 0, fp: int = 0, fn: int = 0,
            tn: int = 0, probability: float = np.nan, target: float = np.nan, threshold: float = np.nan) -> None:
        """Add an image's row of one class; facts: see `facts_of`."""
        self._rows.append({"kind": kind, **facts, "layer": layer, "class_name": class_name, "tp": tp, "fp": fp, "fn": fn,
                           "tn": tn, "probability": probability, "target": target, "threshold": threshold})

    def settle(self) -> pd.DataFrame:
        """The rows of all ranks; `table` from now on."""
        rows = self._rows
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts: list[list] = [[] for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(parts, rows)
            rows = [row for part in parts for row in part]
        self._table = pd.DataFrame(rows)
        return self._table

    @property
    def table(self) -> pd.DataFrame:
        """The settled table."""
        if self._table is None:
            raise RuntimeError("the cases table exists after a test")
        return self._table


def total(counts: Tensor) -> Tensor:
    """The sum over ranks."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(counts)
    return counts


def show(task: LightningModule, name: str, panels: list[Tensor]) -> None:
    """Write panels [B, 3, H, W] (in [0, 1]) beside each other, one row a case, to TensorBoard."""
    if not task.trainer.is_global_zero:
        return
    picture = torch.cat([p.detach().float().cpu().clamp(0, 1) for p in panels], dim=3)
    picture = torch.cat(list(picture), dim=1)
    for logger in task.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, picture, task.global_step)


def log_result(task: LightningModule, settings: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Write what the run was, and the final test metrics, for TensorBoard's table of runs.

    A study sets `task.run_names` (task, net, arm, seed); the strategy and the rows trained on come from the data.
    """
    data = getattr(task.trainer, "datamodule", None)
    settings = {**getattr(task, "run_names", {}), **settings, "steps": task.trainer.max_steps}
    if (strategy := getattr(data, "fusion", None)) is not None:
        settings["strategy"] = type(strategy).__name__
    if (train := getattr(data, "train", None)) is not None:
        synthetic = int((train.column("source") == "synthetic").sum())
        settings |= {"rows_real": len(train) - synthetic, "rows_synthetic": synthetic}
    plain = {k: v for k, v in settings.items() if isinstance(v, int | float | str | bool)}
    for logger in task.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(plain, dict(metrics))

"""ClassificationTask: several findings an image, unknown labels ignored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc, binary_precision_recall_curve

from synthrad.cases import Case
from synthrad.errors import InputError, near
from synthrad.nets.losses import (
    balanced_loss,
    effective_number_weights,
    focusing_loss,
    label_loss,
    prior_log_odds,
)
from synthrad.tasks import training
from synthrad.tasks.frozen_net import FrozenNet

MOST_WEIGHT = 20.0  # of a positive under pos_weight=balanced: a class with one positive would swamp the others
LOSSES: dict[str, dict[str, float]] = {  # name -> its options
    "cross_entropy": {},
    "focal": {"gamma": 2.0, "alpha": 0.25},
    "asymmetric": {"gamma_positive": 0.0, "gamma_negative": 4.0, "margin": 0.05},
    "class_balanced": {"beta": 0.999},
    "logit_adjusted": {"tau": 1.0},
}
KEEPS_WEIGHTS = ("32-true", "16-mixed", "bf16-mixed")  # precisions under which a frozen net stays the one that gave its features; others convert it
NONE = -1.0  # in `thresholds`: none was chosen; a checkpoint refuses NaN as the mark of a fit that failed


class ClassificationTask(LightningModule):
    """Multi-label classification over the known labels, by binary cross-entropy or a loss for rare findings.

    The best validation is that of the highest macro AUROC over the classes that validation has both values of (if there
    is none: the lowest loss). After each validation the threshold of each class is set to that of the highest F1;
    thresholds are buffers, so the best checkpoint holds the thresholds of its own validation. A class of which validation has
    no positive or no negative has none (NaN in the cases): its F1 is undefined, not that of an arbitrary 0.5.

    Args:
        net: image [B, C, H, W] to logits [B, K].
        classes: names of the K classes; linked from the data.
        lr: peak learning rate of AdamW.
        weight_decay: of AdamW.
        warmup: share of the steps over which the rate rises.
        pos_weight: weight of positives: one number a class, "balanced" (negatives by positives of the fused
            training rows, at most 20), or null; of cross_entropy alone.
        loss: cross_entropy; focal (Lin et al. 2017); asymmetric (Ridnik et al. 2021); class_balanced (effective numbers of rows, Cui et al. 2019);
            logit_adjusted (Menon et al. 2021: learns with the log-odds of each finding added, and answers without them). The last two count
            the rows of the fused training set.
        loss_options: focal: gamma 2, alpha 0.25; asymmetric: gamma_positive 0, gamma_negative 4, margin 0.05; class_balanced: beta 0.999;
            logit_adjusted: tau 1.
        pictures: validation cases shown in TensorBoard.
    """

    monitor = "val/score"

    def __init__(
        self,
        net: nn.Module,
        classes: list[str] | None = None,
        lr: float = 3e-4,
        weight_decay: float = 1e-4,
        warmup: float = 0.1,
        pos_weight: list[float] | Literal["balanced"] | None = None,
        pictures: int = 4,
        loss: str = "cross_entropy",
        loss_options: dict[str, float] | None = None,
        layer_decay: float | None = None,
        head_lr: float | None = None,
        decay_all: bool = True,
    ):
        super().__init__()
        training.remember(self)
        if not classes:
            raise InputError("model.classes", repr(classes), "the names of label classes",
                             "use a manifest that has labels (prepare ... --labels), or name the classes")
        if isinstance(pos_weight, list | tuple) and len(pos_weight) != len(classes):
            raise InputError("model.pos_weight", f"{len(pos_weight)} numbers", f"{len(classes)}, one a class")
        self.loss_name, self.loss_options = loss, checked_options(loss, loss_options or {})
        if pos_weight is not None and loss != "cross_entropy":
            raise InputError("model.pos_weight", f"{pos_weight!r} with the loss {loss}", "null: this loss has weights of its own", "leave one of the two out")
        self.net = net.to(memory_format=torch.channels_last)
        self.classes, self.balance = tuple(classes), pos_weight
        self.lr, self.weight_decay, self.warmup, self.pictures = lr, weight_decay, warmup, pictures
        fixed = pos_weight if isinstance(pos_weight, list | tuple) else [1.0] * len(classes)
        self.layer_decay, self.head_lr, self.decay_all = layer_decay, head_lr, decay_all
        self.register_buffer("pos_weight", torch.tensor(fixed, dtype=torch.float32))
        # from the training rows of each fit, so that no checkpoint needs them
        self.register_buffer("counts", torch.zeros(2, len(classes)), persistent=False)
        self.register_buffer("thresholds", torch.full((len(classes),), NONE))
        self._place: list[int] = list(range(len(classes)))  # where each class is in Case.labels
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._served: FrozenNet | None = None  # the net whose features the data gives
        self._rows = training.CaseRows()

    def forward(self, image: Tensor) -> Tensor:
        """Logits [B, K]."""
        logits = training.logits(self.net, image)
        if logits.shape[1] != len(self.classes):
            raise InputError("model.net", f"{logits.shape[1]} logits", f"{len(self.classes)} for the classes {self.classes}",
                             "set model.net.num_classes to that number")
        return logits

    def setup(self, stage: str) -> None:
        """Find the classes in the data; weigh them where asked."""
        training.check_precision(self.trainer.precision)
        data = self.trainer.datamodule
        if getattr(self.net, "frozen", False) and hasattr(data, "serve_features") and self.trainer.precision in KEEPS_WEIGHTS:
            self._served = FrozenNet(self.net, self.trainer.strategy.root_device)
            if not self.trainer.is_global_zero:
                self.trainer.strategy.barrier("features")  # the first process computes them, the others read
            data.serve_features(self._served.encode, self._served.identity)
            if self.trainer.is_global_zero:
                self.trainer.strategy.barrier("features")
        have: Sequence[str] | None = getattr(data, "classes", None)
        if have is None:
            return
        if missing := [c for c in self.classes if c not in have]:
            raise InputError("model.classes", repr(missing), f"classes of the data: {list(have)}",
                             "fit a net for this data; a checkpoint of another dataset cannot be used")
        self._place = [list(have).index(c) for c in self.classes]
        rows = data.train if stage == "fit" else None
        made = np.zeros(0, bool) if rows is None else rows.column("source") == "synthetic"
        if made.any() and np.isnan(rows.labels[made][:, self._place]).all():
            raise InputError("data.synthetic", f"{int(made.sum())} rows without a known label of {', '.join(self.classes[:4])}",
                             "rows that know some of the classes: there is nothing to learn from these",
                             "use a set with labels (a generator that is taught them), or leave the task out")
        if stage == "fit":
            labels = rows.training_labels[:, self._place]  # a soft label is a share of a row on each side
            self.counts.copy_(torch.as_tensor(np.stack([np.nansum(labels, 0), np.nansum(1 - labels, 0)]), dtype=torch.float32))
        if self.balance == "balanced" and stage == "fit":
            labels = data.train.labels[:, self._place]
            ones, zeros = (labels == 1).sum(0), (labels == 0).sum(0)
            weight = np.clip(zeros / np.maximum(ones, 1), 1 / MOST_WEIGHT, MOST_WEIGHT)
            self.pos_weight.copy_(torch.as_tensor(weight, dtype=torch.float32))

    def on_fit_start(self) -> None:
        """Weights of a checkpoint are there now."""
        self._check_served()

    def on_validation_start(self) -> None:
        """Weights of a checkpoint are there now."""
        self._check_served()

    def on_test_start(self) -> None:
        """Weights of a checkpoint are there now."""
        self._check_served()

    def _check_served(self) -> None:
        if self._served is not None:
            self._served.check()

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with warm-up and cosine.

        Raises:
            InputError: nothing of the net learns.
        """
        if not any(p.requires_grad for p in self.net.parameters()):
            raise InputError("model.net", f"{type(self.net).__name__} of which nothing learns", "a net with something to fit", "use `synthrad test` without "
                             "--ckpt_path, a study, or another tuning of the net")
        return training.adamw_with_cosine(self, self.lr, self.weight_decay, self.warmup, self.layer_decay, self.head_lr, self.decay_all)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep nets out of the hyperparameters."""
        training.forget_modules(checkpoint)

    def loss(self, logits: Tensor, labels: Tensor, together: bool = False) -> Tensor:
        """The task's loss, mean over the known labels. labels: [B, K] in [0, 1] or NaN; together: see nets.losses."""
        said = self.loss_options
        if self.loss_name == "focal":
            return focusing_loss(logits, labels, (said["gamma"],) * 2, (said["alpha"], 1 - said["alpha"]), together=together)
        if self.loss_name == "asymmetric":
            return focusing_loss(logits, labels, (said["gamma_positive"], said["gamma_negative"]), margin=said["margin"], together=together)
        if self.loss_name == "class_balanced":
            return balanced_loss(logits, labels, effective_number_weights(self.counts, said["beta"]), together)
        if self.loss_name == "logit_adjusted":
            return label_loss(logits + said["tau"] * prior_log_odds(self.counts), labels, None, together)
        return label_loss(logits, labels, self.pos_weight, together)

    def training_step(self, batch: Case, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        loss = training.check_finite(self.loss(self(batch.image), batch.labels[:, self._place], together=True), self.global_step)
        training.log_loss(self, loss, len(batch.image))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget earlier cases."""
        self._seen = []

    def validation_step(self, batch: Case, batch_idx: int) -> None:
        """Keep probabilities; show the first cases, always the same in the same place."""
        probability, labels = self(batch.image).sigmoid(), batch.labels[:, self._place]
        self._seen.append((probability.cpu(), labels.cpu()))
        if batch_idx == 0 and self.pictures and batch.image.ndim == 4 and not self.trainer.sanity_checking:
            self._show(batch.image[: self.pictures], labels[: self.pictures], probability[: self.pictures])

    def on_validation_epoch_end(self) -> None:
        """Log AUROC; choose the thresholds."""
        probability, labels = _gather(self._seen)
        known = ~torch.isnan(labels)
        loss = F.binary_cross_entropy(probability.clamp(1e-7, 1 - 1e-7)[known], labels[known]) if known.any() else None
        aurocs = []
        for k, name in enumerate(self.classes):
            p, t = probability[known[:, k], k], labels[known[:, k], k].long()
            if 0 < t.sum() < len(t):
                aurocs.append(binary_auroc(p, t))
                self.log(f"val/auroc {name}", aurocs[-1])
            threshold = best_threshold(p, t)
            self.thresholds[k] = NONE if math.isnan(threshold) else threshold
        if loss is not None:
            self.log("val/loss", loss)
            self.log("val/score", torch.stack(aurocs).mean() if aurocs else -loss, prog_bar=True)

    def on_test_epoch_start(self) -> None:
        """Forget earlier rows."""
        self._rows = training.CaseRows()

    def test_step(self, batch: Case, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add a row an image and class."""
        external, manifest = self.trainer.datamodule.test_manifests[dataloader_idx]
        facts = training.facts_of(manifest, batch.index.cpu().numpy(), external)
        probability = self(batch.image).sigmoid().cpu().numpy()
        labels = batch.labels[:, self._place].cpu().numpy()
        chosen = self.thresholds.cpu().numpy()
        thresholds = np.where(chosen == NONE, np.nan, chosen)
        for fact, p, t in zip(facts, probability, labels, strict=True):
            for k, name in enumerate(self.classes):
                self._rows.add("classification", fact, "", name, probability=float(p[k]), target=float(t[k]),
                               threshold=float(thresholds[k]))

    def on_test_epoch_end(self) -> None:
        """Settle the cases table and log the final AUROC."""
        cases = self._rows.settle()
        own = cases[(cases["external"] == "") & cases["target"].notna()]
        metrics = {}
        for name, rows in own.groupby("class_name"):
            t = torch.tensor(rows["target"].to_numpy()).long()
            if 0 < t.sum() < len(t):
                metrics[f"test/auroc {name}"] = float(binary_auroc(torch.tensor(rows["probability"].to_numpy()), t))
        if metrics:
            metrics["test/auroc"] = float(np.mean(list(metrics.values())))
        self.log_dict(metrics)
        training.log_result(self, {"lr": self.lr, "weight_decay": self.weight_decay}, metrics)

    def predict_step(self, batch: Case, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """`probability:CLASS` and `threshold:CLASS` -> float [B]; the threshold that validation chose, NaN for none."""
        probability, chosen = self(batch.image).sigmoid(), self.thresholds.where(self.thresholds != NONE, torch.nan)
        return {f"{what}:{name}": values[..., k].expand(len(probability)) for k, name in enumerate(self.classes)
                for what, values in (("probability", probability), ("threshold", chosen))}

    @property
    def cases(self) -> pd.DataFrame:
        """Rows of the last test: the columns of synthrad.cases without task, net, arm and seed."""
        return self._rows.table

    def _show(self, image: Tensor, labels: Tensor, probability: Tensor) -> None:
        grey = (image[:, :1].expand(-1, 3, -1, -1) + 1) / 2
        bars = [labels.nan_to_num(0.5), probability]  # one bar a class, white = 1, grey = unknown
        panels = [F.interpolate(b[:, None, :, None], size=(image.shape[2], 16)).expand(-1, 3, -1, -1) for b in bars]
        training.show(self, "val/image, target, prediction", [grey, *panels])


def checked_options(loss: str, given: Mapping[str, float], key: str = "model.loss") -> dict[str, float]:
    """All options of a loss, those given among them.

    Raises:
        InputError: an unknown loss or option, or a value out of its range.
    """
    if loss not in LOSSES:
        raise InputError(key, repr(loss), f"one of {', '.join(LOSSES)}", near(loss, LOSSES))
    known = LOSSES[loss]
    for name, value in given.items():
        if name not in known:
            raise InputError(f"{key}_options.{name}", "an unknown key", f"of {loss}: {', '.join(known) or 'none'}", near(name, known))
        most = 1.0 if name in ("alpha", "beta", "margin") else math.inf
        if not 0 <= value <= most or (value == 1 and name in ("beta", "margin")):
            raise InputError(f"{key}_options.{name}", str(value), "0 or more" if most > 1 else f"0 to {'1' if name == 'alpha' else 'below 1'}")
    return {**known, **given}


def best_threshold(probability: Tensor, target: Tensor) -> float:
    """The threshold of the highest F1 (p >= threshold is positive); NaN where there is no positive or no negative."""
    if not 0 < int(target.sum()) < len(target):
        return float("nan")
    precision, recall, thresholds = binary_precision_recall_curve(probability, target)
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    return float(thresholds[f1[:-1].argmax()])


def _gather(seen: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        parts: list[list] = [[] for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(parts, seen)
        seen = [batch for part in parts for batch in part]
    return torch.cat([p for p, _ in seen]), torch.cat([t for _, t in seen])

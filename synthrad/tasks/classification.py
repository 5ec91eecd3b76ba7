"""ClassificationTask: several findings an image, unknown labels ignored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc, binary_precision_recall_curve

from synthrad.cases import Case
from synthrad.errors import InputError
from synthrad.nets.losses import label_loss
from synthrad.tasks import training

MOST_WEIGHT = 20.0  # of a positive under pos_weight=balanced: a class with one positive would swamp the others
NONE = -1.0  # in `thresholds`: none was chosen; a checkpoint refuses NaN as the mark of a fit that failed


class ClassificationTask(LightningModule):
    """Multi-label classification with binary cross-entropy over the known labels.

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
            training rows, at most 20), or null.
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
    ):
        super().__init__()
        training.remember(self)
        if not classes:
            raise InputError("model.classes", repr(classes), "the names of label classes",
                             "use a manifest that has labels (prepare ... --labels), or name the classes")
        if isinstance(pos_weight, list | tuple) and len(pos_weight) != len(classes):
            raise InputError("model.pos_weight", f"{len(pos_weight)} numbers", f"{len(classes)}, one a class")
        self.net = net.to(memory_format=torch.channels_last)
        self.classes, self.balance = tuple(classes), pos_weight
        self.lr, self.weight_decay, self.warmup, self.pictures = lr, weight_decay, warmup, pictures
        fixed = pos_weight if isinstance(pos_weight, list | tuple) else [1.0] * len(classes)
        self.register_buffer("pos_weight", torch.tensor(fixed, dtype=torch.float32))
        self.register_buffer("thresholds", torch.full((len(classes),), NONE))
        self._place: list[int] = list(range(len(classes)))  # where each class is in Case.labels
        self._seen: list[tuple[Tensor, Tensor]] = []
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
        data = self.trainer.datamodule
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
        if self.balance == "balanced" and stage == "fit":
            labels = data.train.labels[:, self._place]
            ones, zeros = (labels == 1).sum(0), (labels == 0).sum(0)
            weight = np.clip(zeros / np.maximum(ones, 1), 1 / MOST_WEIGHT, MOST_WEIGHT)
            self.pos_weight.copy_(torch.as_tensor(weight, dtype=torch.float32))

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with warm-up and cosine."""
        return training.adamw_with_cosine(self, self.lr, self.weight_decay, self.warmup)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep nets out of the hyperparameters."""
        training.forget_modules(checkpoint)

    def loss(self, logits: Tensor, labels: Tensor, together: bool = False) -> Tensor:
        """Mean binary cross-entropy over the known labels. labels: [B, K] in [0, 1] or NaN; together: see nets.losses."""
        return label_loss(logits, labels, self.pos_weight, together)

    def training_step(self, batch: Case, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        loss = training.check_finite(self.loss(self(batch.image), batch.labels[:, self._place], together=True), self.global_step)
        self.log("train/loss", loss, batch_size=len(batch.image))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget earlier cases."""
        self._seen = []

    def validation_step(self, batch: Case, batch_idx: int) -> None:
        """Keep probabilities; show the first cases, always the same in the same place."""
        probability, labels = self(batch.image).sigmoid(), batch.labels[:, self._place]
        self._seen.append((probability.cpu(), labels.cpu()))
        if batch_idx == 0 and self.pictures and not self.trainer.sanity_checking:
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

    @property
    def cases(self) -> pd.DataFrame:
        """Rows of the last test: the columns of synthrad.cases without task, net, arm and seed."""
        return self._rows.table

    def _show(self, image: Tensor, labels: Tensor, probability: Tensor) -> None:
        grey = (image[:, :1].expand(-1, 3, -1, -1) + 1) / 2
        bars = [labels.nan_to_num(0.5), probability]  # one bar a class, white = 1, grey = unknown
        panels = [F.interpolate(b[:, None, :, None], size=(image.shape[2], 16)).expand(-1, 3, -1, -1) for b in bars]
        training.show(self, "val/image, target, prediction", [grey, *panels])


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

"""SegmentationTask: Dice and cross-entropy over layers whose structures exclude each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from synthrad.cases import Case
from synthrad.errors import InputError
from synthrad.nets.deep_supervision import masks_at
from synthrad.nets.losses import layers_loss
from synthrad.tasks import training

COLOURS = torch.tensor(
    [[0.0, 0.0, 0.0], [0.9, 0.6, 0.0], [0.35, 0.7, 0.9], [0.0, 0.6, 0.5], [0.95, 0.9, 0.25],
     [0.0, 0.45, 0.7], [0.8, 0.4, 0.0], [0.8, 0.6, 0.7]]
)  # Okabe and Ito 2008: told apart by colour-blind readers


class SegmentationTask(LightningModule):
    """One net for all layers: its logits are, layer by layer, background and the layer's structures.

    The loss of a layer is cross-entropy plus the Dice loss of its structures over the batch (Milletari et al. 2016),
    over the images where the layer is known. The best validation is that of the highest macro Dice: the mean over
    structures of 2 tp / (2 tp + fp + fn), pixels summed over all validation images.

    Args:
        net: image [B, C, H, W] to logits [B, sum(1 + structures), H, W].
        layers: layer -> structures, in the order of the logits; linked from the data.
        lr: peak learning rate of AdamW.
        weight_decay: of AdamW.
        warmup: share of the steps over which the rate rises.
        dice_weight: weight of the Dice loss beside the cross-entropy.
        pictures: validation cases shown in TensorBoard.
        layer_decay: factor of the rate from each layer to the one below it, such as 0.75 for a ViT; null = all layers alike.
        head_lr: rate of the head and the decoder; null = lr.
        decay_all: false = no weight decay on norms, biases, embeddings of places and class tokens.
    """

    monitor = "val/dice"

    def __init__(
        self,
        net: nn.Module,
        layers: dict[str, list[str]] | None = None,
        lr: float = 3e-4,
        weight_decay: float = 1e-4,
        warmup: float = 0.1,
        dice_weight: float = 1.0,
        pictures: int = 4,
        layer_decay: float | None = None,
        head_lr: float | None = None,
        decay_all: bool = True,
    ):
        super().__init__()
        training.remember(self)
        if not layers:
            raise InputError("model.layers", repr(layers), "a mapping of layers to structures",
                             "use a manifest that has masks, or name the layers")
        self.net = net.to(memory_format=torch.channels_last)
        self.layers: dict[str, tuple[str, ...]] = {k: tuple(v) for k, v in layers.items()}
        self.sizes = tuple(1 + len(s) for s in self.layers.values())
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup
        self.layer_decay, self.head_lr, self.decay_all = layer_decay, head_lr, decay_all
        self.dice_weight, self.pictures = dice_weight, pictures
        self._place: list[int] = list(range(len(self.layers)))  # where each layer is in Case.masks
        self._counts = torch.zeros(0)
        self._rows = training.CaseRows()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Logits of each layer [B, 1 + structures, H, W]."""
        return self._of_layers(training.logits(self.net, image))

    def _of_layers(self, logits: Tensor) -> list[Tensor]:
        if logits.shape[1] != sum(self.sizes):
            raise InputError("model.net", f"{logits.shape[1]} logits", f"{sum(self.sizes)} for the layers {self.layers}",
                             "set model.net.out_channels to that number")
        return list(logits.split(self.sizes, dim=1))

    def setup(self, stage: str) -> None:
        """Find the layers in the data."""
        training.check_precision(self.trainer.precision)
        have: Mapping[str, Sequence[str]] | None = getattr(self.trainer.datamodule, "layers", None)
        if have is None:
            return
        names = list(have)
        for layer, structures in self.layers.items():
            if tuple(have.get(layer, ())) != structures:
                raise InputError("model.layers", f"{layer}: {list(structures)}", f"layers of the data: {dict(have)}",
                                 "fit a net for this data; a checkpoint of another dataset cannot be used")
        self._place = [names.index(layer) for layer in self.layers]

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with warm-up and cosine."""
        return training.adamw_with_cosine(self, self.lr, self.weight_decay, self.warmup, self.layer_decay, self.head_lr, self.decay_all)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep nets out of the hyperparameters."""
        training.forget_modules(checkpoint)

    def loss(self, logits: Sequence[Tensor], masks: Tensor, together: bool = False) -> Tensor:
        """Mean over the layers that some image of the batch knows. masks: int64 [B, L, H, W], -1 unknown; together: see nets.losses."""
        return layers_loss(logits, masks[:, self._place], self.dice_weight, together)

    def training_step(self, batch: Case, batch_idx: int) -> Tensor:
        """Loss of a batch; of a net that is supervised at several places, their weighted sum."""
        found = training.all_logits(self.net, batch.image)
        losses = [weight * self.loss(self._of_layers(logits), masks_at(batch.masks, logits.shape[-2:]), together=True)
                  for logits, weight in zip(found.logits, found.weights, strict=True)]
        loss = training.check_finite(torch.stack(losses).sum(), self.global_step)
        training.log_loss(self, loss, len(batch.image))
        return loss

    def _count(self, batch: Case, logits: Sequence[Tensor]) -> list[Tensor]:
        """[B, structures, 4] pixels tp, fp, fn, tn of each layer; -1 where the layer is unknown.

        Masks of another size than the logits are the grid that is judged on: the logits are resampled to it.
        """
        out = []
        for scores, place in zip(logits, self._place, strict=True):
            target = batch.masks[:, place]
            drawn = resampled(scores, target.shape[-2:]).argmax(dim=1)
            marks = torch.arange(1, scores.shape[1], device=scores.device).view(1, -1, 1, 1)
            p, t = drawn[:, None] == marks, target[:, None] == marks
            counts = torch.stack([(p & t).sum((2, 3)), (p & ~t).sum((2, 3)), (~p & t).sum((2, 3)),
                                  (~p & ~t).sum((2, 3))], dim=-1)
            counts[target.amin(dim=(1, 2)) < 0] = -1
            out.append(counts)
        return out

    def on_validation_epoch_start(self) -> None:
        """Forget earlier counts."""
        self._counts = torch.zeros(sum(self.sizes) - len(self.sizes), 3, dtype=torch.float64)

    def validation_step(self, batch: Case, batch_idx: int) -> None:
        """Count pixels; show the first cases, always the same in the same place."""
        logits = self(batch.image)
        self.log("val/loss", self.loss(logits, batch.masks), batch_size=len(batch.image), on_epoch=True, sync_dist=True)
        counts = torch.cat([c.clamp(min=0).sum(0) for c in self._count(batch, logits)])
        self._counts += counts[:, :3].double().cpu()
        if batch_idx == 0 and self.pictures and not self.trainer.sanity_checking:
            self._show(batch, logits)

    def on_validation_epoch_end(self) -> None:
        """Log Dice of each structure and their mean."""
        counts = training.total(self._counts.to(self.device) if self.trainer.world_size > 1 else self._counts)
        tp, fp, fn = counts.cpu().unbind(dim=1)
        names = [f"{layer}/{s}" for layer, structures in self.layers.items() for s in structures]
        there = (tp + fn) > 0
        dice = 2 * tp / (2 * tp + fp + fn).clamp(min=1)
        for name, value, known in zip(names, dice, there, strict=True):
            if known:
                self.log(f"val/dice {name}", value.float())
        if there.any():
            self.log("val/dice", dice[there].mean().float(), prog_bar=True)

    def on_test_epoch_start(self) -> None:
        """Forget earlier rows."""
        self._rows = training.CaseRows()

    def test_step(self, batch: Case, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add a row an image, layer and structure."""
        external, manifest = self.trainer.datamodule.test_manifests[dataloader_idx]
        facts = training.facts_of(manifest, batch.index.cpu().numpy(), external)
        layers = zip(self.layers.items(), self._count(batch, self(batch.image)), strict=True)
        for (layer, structures), counts in layers:
            for fact, image in zip(facts, counts.cpu().numpy(), strict=True):
                for structure, (tp, fp, fn, tn) in zip(structures, image, strict=True):
                    if tp >= 0:
                        self._rows.add("segmentation", fact, layer, structure,
                                       tp=int(tp), fp=int(fp), fn=int(fn), tn=int(tn))

    def on_test_epoch_end(self) -> None:
        """Settle the cases table and log the final Dice."""
        cases = self._rows.settle()
        if not len(cases):
            raise InputError("split test", "no image with a mask of a known layer", "at least one")
        own = cases[cases["external"] == ""]
        sums = own.groupby(["layer", "class_name"])[["tp", "fp", "fn"]].sum()
        sums = sums[sums["tp"] + sums["fn"] > 0]
        dice = 2 * sums["tp"] / (2 * sums["tp"] + sums["fp"] + sums["fn"])
        metrics = {f"test/dice {layer}/{s}": float(v) for (layer, s), v in dice.items()}
        if len(dice):
            metrics["test/dice"] = float(dice.mean())
        self.log_dict(metrics)
        training.log_result(self, {"lr": self.lr, "weight_decay": self.weight_decay}, metrics)

    def predict_step(self, batch: Case, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Layer -> uint8 [B, H, W], 0 background and k structure k - 1, on the grid that masks are judged on."""
        size = batch.masks.shape[-2:]
        return {layer: resampled(scores, size).argmax(dim=1).to(torch.uint8) for layer, scores in zip(self.layers, self(batch.image), strict=True)}

    @property
    def cases(self) -> pd.DataFrame:
        """Rows of the last test: the columns of synthrad.cases without task, net, arm and seed."""
        return self._rows.table

    def _show(self, batch: Case, logits: Sequence[Tensor]) -> None:
        n = self.pictures
        grey = (batch.image[:n, :1].expand(-1, 3, -1, -1).cpu() + 1) / 2
        for (layer, _), scores, place in zip(self.layers.items(), logits, self._place, strict=True):
            target, drawn = batch.masks[:n, place].cpu().clamp(min=0), scores[:n].argmax(dim=1).cpu()
            panels = [grey, *(COLOURS[1 + (m - 1) % 7].mul((m > 0)[..., None]).permute(0, 3, 1, 2)
                              for m in (target, drawn))]
            training.show(self, f"val/image, target, prediction: {layer}", panels)


def resampled(scores: Tensor, size: Sequence[int]) -> Tensor:
    """Logits [B, K, H, W] on another grid, bilinear (with antialiasing where it is coarser); unchanged on their own."""
    if tuple(scores.shape[-2:]) == tuple(size):
        return scores
    return F.interpolate(scores.float(), size=tuple(size), mode="bilinear", align_corners=False, antialias=True)

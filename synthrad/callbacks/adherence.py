"""Adherence: whether samples show the labels, attributes and masks that they were asked for, while a generator trains.

Two auxiliary nets that learn from the real training images before the first step, a classifier and a segmenter, look at
the samples. Each number stands beside what the same net reaches on real validation images, which is all that can be
asked for, and beside what a generator would get that ignores its condition. The nets know the training images: for
images that were copied adherence is high, and no sign of quality (see the similarity of `synthrad score`).
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor, nn

from synthrad.callbacks.checks import STYLE, Checks, short
from synthrad.cases import Case, collate
from synthrad.conditioning import Condition
from synthrad.data.batches import light_batches
from synthrad.data.transforms import UNKNOWN
from synthrad.files import write_durably
from synthrad.metrics.adherence import Z95, auroc, mask_agreement
from synthrad.nets.losses import label_loss, layers_loss
from synthrad.nets.short_fit import fit_briefly, likeliest
from synthrad.nets.smp_net import SmpNet
from synthrad.nets.timm_net import TimmNet

VERSION = 2  # raise by hand when the auxiliary nets or their training change
STRIDE = 32  # of the segmenter


class Adherence(Checks):
    """Ask auxiliary nets what samples show, every so many images and at the end of the fit.

    A line of `<log_dir>/adherence.jsonl` holds images (seen), step, generated; auroc: how well the classifier's answers
    separate samples that were asked for a finding (or attribute value) from those that were asked for its absence, mean
    over the findings that both samples and real images have enough of, and real_auroc: the same for real validation
    images; findings: each of them with its 95 % interval; dice: agreement of the samples' masks with the segmenter, with
    its standard error, beside real_dice, and dice_other, with the mask of another sample. None is what cannot be told.

    Args:
        every_images, number, seed, block: see Checks. At most `number` validation images are the yardstick.
        steps, batch_size, lr: of the auxiliary nets (AdamW, one cycle, light augmentation, nothing selected).
        encoder: timm's name of the classifier and of the segmenter's encoder, randomly initialised.
    """

    name = "adherence"
    shown = ("auroc", "real_auroc", "dice", "real_dice")
    data_needs = ("held_out_cases", "spec", "cache_path", *Checks.data_needs)

    def __init__(self, every_images: int = 10_000, number: int = 500, seed: int = 0, block: int = 32, steps: int = 400,
                 batch_size: int = 16, lr: float = 1e-3, encoder: str = "resnet18"):
        super().__init__(every_images, number, seed, block)
        self.steps, self.batch_size, self.lr, self.encoder = steps, batch_size, lr, encoder
        self.nets: dict[str, nn.Module] = {}
        self.yardstick: dict[str, Any] = {}
        self._spec: Mapping[str, Any] = {}

    @property
    def asked_names(self) -> list[str]:
        """Findings and attribute values that the generator is taught, in the order of the classifier's logits."""
        taught = [c for c in self._spec["classes"] if c not in self._spec.get("untaught", [])]
        return [*taught, *(f"{a}={v}" for a, values in self._spec["attributes"].items() for v in values)]

    @property
    def _structures(self) -> list[int]:
        """How many structures each layer has."""
        return [len(s) for s in self._spec["layers"].values()]

    def _taught(self, labels: np.ndarray) -> np.ndarray:
        """The columns of labels [n, K] that the generator is taught."""
        return np.asarray(labels, float)[:, [c not in self._spec.get("untaught", []) for c in self._spec["classes"]]]

    # ---- the auxiliary nets

    def prepare(self, trainer: L.Trainer, pl_module: L.LightningModule) -> bool:
        """Fit the nets, or read those of an earlier part of this fit, or of another one on the same data; measure them on real validation images."""
        data = trainer.datamodule
        self._spec = data.spec()
        self.nets = self._make_nets()
        if not self.nets:
            warnings.warn("Adherence: neither labels, attributes nor masks to adhere to; nothing is computed", stacklevel=2)
            return False
        for net in self.nets.values():
            net.to(pl_module.device, memory_format=torch.channels_last)  # fitted or read: the same arithmetic
        told = [VERSION, data.train.digest, list(self._spec["size"]), self.asked_names, self._spec["layers"], self.steps,
                self.batch_size, self.lr, self.encoder, self.seed]
        identity = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        own, shared = Path(trainer.default_root_dir) / "auxiliary.pt", data.cache_path / f"auxiliary-{identity[:16]}.pt"
        for path in (own, shared):  # other fits on the same data leave theirs
            kept = torch.load(path, weights_only=True, map_location=pl_module.device) if path.is_file() else {}
            if kept.get("identity") == identity:
                for kind, net in self.nets.items():
                    net.load_state_dict(kept[kind])
                break
        else:
            for kind, net in self.nets.items():
                self._fit(kind, net, data, pl_module.device)
        buffer = io.BytesIO()
        torch.save({"identity": identity, **{k: n.state_dict() for k, n in self.nets.items()}}, buffer)
        for path in (own, shared):
            if not path.is_file() or path.read_bytes() != buffer.getvalue():
                write_durably(path, buffer.getvalue())
        for net in self.nets.values():
            net.eval()
        held_out, _ = data.held_out_cases(self.number)
        if held_out:
            real = collate(held_out)
            masks = np.where(real.masks.numpy() < 0, UNKNOWN, real.masks.numpy()).astype(np.uint8)
            self.yardstick = self._judge([(real.image, self._targets(real), masks)])
        else:
            warnings.warn("Adherence: no validation images: what the auxiliary nets reach on real images is not known", stacklevel=2)
        return True

    def _make_nets(self) -> dict[str, nn.Module]:
        layers, channels, nets = self._spec["layers"], len(self._spec["channels"]), {}
        torch.manual_seed(self.seed)
        if self.asked_names:
            nets["classifier"] = TimmNet(self.encoder, None, channels, len(self.asked_names))
        if layers and any(side % STRIDE for side in self._spec["size"]):
            warnings.warn(f"Adherence: masks of {self._spec['size']} pixels are not judged: the segmenter needs multiples of "
                          f"{STRIDE}", stacklevel=2)
        elif layers:
            nets["segmenter"] = SmpNet("Unet", self.encoder, None, channels, sum(1 + n for n in self._structures))
        return nets

    def _fit(self, kind: str, net: nn.Module, data: Any, device: torch.device) -> None:
        """Fit one net in place on the training rows."""
        def loss(logits: Tensor, batch: Case) -> Tensor:
            if kind == "classifier":
                return label_loss(logits, torch.from_numpy(self._targets(batch)).to(logits))
            return layers_loss(logits.split([1 + n for n in self._structures], dim=1), batch.masks.to(logits.device))

        batches = light_batches(data.case, np.arange(len(data.train)), self.batch_size, np.random.default_rng([self.seed, 13]))
        fit_briefly(net, batches, loss, self.steps, self.lr, device, f"Adherence: fitting the auxiliary {kind}")

    # ---- what was asked for

    def _targets(self, cases: Case) -> np.ndarray:
        """What a batch of real cases shows, float [n, names]: 1, 0, NaN unknown."""
        parts, attributes, start = [self._taught(cases.labels.numpy())], cases.attributes.numpy(), 0
        for values in self._spec["attributes"].values():
            one_hot = attributes[:, start : start + len(values)]
            start += len(values)
            parts.append(np.where(one_hot.sum(1, keepdims=True) > 0, one_hot, np.nan))
        return np.concatenate(parts, 1)

    def _asked(self, condition: Condition, n: int) -> np.ndarray:
        """What samples were asked for, float [n, names]: 1, 0, NaN left open."""
        labels = condition.labels if condition.labels is not None else np.full((n, len(self._spec["classes"])), np.nan)
        given = [dict(condition.attributes[i]) if condition.attributes else {} for i in range(n)]
        columns = [[float(g[a] == v) if g.get(a) else np.nan for g in given]
                   for a, values in self._spec["attributes"].items() for v in values]
        return np.concatenate([self._taught(labels), np.array(columns, float).reshape(len(columns), n).T], 1)

    # ---- a check

    def measure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Draw and judge."""
        drawn = ((images.image.float(), self._asked(condition, len(images.image)),
                  None if images.masks is None else images.masks.cpu().numpy().astype(np.uint8))
                 for condition, images in self.samples(trainer.datamodule, pl_module))
        found, real = self._judge(drawn), self.yardstick
        findings = found.get("findings", {})
        for name, row in findings.items():
            row |= {f"real_{k}": real["findings"][name][k] if real else None for k in ("auroc", "low", "high")}
        shared = [r for r in findings.values() if r["auroc"] is not None and (r["real_auroc"] is not None or not real)]
        mean = lambda key: short(np.mean([r[key] for r in shared])) if shared and shared[0][key] is not None else None  # noqa: E731
        return {"generated": self.number, "auroc": mean("auroc"), "real_auroc": mean("real_auroc"), "findings": findings,
                **{k: found.get(k) for k in ("dice", "dice_se", "dice_other")},
                "real_dice": real.get("dice"), "real_dice_other": real.get("dice_other")}

    def _judge(self, blocks: Any) -> dict[str, Any]:
        """Answers of the nets about pictures, their targets and their masks, given in blocks."""
        answers, targets, seen, masks = [], [], [], []
        for pictures, wanted, own in blocks:
            for start in range(0, len(pictures), self.block):
                part = slice(start, start + self.block)
                if "classifier" in self.nets:
                    answers.append(self._answer("classifier", pictures[part]).sigmoid().numpy())
                if "segmenter" in self.nets:
                    seen.append(likeliest(self._answer("segmenter", pictures[part]), self._structures).numpy())
            targets.append(wanted)
            masks.append(own)
        found: dict[str, Any] = {}
        if answers:
            score, target = np.concatenate(answers), np.concatenate(targets)
            found["findings"] = {name: _row(score[:, k], target[:, k]) for k, name in enumerate(self.asked_names)}
        if seen and not any(m is None for m in masks):  # a generator may draw images alone
            fit = mask_agreement(np.concatenate(masks), np.concatenate(seen), self._structures)
            found |= {"dice": short(fit.dice), "dice_se": short(fit.error), "dice_other": short(fit.other)}
        return found

    def _answer(self, kind: str, pictures: Tensor) -> Tensor:
        net = self.nets[kind]
        return net(pictures.to(next(net.parameters()).device)).float().cpu()

    def picture(self, lines: Sequence[dict[str, Any]]) -> bytes:
        """The curves."""
        return draw_curves(lines)


def _row(score: np.ndarray, target: np.ndarray) -> dict[str, Any]:
    found = auroc(score, target)
    low, high = found.interval
    return {"auroc": short(found.value), "low": short(low), "high": short(high), "asked": found.positive,
            "asked_absent": found.negative}


def draw_curves(lines: Sequence[Mapping[str, Any]]) -> bytes:
    """PNG of AUROC and Dice against images seen, each with what real images reach and what ignoring the condition would give.

    Args:
        lines: of an adherence.jsonl.
    """
    images = np.array([x["images"] for x in lines]) / 1000
    numbers = lambda key: np.array([np.nan if x[key] is None else x[key] for x in lines], float)  # noqa: E731
    names = [n for n in ("auroc", "dice") if np.isfinite(numbers(n)).any()] or ["auroc"]
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.8 * len(names)), layout="constrained")
        for axes, name in zip(figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0], names, strict=True):
            axes.plot(images, numbers(name), "o-", color="#0072b2", markersize=4, label="samples, by what they were asked for")
            axes.plot(images, numbers(f"real_{name}"), "--", color="#009e73", label="real validation images")
            if name == "auroc":
                for finding in lines[-1]["findings"]:
                    each = [x["findings"].get(finding, {}).get("auroc") for x in lines]
                    axes.plot(images, [math.nan if v is None else v for v in each], "-", color="#0072b2", alpha=0.25, linewidth=0.8)
                axes.axhline(0.5, color="#d55e00", linestyle=":", label="condition ignored")
                axes.set(ylabel="AUROC, mean over findings", ylim=(min(0.4, axes.get_ylim()[0]), 1.02))
            else:
                error = Z95 * numbers("dice_se")
                axes.fill_between(images, numbers(name) - error, numbers(name) + error, color="#0072b2", alpha=0.2, linewidth=0)
                axes.plot(images, numbers("dice_other"), ":", color="#d55e00", label="with the mask of another sample")
                axes.set(ylabel="Dice, mask and segmenter", ylim=(0, 1.02))
            axes.legend(frameon=False, fontsize=8)
        axes.set_xlabel("images seen, in thousands")
        figure.suptitle("Adherence: what auxiliary nets see in the samples", x=0.01, ha="left", fontsize=10)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()

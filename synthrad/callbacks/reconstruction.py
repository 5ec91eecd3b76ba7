"""Reconstruction: what an autoencoder keeps of real validation images, while it trains.

An autoencoder that erases small findings makes every latent diffusion model on top of it worthless. So beside the likeness of
pictures, the error inside each structure stands beside that elsewhere, and the auxiliary nets of Adherence, which learned from
real training images, look at reconstructions and at their originals.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from matplotlib import rc_context
from matplotlib.figure import Figure
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from synthrad.callbacks.adherence import Adherence
from synthrad.callbacks.checks import STYLE, short
from synthrad.cases import Case, collate
from synthrad.conditioning import Images
from synthrad.data.sheets import Block, Panel, pictures, png, sheet
from synthrad.data.transforms import UNKNOWN
from synthrad.errors import InputError
from synthrad.files import write_durably


class Reconstruction(Adherence):
    """Reconstruct real validation images every so many images and at the end of the fit.

    A line of `<log_dir>/reconstruction.jsonl` holds images (seen), validation images; psnr (dB) and ssim, means over them for a
    range of 2; error, the mean absolute difference in grey values of [-1, 1], and by structure error_inside and
    error_outside; dice and real_dice, the segmenter against the true masks on reconstructions and on originals; auroc and
    real_auroc, the classifier against the true labels likewise. `reconstructions/` shows originals above reconstructions.

    Args:
        as Adherence; at most `number` validation images.
        columns: pictures in a row of the grid.
    """

    name = "reconstruction"
    shown = ("psnr", "ssim", "error", "dice", "real_dice")

    def __init__(self, every_images: int = 10_000, number: int = 500, seed: int = 0, block: int = 32, steps: int = 400,
                 batch_size: int = 16, lr: float = 1e-3, encoder: str = "resnet18", columns: int = 8):
        super().__init__(every_images, number, seed, block, steps, batch_size, lr, encoder)
        self.columns = columns
        self.parts: list[Case] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse a generator that reconstructs nothing."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and not hasattr(pl_module, "reconstruct"):
            raise InputError("model", type(pl_module).__name__, "an autoencoder", "leave the callback Reconstruction out")

    def prepare(self, trainer: L.Trainer, pl_module: L.LightningModule) -> bool:
        """Read the validation images; fit the auxiliary nets where there is something that they can judge."""
        cases, _ = trainer.datamodule.held_out_cases(self.number)
        if pl_module.hparams.masks == "draw":  # it can encode no mask that is not known
            cases = [c for c in cases if (c.masks >= 0).all()]
        self.parts = [collate(cases[k : k + self.block]) for k in range(0, len(cases), self.block)]
        super().prepare(trainer, pl_module)
        if not self.parts:
            warnings.warn("Reconstruction: no validation image that could be encoded; nothing is measured", stacklevel=2)
        elif self.nets:  # originals of the very reconstructions
            self.yardstick = self._judge(self._judged([p.image for p in self.parts]))
        return bool(self.parts)

    def _judged(self, images: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, np.ndarray, np.ndarray]]:
        """Pictures, part by part, with what the cases they are of really show."""
        masks = [np.where(p.masks.numpy() < 0, UNKNOWN, p.masks.numpy()).astype(np.uint8) for p in self.parts]
        return list(zip(images, [self._targets(p) for p in self.parts], masks, strict=True))

    def measure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Reconstruct and compare."""
        made = [pl_module.reconstruct(move_data_to_device(part, pl_module.device)).image.cpu() for part in self.parts]
        real, own = torch.cat([p.image for p in self.parts]), torch.cat(made)
        masks = torch.cat([p.masks for p in self.parts])
        line = {"validation": len(real), "psnr": short(float(_each_psnr(own, real).mean())),
                "ssim": short(float(structural_similarity_index_measure(own, real, data_range=2.0))),
                "error": short(float((own - real).abs().mean())), "structures": _by_structure(own, real, masks, self._spec["layers"])}
        judged = self._judge(self._judged(made)) if self.nets else {}
        shared = [(r["auroc"], self.yardstick["findings"][n]["auroc"]) for n, r in judged.get("findings", {}).items()
                  if None not in (r["auroc"], self.yardstick["findings"][n]["auroc"])]
        auroc, real_auroc = (short(float(np.mean(x))) for x in zip(*shared, strict=True)) if shared else (None, None)
        line |= {"dice": judged.get("dice"), "real_dice": self.yardstick.get("dice"), "auroc": auroc, "real_auroc": real_auroc,
                 "latent_scale": short(float(pl_module.latent_scale))}
        self._show(pl_module.images_seen, real, own)
        return line

    def _show(self, images_seen: int, real: torch.Tensor, own: torch.Tensor) -> None:
        """Originals above their reconstructions."""
        shown = slice(0, 2 * self.columns)
        blocks = [Block(title, [Panel(p, "") for p in pictures(Images(x[shown].clamp(-1, 1)), [])])
                  for title, x in (("originals", real), ("reconstructions", own))]
        page = sheet(f"{images_seen:,} images seen", blocks, min(self.columns, len(real)), {})
        write_durably(self.folder / "reconstructions" / f"images{images_seen:09d}.png", png(page))

    def picture(self, lines: Sequence[dict[str, Any]]) -> bytes:
        """The curves."""
        return draw_curves(lines)


def _each_psnr(own: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    return torch.stack([peak_signal_noise_ratio(a, b, data_range=2.0) for a, b in zip(own, real, strict=True)])


def _by_structure(own: torch.Tensor, real: torch.Tensor, masks: torch.Tensor, layers: dict[str, list[str]]) -> dict[str, Any]:
    """Mean absolute error inside and outside of each structure, over images whose mask of that layer is known."""
    error, found = (own - real).abs().mean(1), {}
    for i, (layer, names) in enumerate(layers.items()):
        known = masks[:, i].flatten(1).min(1).values >= 0
        for k, name in enumerate(names):
            inside = masks[known, i] == k + 1
            at = error[known]
            found[f"{layer}/{name}"] = {"error_inside": short(float(at[inside].mean())), "error_outside": short(float(at[~inside].mean())),
                                        "images": int(inside.flatten(1).any(1).sum())}
    return found


def draw_curves(lines: Sequence[dict[str, Any]]) -> bytes:
    """PNG of PSNR, SSIM, and Dice on reconstructions and on originals against images seen.

    Args:
        lines: of a reconstruction.jsonl.
    """
    images = np.array([x["images"] for x in lines]) / 1000
    numbers = lambda key: np.array([np.nan if x[key] is None else x[key] for x in lines], float)  # noqa: E731
    labels = {"psnr": "PSNR, dB", "ssim": "SSIM", "dice": "Dice, segmenter and true mask", "auroc": "AUROC, classifier and true labels"}
    names = [n for n in labels if np.isfinite(numbers(n)).any()]
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.0 * len(names) + 0.6), layout="constrained")
        for axes, name in zip(figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0], names, strict=True):
            axes.plot(images, numbers(name), "o-", color="#0072b2", markersize=4, label="reconstructions")
            if f"real_{name}" in lines[0]:
                axes.plot(images, numbers(f"real_{name}"), "--", color="#009e73", label="originals")
                axes.legend(frameon=False, fontsize=8)
            axes.set_ylabel(labels[name], fontsize=8)
        axes.set_xlabel("images seen, in thousands")
        figure.suptitle("Reconstruction of real validation images", x=0.01, ha="left", fontsize=10)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()

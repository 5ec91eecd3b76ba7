"""A trained diffusion model of images that masks steer, by a ControlNet beside it (Zhang et al. 2023).

The model itself is frozen: what it knows of many images without masks stays, and few images with masks teach the branch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from synthrad.cases import Case
from synthrad.conditioning import Condition
from synthrad.dataset_info import DatasetInfo
from synthrad.diffusion.samplers import Sampler
from synthrad.errors import InputError
from synthrad.generators.attention import Flash
from synthrad.generators.conditional import ordered
from synthrad.generators.diffusion import Diffusion
from synthrad.generators.loading import load_generator
from synthrad.lineage import Lineage
from synthrad.nets.diffusion_unet import ControlBranch, DiffusionUNet
from synthrad.nets.encoding import MaskEncoding
from synthrad.nets.text import WordEncoder

KEY = "model.base"
STRUCTURE = ("channels", "attention", "res_blocks", "head_channels", "schedule", "shift", "zero_terminal_snr", "prediction",
             "min_snr", "text", "text_length", "text_width", "vector")  # settings that are the base's
TOLD = ("rates", "prompt", "vocabulary")  # of a spec: how the base was told its conditions
SAME = ("size", "channels", "classes", "attributes", "untaught")  # of what base and branch learn from


class ControlledDiffusion(Diffusion):
    """A diffusion model of images and a branch that reads masks: a source that draws from masks.

    Args:
        base: checkpoint of a Diffusion of images alone (data.layers=[]), of the same size, labels and attributes; on pixels or
            on latents, with prompts or without. Its net, schedule and reader of prompts are taken over: to sample, its file is
            not needed, and to go on with a fit it is.
        mask_drop_rate: share of images that train with a mask of zeros, as one that is not given looks.
        flash, recompute: as Diffusion has them, of base and branch.
        max_images, mask_encoding, lr, warmup_images, ema_half_life_images, ema_rampup, label_dropout, drop_rate, prompt_drop_rate, accumulate,
            times, sampler, steps, guidance, guidance_interval: as Diffusion has them, of the branch.
    """

    draws_from_masks = True  # whatever its settings

    def __init__(self, base: str, max_images: int = 1_000_000, mask_drop_rate: float = 0.1, mask_encoding: MaskEncoding = "onehot",
                 lr: float = 1e-4, warmup_images: int = 10_000, ema_half_life_images: float = 50_000, ema_rampup: float = 0.05,
                 label_dropout: float = 0.1, drop_rate: float = 0.1, prompt_drop_rate: float = 0.0, accumulate: int = 1, times: Literal["uniform", "logit_normal"] = "uniform",
                 sampler: Sampler = "dpm_multistep", steps: int = 25, guidance: float = 1.0,
                 guidance_interval: tuple[float, float] = (0.0, 1.0), flash: Flash = "auto", recompute: bool = False):
        super().__init__(max_images=max_images, masks="given", mask_encoding=mask_encoding, lr=lr, warmup_images=warmup_images,
                         ema_half_life_images=ema_half_life_images, ema_rampup=ema_rampup, label_dropout=label_dropout,
                         drop_rate=drop_rate, prompt_drop_rate=prompt_drop_rate, accumulate=accumulate, times=times, sampler=sampler, steps=steps, guidance=guidance,
                         guidance_interval=guidance_interval, flash=flash, recompute=recompute)
        self.hparams.update(masks="given", autoencoder=None)  # the command line notes only what this class takes
        self._of_base: dict[str, Any] | None = None  # what checkpoints keep of it beside its weights

    def build(self, spec: dict[str, Any]) -> None:
        """As any generator; conditions are told as the base learned them, whatever the data now would have."""
        super().build(spec if self._of_base is None else self._told_as_base(spec))

    def _told_as_base(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        told = {k: v for k, v in self._of_base["told"].items() if v is not None}
        return {**{k: v for k, v in spec.items() if k not in TOLD}, **told}

    def make_nets(self, spec: dict[str, Any], picture_channels: int, given_channels: int, c_dim: int) -> None:
        """The frozen base, the branch and its average."""
        source = None
        if self._of_base is None:
            source, lineage = read_base(self.hparams.base, spec)
            self._of_base = {"hparams": {k: source.hparams[k] for k in STRUCTURE}, "told": {k: source.spec.get(k) for k in TOLD},
                             "digest": lineage.fitted[-1].digest, "drop_rate": source.hparams.drop_rate}
            self._entry = source._entry
            info = DatasetInfo.from_dict(dict(spec["info"]), "data")
            spec["info"] = replace(info, lineage=info.lineage + lineage).to_dict()
        self.hparams.update(self._of_base["hparams"])
        told = self._told_as_base(spec)
        spec.clear()
        spec.update(told)
        super().make_nets(spec, picture_channels - given_channels, 0, c_dim)
        if source is not None:
            self.net_ema.load_state_dict(source.net_ema.state_dict())
            if self.autoencoder is not None:
                self.autoencoder.load_state_dict(source.autoencoder.state_dict())
        self.base: DiffusionUNet = self.net_ema
        drawn = self.autoencoder.net_ema.latent_shape[1:] if self.autoencoder is not None else spec["size"]
        self.net = ControlBranch(self.base, given_channels, int(math.log2(spec["size"][0] // drawn[0])))
        self.net_ema = copy.deepcopy(self.net).requires_grad_(False).eval()
        for net in (self.net, self.net_ema):
            net.to(memory_format=torch.channels_last)

    @property
    def attending(self) -> list[nn.Module]:
        """The base, then the branch and its average."""
        return [self.base, self.net, self.net_ema]

    def state(self) -> dict[str, Any]:
        """Also what the base is made from."""
        return {**super().state(), "base": self._of_base}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make base and branch as the checkpoint has them; to sample, the base's own file is not needed.

        Raises:
            InputError: the config names another base.
        """
        known = checkpoint.get("synthrad", {}).get("base")
        if self.spec is not None and (known or {}).get("digest") != self._of_base["digest"]:
            raise InputError(KEY, str(self.hparams.base), "the base that the checkpoint was trained with", "set it back, or start a "
                             "training of its own in a new folder")
        self._of_base = known
        super().on_load_checkpoint(checkpoint)

    # ---- what differs from a model that has masks beside its pictures

    def encode(self, batch: Case) -> tuple[Tensor, Tensor]:
        """As any generator, some masks dropped."""
        real, c = super().encode(batch)
        k = len(self.spec["channels"])
        dropped = torch.rand(len(real), 1, 1, 1, device=real.device) < self.hparams.mask_drop_rate
        return torch.cat([real[:, :k], real[:, k:].masked_fill(dropped, 0.0)], 1), c

    def asked(self, condition: Condition, n: int) -> tuple[Tensor, Tensor | None]:
        """As any generator; without masks a picture of zeros steers."""
        if condition.masks is not None:
            return super().asked(condition, n)
        blank = torch.zeros(n, len(self.structures), *self.spec["size"], dtype=torch.long)
        c, masks = super().asked(replace(condition, masks=blank), n)
        return c, torch.zeros_like(masks)

    @property
    def undirected(self) -> float:
        """The smaller one: guidance needs base and branch to have drawn without a condition."""
        return min(self.hparams.drop_rate, (self._of_base or {}).get("drop_rate", 1.0))

    def _fit_masks(self, masks: Tensor, shape: Sequence[int]) -> Tensor:
        return masks  # the branch reads them at their own size

    def _answer(self, net: nn.Module, x: Tensor, t: Tensor, c: Tensor, tokens: Tensor | None, masks: Tensor | None) -> Tensor:
        return self.base(x, t, c, tokens, net(x, t, c, tokens, masks))

    def _words(self, net: nn.Module) -> WordEncoder:
        return self.base.words

    @property
    def _drawn_channels(self) -> int:
        return self.base.net.out_channels


def read_base(path: str, spec: Mapping[str, Any]) -> tuple[Diffusion, Lineage]:
    """A trained diffusion model of images, and its lineage as that of weights that are taken over.

    Args:
        spec: of the data that the branch learns from.

    Raises:
        InputError: no such file, no diffusion model, one that draws or is given masks, or one of other data.
    """
    if not Path(path).is_file():
        raise InputError(KEY, f"no file {path!r}", "the checkpoint of a Diffusion of images alone", "train one first, with data.layers=[]")
    module, info, lineage, theirs = load_generator(path)
    if type(module) is not Diffusion:
        raise InputError(f"{KEY} {path}", f"a {type(module).__name__}", "a Diffusion", "name the checkpoint of a diffusion model")
    if theirs["layers"]:
        raise InputError(f"{KEY} {path}", f"a model of images with masks of {', '.join(theirs['layers'])}", "one of images alone: masks steer "
                         "from beside it", "train it with data.layers=[]")
    for name in SAME:
        if ordered(theirs.get(name)) != ordered(mine := spec.get(name)):
            raise InputError(f"{KEY} {path}", f"{name} {theirs.get(name)}", f"{mine}, as data gives it",
                             "train base and branch with the same data.size, data.classes, data.attributes and data.min_subjects")
    if info.intensity != spec["info"]["intensity"]:
        raise InputError(f"{KEY} {path}", f"grey values {dict(info.intensity)}", f"{spec['info']['intensity']}, as the manifest has it",
                         "prepare both datasets with the same --intensity")
    if theirs.get("prompt") != spec.get("prompt"):
        raise InputError("data.prompt", str(spec.get("prompt", "none")), f"{theirs.get('prompt', 'none')}, as {path} learned to read them",
                         "set data.prompt and data.prompt_words as the base was trained")
    *before, own = lineage.fitted
    return module, Lineage((*before, replace(own, kind="weights")))

"""StyleGAN2 with adaptive augmentation that draws an image and its mask layers together, as extra channels.

A real picture enters the discriminator as [image channels, mask channels], all in [-1, 1]; gan.encoding says how a mask
becomes channels (`onehot` or `scalar`). Image and `scalar` channels leave the generator linear, as images do in the
paper; `onehot` channels pass a softmax, because a linear output never reaches the hard edges of a real mask and the
discriminator would tell the two apart by that alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from synthrad.cases import Case
from synthrad.conditioning import Condition, Images
from synthrad.errors import InputError, RunError
from synthrad.gan.augment import AdaptiveProbability, Augment
from synthrad.gan.encoding import (
    MaskEncoding,
    decode_masks,
    encode_condition,
    encode_masks,
    forget,
    squash_masks,
)
from synthrad.gan.losses import (
    discriminator_loss,
    generator_loss,
    half_life_decay,
    path_lengths,
    path_penalty,
    r1_penalty,
    update_average,
)
from synthrad.nets.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator


def check_same_training(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Refuse to go on with other training images or subjects: the lineage would forget those that were seen before.

    Raises:
        InputError: two specs whose `fingerprints` or `trained_on` differ.
    """
    for key, what in (("fingerprints", "images"), ("trained_on", "subjects")):
        if mine := set(one[key]) ^ set(other[key]):
            raise InputError(f"checkpoint: {key}", f"{len(mine)} training {what} that only one of checkpoint and data has",
                             f"the same {what} in both (a split made anew, or another project key, changes them)",
                             "give the manifest as it was and the same project folder, or start afresh in a new folder")


class StyleGAN2(L.LightningModule):
    """A conditional StyleGAN2-ADA. Everything about the data comes from the datamodule's `spec()` and stays in the checkpoint.

    Args:
        max_images: stop once this many real images were shown (Trainer.max_steps would count each optimizer's steps).
        channel_base, channel_max: width, see nets.stylegan2.StyleGAN2Generator.
        z_dim, w_dim, mapping_depth: of the mapping network.
        mask_encoding: onehot or scalar, see gan.encoding.
        lr: of both Adam optimizers (betas 0 and 0.99), before the correction for lazy regularisation.
        r1_gamma, r1_every: weight and interval in steps of R1. It is computed at the augmented images, where the
            discriminator works, so that no second derivative of the resampling is needed.
        path_weight, path_every: weight and interval of path length regularisation, on half a batch; weight 0 is off.
        style_mixing: probability that an image takes its styles from two latents.
        ema_half_life_images: of the averaged generator that samples; at most ema_rampup times the images shown.
        ada_target, ada_speed_images, ada_fixed: see gan.augment.AdaptiveProbability.
        augment: strengths that differ from gan.augment.Augment's, e.g. {"flip": 1}.
        label_dropout: share of images that train with labels and attributes made unknown, see `forget`: without it, a
            condition that leaves a label open is one that a generator of fully labelled data never saw.
    """

    def __init__(self, max_images: int = 5_000_000, channel_base: int = 16384, channel_max: int = 512, z_dim: int = 512,
                 w_dim: int = 512, mapping_depth: int = 8, mask_encoding: MaskEncoding = "onehot", lr: float = 0.0025,
                 r1_gamma: float = 1.0, r1_every: int = 16, path_weight: float = 2.0, path_every: int = 4,
                 style_mixing: float = 0.9, ema_half_life_images: float = 10_000, ema_rampup: float = 0.05,
                 ada_target: float = 0.6, ada_speed_images: float = 500_000, ada_fixed: float | None = None,
                 augment: dict[str, float] | None = None, label_dropout: float = 0.1):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.spec: dict[str, Any] | None = None
        self.ada = AdaptiveProbability(ada_target, ada_speed_images, ada_fixed)
        self.images_seen, self.steps_done = 0, 0

    # ---- building: nets exist once the data is known, from the datamodule or from the checkpoint

    def build(self, spec: dict[str, Any]) -> None:
        """Make the nets for a datamodule's spec(): size, channels, classes, layers, attributes.

        Raises:
            InputError: nets of another spec, or of other training images and subjects, exist already.
        """
        names = ("size", "channels", "classes", "layers", "attributes")
        if self.spec is not None:
            for k in names:
                if self.spec[k] != spec[k]:
                    raise InputError(f"checkpoint: {k}", str(self.spec[k]), f"{spec[k]}, as data gives it",
                                     "continue with the dataset and size that it was trained on")
            check_same_training(self.spec, spec)
            return
        h, p = self.hparams, spec
        self.structures = [len(s) for s in p["layers"].values()]
        per_layer = [s + 1 if h.mask_encoding == "onehot" else 1 for s in self.structures]
        channels = len(p["channels"]) + sum(per_layer)
        c_dim = 2 * len(p["classes"]) + sum(len(v) for v in p["attributes"].values())
        width = {"channel_base": h.channel_base, "channel_max": h.channel_max, "mapping_depth": h.mapping_depth}
        make = lambda: StyleGAN2Generator(p["size"], channels, c_dim, h.z_dim, h.w_dim, **width)  # noqa: E731
        self.generator, self.generator_ema = make(), make().requires_grad_(False).eval()
        self.generator_ema.load_state_dict(self.generator.state_dict())
        self.discriminator = StyleGAN2Discriminator(p["size"], channels, c_dim, **width)
        for net in (self.generator, self.generator_ema, self.discriminator):
            net.to(memory_format=torch.channels_last)  # on a CPU the convolutions then take half the time
        self.augment = Augment(len(p["channels"]), **(h.augment or {}))
        self.register_buffer("path_mean", torch.zeros(()))
        self.spec = {k: spec[k] for k in spec}

    def setup(self, stage: str) -> None:
        """Build the nets from the datamodule before the optimizers ask for them."""
        source = getattr(self.trainer, "datamodule", None)
        if source is None or not hasattr(source, "spec"):
            raise InputError("data", type(source).__name__, "a datamodule with spec()",
                             "train with data: synthrad.datamodules.generation.GenerationDataModule")
        self.build(source.spec())

    def on_fit_start(self) -> None:
        """A fit that had reached max_images stays as it is when it is run again."""
        if self.images_seen >= self.hparams.max_images:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a sampler and a resumed run need, in plain types (weights_only)."""
        checkpoint["synthrad"] = {"class": f"{type(self).__module__}.{type(self).__qualname__}", "spec": self.spec,
                                  "images_seen": self.images_seen, "steps_done": self.steps_done, "ada": self.ada.state_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the nets before Lightning loads their weights; continue the counters."""
        if "synthrad" not in checkpoint:
            raise InputError("checkpoint", "no `synthrad` entry", "a checkpoint of a synthrad generator", "give its last.ckpt")
        state = checkpoint["synthrad"]
        self.build(state["spec"])
        self.images_seen, self.steps_done = state["images_seen"], state["steps_done"]
        self.ada.load_state_dict(state["ada"])

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for generator and discriminator, corrected for lazy regularisation (section 3.1)."""

        def adam(net: nn.Module, every: int) -> torch.optim.Adam:
            c = every / (every + 1) if every else 1.0
            return torch.optim.Adam(net.parameters(), lr=self.hparams.lr * c, betas=(0.0, 0.99**c), eps=1e-8)

        h = self.hparams
        return [adam(self.generator, h.path_every if h.path_weight else 0),
                adam(self.discriminator, h.r1_every if h.r1_gamma else 0)]

    # ---- training

    def training_step(self, batch: Case, batch_idx: int) -> None:
        """One generator step and one discriminator step, each with its lazy regularisation."""
        real = torch.cat([batch.image, encode_masks(batch.masks, self.structures, self.hparams.mask_encoding)], 1)
        known = ~torch.isnan(batch.labels)
        c = torch.cat([torch.nan_to_num(batch.labels), known.float(), batch.attributes], 1).float()
        values = [len(v) for v in self.spec["attributes"].values()]
        c = forget(c, len(self.spec["classes"]), [n for n in values if n], self.hparams.label_dropout)
        h, (opt_g, opt_d) = self.hparams, self.optimizers()
        self._turn(generator=True)
        self._step(opt_g, generator_loss(self._judge(self._draw(c)[0], c)), "loss_g")
        if h.path_weight and self.steps_done % h.path_every == 0:
            images, ws = self._draw(c[: max(1, len(c) // 2)], styles_grad=True)
            penalty, mean = path_penalty(path_lengths(images, ws), self.path_mean)
            self.path_mean.copy_(mean)
            # + 0 * images: DDP wants every parameter in the graph
            self._step(opt_g, penalty * h.path_weight * h.path_every + 0 * images.sum(), "loss_path")
        self._turn(generator=False)
        with torch.no_grad():
            fake = self._draw(c)[0]
        logits = self._judge(real, c)
        self._step(opt_d, discriminator_loss(logits, self._judge(fake, c)), "loss_d")
        if h.r1_gamma and self.steps_done % h.r1_every == 0:
            seen = self.augment(real, self.ada.p).detach().requires_grad_(True)
            penalty = r1_penalty(self.discriminator(seen, c), seen, h.r1_gamma)
            self._step(opt_d, penalty * h.r1_every, "loss_r1")
        self._count(len(real), logits.detach())

    def _turn(self, generator: bool) -> None:
        """Let gradients reach one of the nets only."""
        self.generator.requires_grad_(generator)
        self.discriminator.requires_grad_(not generator)

    def _draw(self, c: Tensor, styles_grad: bool = False) -> tuple[Tensor, Tensor]:
        """Fake pictures [N, channels, h, w] of random z, and their styles [N, num_ws, w_dim]."""
        g, n = self.generator, len(c)
        w, other = g.mapping(torch.randn(2 * n, g.z_dim, device=c.device), c.repeat(2, 1)).chunk(2)
        with torch.no_grad():
            g.w_mean.lerp_(w.detach().float().mean(0), 0.002)
        cut = torch.randint(1, g.num_ws, (n,), device=c.device)
        mixed = torch.rand(n, device=c.device) < self.hparams.style_mixing
        cut = torch.where(mixed, cut, g.num_ws)
        first = torch.arange(g.num_ws, device=c.device)[None] < cut[:, None]
        ws = torch.where(first[:, :, None], w[:, None], other[:, None])
        if styles_grad and not ws.requires_grad:
            ws.requires_grad_(True)
        images = g.synthesize(ws)
        k = len(self.spec["channels"])
        masks = squash_masks(images[:, k:], self.structures, self.hparams.mask_encoding)
        return torch.cat([images[:, :k], masks], 1), ws

    def _judge(self, pictures: Tensor, c: Tensor) -> Tensor:
        return self.discriminator(self.augment(pictures, self.ada.p), c)

    def _step(self, optimizer: torch.optim.Optimizer, loss: Tensor, name: str) -> None:
        """Backward and step, unless the loss is not a number: weights stay as they were."""
        if not torch.isfinite(loss):
            raise RunError(f"{name} is {loss.item()} after {self.images_seen:,} images; the weights were not updated. "
                           "Repair: resume from the last checkpoint with a lower model.lr or a higher model.r1_gamma.")
        optimizer.zero_grad(set_to_none=True)
        self.manual_backward(loss)
        optimizer.step()
        self.log(name, loss.detach(), prog_bar=name in ("loss_g", "loss_d"))

    def _count(self, batch_images: int, real_logits: Tensor) -> None:
        """Average, adapt p, count images, and stop at max_images."""
        h, total = self.hparams, batch_images * self.trainer.world_size
        sign = self.trainer.strategy.reduce(real_logits.sign().mean(), reduce_op="mean")
        self.ada.update(float(sign), total)
        self.images_seen += total
        self.steps_done += 1
        half_life = min(h.ema_half_life_images, max(self.images_seen * h.ema_rampup, 1.0))
        update_average(self.generator_ema, self.generator, half_life_decay(total, half_life))
        self.log_dict({"ada_p": self.ada.p, "ada_r_t": self.ada.r_t})
        self.log("images", float(self.images_seen), prog_bar=True)
        if self.images_seen >= h.max_images:
            self.trainer.should_stop = True

    # ---- sampling

    @torch.no_grad()
    def sample(self, condition: Condition, seeds: Sequence[int], truncation: float = 1.0) -> Images:
        """Draw len(seeds) pictures with the averaged generator; all noise of image k comes from seeds[k] alone.

        Args:
            condition: labels and attributes; what is missing is unknown.
            truncation: 1 = as trained; less = closer to the mean picture.

        Returns:
            image [n, C, h, w] clipped to [-1, 1], masks int64 [n, L, h, w].
        """
        if self.spec is None:
            raise InputError("generator", "no nets", "a trained generator", "load it from its checkpoint")
        net = self.generator_ema
        c = encode_condition(condition, len(seeds), self.spec["classes"], self.spec["attributes"])
        zs, noises = [], []
        for seed in seeds:
            source = np.random.Generator(np.random.PCG64(int(seed)))  # torch's generator on a CPU keeps 32 bits of a seed
            draw = lambda *shape: torch.from_numpy(source.standard_normal(shape, dtype=np.float32))  # noqa: B023, E731
            zs.append(draw(1, net.z_dim))
            noises.append([draw(1, 1, *shape) for shape in net.noise_shapes])
        noise = [torch.cat(maps).to(self.device) for maps in zip(*noises, strict=True)]
        out = net(torch.cat(zs).to(self.device), c.to(self.device), truncation, noise).float()
        k = len(self.spec["channels"])
        return Images(out[:, :k].clamp(-1, 1), decode_masks(out[:, k:], self.structures, self.hparams.mask_encoding))

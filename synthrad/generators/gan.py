"""StyleGAN2 with adaptive augmentation that draws an image with its mask layers, or from them (`masks: given`).

A real picture enters the discriminator as [image channels, mask channels], all in [-1, 1]; nets.encoding says how a mask
becomes channels (`onehot` or `scalar`). Image and `scalar` channels leave the generator linear, as images do in the
paper; `onehot` channels pass a softmax, because a linear output never reaches the hard edges of a real mask and the
discriminator would tell the two apart by that alone. A given mask modulates the synthesis and stands beside its fake
in the discriminator, which so judges whether the two belong together; fakes are drawn from the masks of the batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from synthrad.cases import Case
from synthrad.conditioning import Condition, Images
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.gan.augment import SMALLEST_FILTERED, AdaptiveProbability
from synthrad.gan.losses import (
    both,
    fake_loss,
    generator_loss,
    path_lengths,
    path_penalty,
    r1_penalty,
    real_loss,
)
from synthrad.gan.settings import Auto, Settings, condition_share, lazy_adam, settle
from synthrad.gan.styles import Centres, Latents, draw_cuts, mix_styles, parts
from synthrad.generators import guards, preflight
from synthrad.generators.conditional import ConditionalGenerator, noise_of
from synthrad.generators.finetuning import Start, frozen_parts, start_from
from synthrad.generators.ranks import check_wrapping, mean_of_ranks, seed_apart
from synthrad.nets.encoding import (
    MaskEncoding,
    decode_masks,
    squash_masks,
)
from synthrad.nets.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator


class StyleGAN2(ConditionalGenerator):
    """A conditional StyleGAN2-ADA. Everything about the data comes from the datamodule's `spec()` and stays in the checkpoint.

    Args:
        max_images: stop once this many real images were shown (Trainer.max_steps would count each optimizer's steps).
        channel_base, channel_max: width, see nets.stylegan2.StyleGAN2Generator.
        z_dim, w_dim, mapping_depth: of the mapping network.
        masks: draw = as channels beside the image; given = the image is drawn from a mask (a source that needs masks).
        mask_encoding: onehot or scalar, see nets.encoding.
        mask_scale: factor of the mask channels before the discriminator. At 1, the hard edges of a mask outweigh a picture whose
            grey levels differ by little: the discriminator looks at masks alone, and R1 hardly holds it back.
        lr: of both Adam optimizers (betas 0 and 0.99), before the correction for lazy regularisation. For lr, r1_gamma and
            ema_half_life_images, "auto" derives the number from size and batch, see gan.settings.settle; it is printed.
        r1_gamma, r1_every: weight and interval in steps of R1. It is computed at the augmented images, where the
            discriminator works, so that no second derivative of the resampling is needed.
        path_weight, path_every: weight and interval of path length regularisation, on half a batch; weight 0 is off.
        noise: per-pixel noise after each convolution, as in the paper. A narrow net of few steps draws grain with it.
        style_mixing: probability that an image takes its styles from two latents.
        ema_half_life_images: of the averaged generator that samples; at most ema_rampup times the images shown (init_from: no ramp).
        ada_target, ada_speed_images, ada_fixed: see gan.augment.AdaptiveProbability.
        augment: strengths that differ from gan.augment.Augment's, e.g. {"flip": 1}.
        label_dropout: share of images that train with labels and attributes made unknown, see `forget`: without it, a
            condition that leaves a label open is one that a generator of fully labelled data never saw.
        condition_ramp: [a, b], null = none: train without conditions for a images, and let them count more and more until b
            images; a second logit judges pictures alone, to the end. On small datasets a discriminator that sees conditions
            soon knows each training image by its own, and the generator repeats few pictures (Shahbazi et al. 2022,
            "Collapse by conditioning", section 3; R1 is of the sum of both logits, so that neither is free of it).
        accumulate: parts that a batch is worked through in, for less memory; gradients are added up before each step. The
            result is that of 1 (but for the order of augmentation draws) if a part holds a multiple of 4 images: the
            discriminator compares images of one part only, in groups of 4. On several processes it compares those of
            one process, so that N processes of batch B group other images than one process of batch N B.
        init_from: checkpoint of a StyleGAN2 of the same size and width to start from, of another dataset perhaps, see
            generators.finetuning; what it was trained on becomes part of this generator's lineage.
        freeze_d: with init_from, blocks of the discriminator that stay as they are, from the highest resolution down.
        compile: torch.compile the nets for the main steps (minutes at the start; it needs a C++ compiler or a GPU). R1 and
            path length take second derivatives, which it does not have, and stay as they are; so do checkpoints.
    """

    shown = ("loss_g", "loss_d")

    @property
    def conditioned(self) -> bool:
        """Whether what is asked for counts in full: a checkpoint from before the end of its ramp draws labels without meaning."""
        return condition_share(self.images_seen, self.hparams.condition_ramp) == 1

    def __init__(self, max_images: int = 5_000_000, channel_base: int = 16384, channel_max: int = 512, z_dim: int = 512,
                 w_dim: int = 512, mapping_depth: int = 8, masks: Literal["draw", "given"] = "draw",
                 mask_encoding: MaskEncoding = "onehot", mask_scale: float = 1.0, lr: float | Auto = 0.0025,
                 r1_gamma: float | Auto = 1.0, r1_every: int = 16, path_weight: float = 2.0, path_every: int = 4,
                 noise: bool = True, style_mixing: float = 0.9, ema_half_life_images: float | Auto = 10_000, ema_rampup: float = 0.05,
                 ada_target: float = 0.6, ada_speed_images: float = 500_000, ada_fixed: float | None = None,
                 augment: dict[str, float] | None = None, label_dropout: float = 0.1,
                 condition_ramp: tuple[int, int] | None = None, accumulate: int = 1, init_from: str | None = None, freeze_d: int = 0, compile: bool = False):
        super().__init__()
        self.save_hyperparameters()
        self.settings: Settings | None = None
        self.start: Start | None = None
        self._frozen: list[nn.Module] = []
        self._main: dict[str, Callable[..., Tensor]] = {}  # nets of the main steps; a dict, so that they are no submodules
        self._styles_seen: list[tuple[Tensor, int]] = []
        self._centres = Centres()
        self.ada = AdaptiveProbability(ada_target, ada_speed_images, ada_fixed)
        self.steps_done = 0
        self._told_share = False
        self._lazy: dict[str, Tensor] = {}  # what lazy regularisation measured last, as it is logged

    def make_nets(self, spec: dict[str, Any], picture_channels: int, given_channels: int, c_dim: int) -> None:
        """Generator, its average, and discriminator."""
        h = self.hparams
        if h.condition_ramp and not c_dim:
            raise InputError("model.condition_ramp", str(list(h.condition_ramp)), "null: the data has no labels and no attributes",
                             "leave it out, or let data.classes or data.attributes name some")
        if h.channel_base < (shorter := min(spec["size"])):
            raise InputError("model.channel_base", str(h.channel_base), f"at least {shorter}, the shorter side: a resolution of r pixels has "
                             "channel_base / r feature maps", "16384 for the paper's net at 256 pixels, 1024 for a narrow one")
        if (h.augment or {}).get("filter") and shorter < SMALLEST_FILTERED:
            raise InputError("model.augment.filter", f"{h.augment['filter']} for pictures of {shorter} pixels", f"0 below {SMALLEST_FILTERED} "
                             "pixels: its octave bands do not fit", "leave it out")
        width = {"channel_base": h.channel_base, "channel_max": h.channel_max, "mapping_depth": h.mapping_depth}
        make = lambda: StyleGAN2Generator(spec["size"], picture_channels - given_channels, c_dim, h.z_dim, h.w_dim,  # noqa: E731
                                          mask_channels=given_channels, noise=h.noise, **width)
        self.generator, self.generator_ema = make(), make().requires_grad_(False).eval()
        self.generator_ema.load_state_dict(self.generator.state_dict())
        self.discriminator = StyleGAN2Discriminator(spec["size"], picture_channels, c_dim, free=bool(h.condition_ramp), **width)
        for net in (self.generator, self.generator_ema, self.discriminator):
            net.to(memory_format=torch.channels_last)  # on a CPU the convolutions then take half the time
        self.augment = preflight.make_augment(len(spec["channels"]), h.augment)
        self.register_buffer("path_mean", torch.zeros(()))
        self._share_condition()

    def _share_condition(self) -> float:
        """Let conditions count as much as they are to after the images seen so far."""
        share = condition_share(self.images_seen, self.hparams.condition_ramp)
        self.generator.mapping.share = self.generator_ema.mapping.share = share
        return share

    def prepare_fit(self, batch_size: int) -> None:
        """Derive what depends on the sizes."""
        h, batch = self.hparams, batch_size * self.trainer.world_size
        self.settings = settle(self.spec["size"], batch, h.lr, h.r1_gamma, h.ema_half_life_images)

    def on_fit_start(self) -> None:
        """Start from another generator's weights where one is named; say what was derived and what was kept."""
        check_wrapping(self.trainer.strategy.model)
        if self.hparams.init_from and not self.steps_done:  # a resumed fit has its own weights by now
            self.start, lineage = start_from(self, self.hparams.init_from)
            info = DatasetInfo.from_dict(self.spec["info"], "data")
            self.spec["info"] = replace(info, lineage=info.lineage + lineage).to_dict()
        if self.hparams.compile:
            preflight.check_compiler(self.device)
        made = torch.compile if self.hparams.compile else lambda net: net
        self._main = {"synthesize": made(self.generator.synthesize), "judge": made(self.discriminator)}
        self._frozen = frozen_parts(self.discriminator, self.hparams.freeze_d, self.start is not None and self.start.whole_input)
        if self.trainer.is_global_zero:
            print(f"StyleGAN2: {self.settings.batch_images} images a step; {self.settings}", flush=True)
        self.stop_when_done()

    def on_train_start(self) -> None:
        """Let processes draw different pictures; a resumed fit gets its random state back after this."""
        seed_apart(self.trainer.global_rank)

    def state(self) -> dict[str, Any]:
        """Counters, the start and what is logged between two lazy regularisations, for a resumed fit."""
        return {"steps_done": self.steps_done, "ada": self.ada.state_dict(), "start": self.start and asdict(self.start),
                "lazy": {k: float(v) for k, v in self._lazy.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue the counters."""
        self.start = Start(**state["start"]) if state.get("start") else None
        self.steps_done = state["steps_done"]
        self._share_condition()
        self.ada.load_state_dict(state["ada"])
        self._lazy = {k: torch.tensor(v) for k, v in state.get("lazy", {}).items()}

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for generator and discriminator, corrected for lazy regularisation."""
        h, made = self.hparams, self.settings
        return [lazy_adam(self.generator.parameters(), made.lr, h.path_every if h.path_weight else 0),
                lazy_adam(self.discriminator.parameters(), made.lr, h.r1_every if made.r1_gamma else 0)]

    # ---- training

    def training_step(self, batch: Case, batch_idx: int) -> None:
        """One generator step and one discriminator step, each with its lazy regularisation."""
        guards.check_batch(batch.image, batch.attributes, self.images_seen)
        real, c = self.encode(batch)
        h, (opt_g, opt_d) = self.hparams, self.optimizers()
        self._turn(generator=True)
        latents = self._latents(len(c))
        self.step(opt_g, "loss_g", len(c), lambda p: self._loss(generator_loss, self._draw(latents.part(p), c[p], real[p])[0], c[p])[0])
        if h.path_weight and self.steps_done % h.path_every == 0:
            half = max(1, len(c) // 2)
            self._regularise_paths(opt_g, c[:half], real[:half])
        self._turn(generator=False)
        logits = self._teach(opt_d, real, c)
        if self.settings.r1_gamma and self.steps_done % h.r1_every == 0:
            self._regularise_gradient(opt_d, real, c)
        self._count(len(real), logits)

    def _turn(self, generator: bool) -> None:
        """Let gradients reach one of the nets only."""
        self.generator.requires_grad_(generator)
        self.discriminator.requires_grad_(not generator)
        for part in self._frozen:
            part.requires_grad_(False)

    def _latents(self, n: int) -> Latents:
        """What is random in n fake pictures, drawn for the whole batch before it is worked through in parts."""
        g = self.generator
        z = torch.randn(2 * n, g.z_dim, device=self.device).unflatten(0, (2, n))
        return Latents(z, draw_cuts(n, g.num_ws, self.hparams.style_mixing, self.device), g.draw_noise(n, self.device))

    def _directions(self, n: int, shape: Sequence[int]) -> Tensor:
        """Random pictures [n, *shape] that path lengths are measured along."""
        return torch.randn(n, *shape, device=self.device)

    def _draw(self, latents: Latents, c: Tensor, real: Tensor, styles_grad: bool = False) -> tuple[Tensor, Tensor]:
        """Fake pictures [N, channels, h, w], with the masks of `real` where masks are given; and their styles [N, num_ws, w_dim]."""
        g = self.generator
        w, other = g.mapping(latents.z.flatten(0, 1), c.repeat(2, 1)).chunk(2)
        self._styles_seen.append((w.detach().mean(0), len(c)))
        ws = mix_styles(w, other, latents.cuts, g.num_ws)
        if styles_grad and not ws.requires_grad:
            ws.requires_grad_(True)
        k = len(self.spec["channels"])
        synthesize = g.synthesize if styles_grad else self._main["synthesize"]
        if self.wants_masks:
            return torch.cat([synthesize(ws, latents.noise, real[:, k:]), real[:, k:]], 1), ws
        images = synthesize(ws, latents.noise)
        masks = squash_masks(images[:, k:], self.structures, self.hparams.mask_encoding)
        return torch.cat([images[:, :k], masks], 1), ws

    def _seen(self, pictures: Tensor) -> Tensor:
        """Pictures as the discriminator gets them: mask channels scaled, all augmented."""
        k, scale = len(self.spec["channels"]), self.hparams.mask_scale
        scaled = pictures if scale == 1 else torch.cat([pictures[:, :k], pictures[:, k:] * scale], 1)
        return self.augment(scaled, self.ada.p)

    def _loss(self, loss: Callable[[Tensor], Tensor], pictures: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """A loss of augmented pictures, and their logits."""
        logits = self._main["judge"](self._seen(pictures), c)
        return both(loss, logits, self.generator.mapping.share), logits.detach()

    def _regularise_paths(self, optimizer: torch.optim.Optimizer, c: Tensor, real: Tensor) -> None:
        """A step on the path length penalty. In several parts, the lengths of all are measured first: it needs their mean."""
        h, n, means = self.hparams, len(c), []
        latents, noise = self._latents(n), self._directions(n, real.shape[1:])

        def lengths(p: slice, create_graph: bool) -> tuple[Tensor, Tensor]:
            images, ws = self._draw(latents.part(p), c[p], real[p], styles_grad=True)
            return path_lengths(images, ws, noise[p], create_graph), images

        measured = None
        if len(parts(n, h.accumulate)) > 1:
            measured = mean_of_ranks(torch.cat([lengths(p, False)[0].detach() for p in parts(n, h.accumulate)]).mean())
            self._styles_seen.clear()

        def loss(p: slice) -> Tensor:
            here, images = lengths(p, True)
            whole = mean_of_ranks(here.detach().mean()) if measured is None else measured
            penalty, mean = path_penalty(here, self.path_mean, batch_mean=whole)
            means.append(mean)
            return penalty * h.path_weight * h.path_every + 0 * images.sum()  # every parameter takes part, if with 0

        self.step(optimizer, "loss_path", n, loss)
        self.path_mean.copy_(means[-1])
        self._lazy["path_length"] = self.path_mean.clone()

    def _teach(self, optimizer: torch.optim.Optimizer, real: Tensor, c: Tensor) -> Tensor:
        """A discriminator step; returns its logits of the real pictures [N]."""
        latents, logits, made = self._latents(len(c)), [], []

        def fakes(p: slice) -> Tensor:
            with torch.no_grad():
                fake = self._draw(latents.part(p), c[p], real[p])[0]
            loss, judged = self._loss(fake_loss, fake, c[p])
            made.append(judged if judged.ndim == 1 else judged[:, 0])
            return loss

        def reals(p: slice) -> Tensor:
            loss, judged = self._loss(real_loss, real[p], c[p])
            logits.append(judged if judged.ndim == 1 else judged[:, 0])
            return loss

        self.step(optimizer, "loss_d", len(c), fakes, reals)  # one after the other: half the memory
        self.log("sign_fake", mean_of_ranks(torch.cat(made).sign().float().mean()))
        return torch.cat(logits)

    def _regularise_gradient(self, optimizer: torch.optim.Optimizer, real: Tensor, c: Tensor) -> None:
        """A step on R1."""

        def loss(p: slice) -> Tensor:
            seen = self._seen(real[p]).detach().requires_grad_(True)
            logits = both(lambda x: x, self.discriminator(seen, c[p]), self.generator.mapping.share)
            return r1_penalty(logits, seen, self.settings.r1_gamma) * self.hparams.r1_every

        self.step(optimizer, "loss_r1", len(c), loss)

    def step(self, optimizer: torch.optim.Optimizer, name: str, n: int, *losses: Callable[[slice], Tensor]) -> None:
        """A step; the styles that were drawn for it enter their running mean."""
        super().step(optimizer, name, n, *losses)
        self._track_styles()

    def note(self, name: str, total: Tensor) -> None:
        """Log the loss of a step; a lazy one is kept, as what it penalises, and logged with every step."""
        lazy = {"loss_r1": ("r1", self.hparams.r1_every), "loss_path": ("path_penalty", self.hparams.path_every * self.hparams.path_weight)}
        if name in lazy:
            title, factor = lazy[name]
            self._lazy[title] = total / factor
        else:
            super().note(name, total)

    def _track_styles(self) -> None:
        """Take the styles of the pictures drawn for a step into their running mean."""
        if self._styles_seen:
            images = sum(n for _, n in self._styles_seen)
            mean = mean_of_ranks(sum(w * (n / images) for w, n in self._styles_seen))
            self.generator.w_mean.lerp_(mean.to(self.generator.w_mean.dtype), 0.002)
            self._styles_seen.clear()

    def _count(self, batch_images: int, real_logits: Tensor) -> None:
        """Average, adapt p, count images, and stop at max_images."""
        total = batch_images * self.trainer.world_size
        self.ada.update(float(mean_of_ranks(real_logits.sign().float().mean())), total)
        self.steps_done += 1
        half_life = self.settings.ema_half_life_images
        if self.start is None:  # the average that a fine-tuning starts from is a good one
            half_life = self.ramped(batch_images, half_life)
        self.log_dict({"ada_p": self.ada.p, "ada_r_t": self.ada.r_t, **self._lazy})
        self.count(batch_images, self.generator, self.generator_ema, half_life)
        share = self._share_condition()
        if self.hparams.condition_ramp:
            self.log("condition_share", share)

    # ---- sampling

    @torch.no_grad()
    def sample(self, condition: Condition, seeds: Sequence[int], truncation: float = 1.0) -> Images:
        """Draw len(seeds) pictures with the averaged generator; all noise of image k comes from seeds[k] alone.

        Args:
            condition: labels and attributes; what is missing is unknown. Masks [n, L, h, w], if they are given.
            truncation: 1 = as trained; less = closer to the mean picture of the image's own condition.

        Returns:
            image [n, C, h, w] clipped to [-1, 1], masks int64 [n, L, h, w].
        """
        net, (c, masks) = self.generator_ema, self.asked(condition, len(seeds))
        if net.mapping.share < 1 and not self._told_share and not self.training:
            self._told_share = True
            warnings.warn(f"StyleGAN2: after {self.images_seen:,} images conditions count {net.mapping.share:.0%} (model.condition_ramp "
                          f"{list(self.hparams.condition_ramp)}): samples hardly show what is asked for", stacklevel=2)
        zs, noises = [], []
        for draw in map(noise_of, seeds):
            zs.append(draw(1, net.z_dim))
            noises.append([draw(1, 1, *shape) for shape in net.noise_shapes])
        noise = [torch.cat(maps).to(self.device) for maps in zip(*noises, strict=True)]
        w = net.mapping(torch.cat(zs).to(self.device), c)
        if truncation != 1:
            w = torch.lerp(self._centres.of(net.mapping, net.z_dim, c), w, truncation) if net.c_dim else net.truncate(w, truncation)
        out = net.synthesize(w[:, None].expand(-1, net.num_ws, -1), noise, masks).float()
        k = len(self.spec["channels"])
        if self.wants_masks:
            return Images(out.clamp(-1, 1), condition.masks)
        return Images(out[:, :k].clamp(-1, 1), decode_masks(out[:, k:], self.structures, self.hparams.mask_encoding))

"""Autoencoder: pictures to small latent pictures and back, for latent diffusion; and, from its prior, the weakest generator.

A picture is [image channels, mask channels] or the image channels alone (`masks: none`), in [-1, 1]; nets.encoding says how a
mask becomes channels. The loss is L1, a perceptual distance, a patch discriminator's opinion and the cost of the bottleneck
(Rombach et al. 2022, section 3.1 and appendix G). What it draws from its prior follows no condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn

from synthrad.cases import Case
from synthrad.conditioning import Condition, Images
from synthrad.dataset_info import DatasetInfo
from synthrad.errors import InputError
from synthrad.files import file_digest
from synthrad.generators import guards
from synthrad.generators.attention import Flash, keep_attention, settle_attention
from synthrad.generators.conditional import ConditionalGenerator, noises_of
from synthrad.generators.ranks import check_wrapping, mean_of_ranks, seed_apart
from synthrad.lineage import Fitted, Lineage, hash_values, project_key
from synthrad.nets.autoencoder import Bottleneck, ImageAutoencoder
from synthrad.nets.encoding import MaskEncoding, decode_masks
from synthrad.nets.loading import locate
from synthrad.nets.losses import at_least_float
from synthrad.nets.perceptual import PerceptualDistance, feature_distance

MEMORY = 0.01  # share of the newest batch in the running moments of the latents


class Autoencoder(ConditionalGenerator):
    """An autoencoder. Everything about the data comes from the datamodule's `spec()` and stays in the checkpoint.

    Args:
        max_images: stop once this many real images were shown.
        channels, latent_channels, res_blocks, attention, bottleneck, codes, recompute: see nets.autoencoder.ImageAutoencoder.
        flash: as Diffusion has it: auto = the faster attention, measured at the start of the fit.
        masks: draw = mask channels are encoded with the image; none = the image alone, masks only judge it (callbacks.reconstruction).
        mask_encoding: onehot or scalar, see nets.encoding.
        bottleneck_weight: of the KL divergence, summed over the latents and divided by the numbers of a picture, or of the
            commitment to the codebook (MONAI has the factor 0.25 of van den Oord et al. 2017 in it). auto = 1e-6, that of latent
            diffusion, and 1 for a codebook; for a generator that is drawn from its prior take 1e-2 or more.
        perceptual: discriminator = features of the patch discriminator, which needs no weights from elsewhere; a file of
            weights of `perceptual_arch` (timm); null = none.
        perceptual_linear: with a file of weights: LPIPS' weights of its channels, see nets.perceptual. null = all alike.
        perceptual_weight: of that distance.
        adversarial_weight: of the patch discriminator's opinion (Isola et al. 2017; least squares, Mao et al. 2017); 0 = none.
        adversarial_from: images shown before it joins: first the picture must be about right.
        lr: of both Adam optimizers.
        ema_half_life_images: of the averaged net that encodes, decodes and samples; at most ema_rampup times the images shown.
        accumulate: parts that a batch is worked through in, for less memory. A codebook is then averaged part by part.
    """

    shown = ("loss", "loss_d")
    follows_conditions = False

    def __init__(self, max_images: int = 1_000_000, channels: Sequence[int] = (64, 128, 256), latent_channels: int = 4,
                 res_blocks: int = 2, attention: bool = True, bottleneck: Bottleneck = "kl", codes: int = 1024, flash: Flash = "auto",
                 recompute: bool = False, masks: Literal["draw", "none"] = "draw", mask_encoding: MaskEncoding = "onehot", bottleneck_weight: float | Literal["auto"] = "auto",
                 perceptual: str | None = "discriminator", perceptual_arch: str = "vgg16", perceptual_linear: str | None = None, perceptual_weight: float = 0.3,
                 adversarial_weight: float = 0.05, adversarial_from: int = 20_000, lr: float = 1e-4,
                 ema_half_life_images: float = 10_000, ema_rampup: float = 0.05, accumulate: int = 1):
        super().__init__()
        self.save_hyperparameters()
        self.steps_done = 0
        self._restored = False  # made from a checkpoint, which holds all weights
        self._channel_weights = 0  # of the perceptual distance there: layers

    # ---- building

    @property
    def wants_masks(self) -> bool:
        """It draws them, or none at all."""
        return False

    def build(self, spec: dict[str, Any]) -> None:
        """Make the nets; labels and attributes are noted as never taught, so that nothing is asked for and ignored in silence."""
        rare = dict(spec.get("rare", {}))  # values that the data knows and this does not
        for name, values in spec["attributes"].items():
            rare[name] = sorted({*rare.get(name, []), *hash_values(spec["info"]["id"], name, values, project_key())})
        super().build({**spec, "untaught": list(spec["classes"]), "attributes": {}, "rates": None, "rare": rare})

    def make_nets(self, spec: dict[str, Any], picture_channels: int, given_channels: int, c_dim: int) -> None:
        """The autoencoder, its average, and the discriminator."""
        h, image = self.hparams, len(spec["channels"])
        self.picture_channels = picture_channels if h.masks == "draw" else image
        make = lambda: ImageAutoencoder(spec["size"], self.picture_channels, h.latent_channels, h.channels, h.res_blocks,  # noqa: E731
                                        h.attention, h.bottleneck, h.codes, bool(h.flash), h.recompute)
        self.net, self.net_ema = make(), make().requires_grad_(False).eval()
        self.net_ema.load_state_dict(self.net.state_dict())
        layers = max(1, min(3, min(spec["size"]).bit_length() - 4))  # 3 from 64 px on, as published; less where its map would vanish
        self.discriminator = PatchDiscriminator(2, 64, self.picture_channels, num_layers_d=layers,
                                                norm="INSTANCE") if h.adversarial_weight else None
        own = h.perceptual not in (None, "discriminator")
        if h.perceptual_linear and not own:
            raise InputError("model.perceptual_linear", f"a file with model.perceptual {h.perceptual}", "a file of weights there, too",
                             "set model.perceptual to the net's weights, or model.perceptual_linear to null")
        self.distance = PerceptualDistance(None if self._restored else h.perceptual, h.perceptual_arch, image,
                                           self._channel_weights if self._restored else h.perceptual_linear) if own else None
        if own and not self._restored:  # nobody says what these weights have seen
            info = DatasetInfo.from_dict(dict(spec["info"]), "data")
            files = {"model.perceptual": h.perceptual} | ({"model.perceptual_linear": h.perceptual_linear} if h.perceptual_linear else {})
            fitted = tuple(Fitted("weights", file_digest(locate(path, key)), "unknown", notes="perceptual distance") for key, path in files.items())
            spec["info"] = replace(info, lineage=info.lineage + Lineage(fitted)).to_dict()
        for net in (self.net, self.net_ema):
            net.to(memory_format=torch.channels_last)
        self.register_buffer("latent_moments", torch.zeros(2))  # mean and mean square

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the nets without files of weights: theirs are in the checkpoint."""
        self._restored = self.spec is None
        self._channel_weights = sum(k.startswith("distance.linear.") for k in checkpoint["state_dict"])
        super().on_load_checkpoint(checkpoint)
        keep_attention(self, checkpoint)

    @property
    def attending(self) -> list[nn.Module]:
        """The nets whose attention `flash` decides."""
        return [self.net, self.net_ema]

    def prepare_fit(self, batch_size: int) -> None:
        """Refuse weights that cannot be meant."""
        h = self.hparams
        for name in ("bottleneck_weight", "perceptual_weight", "adversarial_weight", "adversarial_from"):
            if h[name] != "auto" and not h[name] >= 0:
                raise InputError(f"model.{name}", str(h[name]), "a number of at least 0")
        if h.perceptual == "discriminator" and h.perceptual_weight and not h.adversarial_weight:
            raise InputError("model.perceptual", "discriminator with model.adversarial_weight 0, which trains none",
                             "null, or a file of weights", "set model.perceptual to null for L1 alone")

    def on_fit_start(self) -> None:
        """Choose the attention; a finished fit stays as it is when it is run again."""
        settle_attention(self)
        if self.discriminator is not None:
            check_wrapping(self.trainer.strategy.model)
        self.stop_when_done()

    def on_train_start(self) -> None:
        """Let processes draw different noise; a resumed fit gets its random state back after this."""
        seed_apart(self.trainer.global_rank)

    def state(self) -> dict[str, Any]:
        """What latents mean."""
        return {"steps_done": self.steps_done, "bottleneck": self.hparams.bottleneck, "masks": self.hparams.masks}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue the counter; refuse another meaning."""
        for name in ("bottleneck", "masks"):
            if state[name] != self.hparams[name]:
                raise InputError(f"model.{name}", str(self.hparams[name]), f"{state[name]}, with which the checkpoint was trained",
                                 "set it back, or start a training of its own in a new folder")
        self.steps_done = state["steps_done"]

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam for the autoencoder and, where there is one, the discriminator (Rombach et al.: betas 0.5 and 0.9)."""
        nets = [self.net] + ([self.discriminator] if self.discriminator is not None else [])
        return [torch.optim.Adam(net.parameters(), lr=self.hparams.lr, betas=(0.5, 0.9)) for net in nets]

    # ---- training

    def training_step(self, batch: Case, batch_idx: int) -> None:
        """A step of the autoencoder and, once it has joined, one of the discriminator; count and average."""
        guards.check_batch(batch.image, batch.attributes, self.images_seen)
        real = self.pictures(batch)[:, : self.picture_channels]
        noise = torch.randn(len(real), *self.net.latent_shape, device=real.device, dtype=real.dtype)
        optimizers = self.optimizers()
        own, *theirs = optimizers if isinstance(optimizers, list) else [optimizers]
        joined = self.discriminator is not None and self.images_seen >= self.hparams.adversarial_from
        drawn: list[tuple[slice, Tensor]] = []
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
        moments: list[Tensor] = []
        self.step(own, "loss", len(real), lambda p: self._loss(real[p], noise[p], joined, p, drawn, moments))
        if joined:
            self.discriminator.requires_grad_(True)
            made = torch.empty_like(real)
            for p, picture in drawn:
                made[p] = picture.to(made.dtype)
            self.step(theirs[0], "loss_d", len(real), lambda p: _least_squares(self.discriminator(made[p]), 0.0) / 2,
                      lambda p: _least_squares(self.discriminator(real[p]), 1.0) / 2)
        self._count(len(real), torch.stack(moments).mean(0))

    def _loss(self, real: Tensor, noise: Tensor, joined: bool, part: slice, drawn: list[tuple[slice, Tensor]],
              moments: list[Tensor]) -> Tensor:
        """Mean loss of some pictures; what was made of them is kept for the discriminator."""
        h, image = self.hparams, len(self.spec["channels"])
        made, cost, latents = self.net(real, noise)
        made = made.to(real.dtype)
        drawn.append((part, made.detach()))
        flat = at_least_float(latents.detach())
        moments.append(torch.stack([flat.mean(), flat.square().mean()]))
        loss = (made - real).abs().mean()
        loss = loss + self.bottleneck_weight * cost / (real[0].numel() if h.bottleneck == "kl" else 1)
        if self.distance is not None and h.perceptual_weight:
            loss = loss + h.perceptual_weight * self.distance(made[:, :image], real[:, :image])
        if joined:
            *features, opinion = self.discriminator(made)
            loss = loss + h.adversarial_weight * _least_squares([opinion], 1.0)
            if h.perceptual == "discriminator" and h.perceptual_weight:
                loss = loss + h.perceptual_weight * feature_distance(features, self.discriminator(real)[:-1])
        return loss

    def _count(self, batch_images: int, moments: Tensor) -> None:
        """Follow the latents' moments, average, count images, and stop at max_images."""
        self.latent_moments.lerp_(mean_of_ranks(moments).to(self.latent_moments), max(MEMORY, 1 / (self.steps_done + 1)))
        self.steps_done += 1
        self.log("latent_scale", self.latent_scale)
        self.count(batch_images, self.net, self.net_ema, self.ramped(batch_images, self.hparams.ema_half_life_images))

    @property
    def bottleneck_weight(self) -> float:
        """Of the loss."""
        given = self.hparams.bottleneck_weight
        return given if given != "auto" else {"kl": 1e-6, "vq": 1.0}[self.hparams.bottleneck]

    # ---- latents

    @property
    def latent_scale(self) -> Tensor:
        """Factor that gives latents the deviation 1 that a noise schedule expects (Rombach et al. 2022, appendix G)."""
        mean, square = self.latent_moments
        return (square - mean.square()).clamp(min=1e-12).rsqrt()

    @torch.no_grad()
    def to_latents(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [n, channels, h, w] to means and deviations of their scaled latents, [n, latent_channels, h / f, w / f]."""
        mean, deviation = self.net_ema.encode(pictures.to(self.latent_moments))
        return mean * self.latent_scale, deviation * self.latent_scale

    @torch.no_grad()
    def to_pictures(self, latents: Tensor) -> Tensor:
        """Scaled latents to pictures [n, channels, h, w], not clipped."""
        return self.net_ema.decode(latents / self.latent_scale)

    @torch.no_grad()
    def reconstruct(self, batch: Case) -> Images:
        """Real pictures through the means of their latents and back, by the averaged net."""
        pictures = self.pictures(batch)[:, : self.picture_channels].to(self.device)
        return self._images(self.to_pictures(self.to_latents(pictures)[0]))

    def _images(self, out: Tensor) -> Images:
        k = len(self.spec["channels"])
        if self.hparams.masks == "none" or not self.structures:
            return Images(out[:, :k].float().clamp(-1, 1))
        return Images(out[:, :k].float().clamp(-1, 1), decode_masks(out[:, k:], self.structures, self.hparams.mask_encoding))

    # ---- sampling

    @torch.no_grad()
    def sample(self, condition: Condition, seeds: Sequence[int], truncation: float = 1.0) -> Images:
        """Draw len(seeds) pictures from the prior, latents ~ N(0, 1); all noise of image k comes from seeds[k] alone.

        Args:
            condition: what it asks for is not followed; `synthrad sample` blanks it and says so.
            truncation: factor of the latents: less than 1 = closer to the mean picture.

        Returns:
            image [n, C, h, w] clipped to [-1, 1], masks int64 [n, L, h, w] or None.

        Raises:
            InputError: the latents are those of a codebook, which have no prior.
        """
        if self.hparams.bottleneck == "vq":
            raise InputError("generator", "an autoencoder with a codebook, which has no prior", "model.bottleneck kl",
                             "draw from a latent diffusion model that was trained on its latents")
        self.asked(condition, len(seeds))
        dtype = next(self.net_ema.parameters()).dtype
        noise = noises_of(seeds, self.net_ema.latent_shape, self.device)()
        return self._images(self.net_ema.decode(truncation * noise.to(dtype)))


def _least_squares(opinions: list[Tensor], wanted: float) -> Tensor:
    """Mean squared distance of a patch discriminator's last map from what it should say."""
    opinion = at_least_float(opinions[-1])
    return nn.functional.mse_loss(opinion, torch.full_like(opinion, wanted))

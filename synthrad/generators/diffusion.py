"""Diffusion that draws an image with its mask layers, or from them (`masks: given`), on pixels or on an autoencoder's latents.

A picture is [image channels, mask channels], all in [-1, 1]; nets.encoding says how a mask becomes channels. Noise and net
work on all of them together (Akbar et al. 2024 draw brain MR and tumour masks so), and a mask is read back from what the
sampler ends with. Given masks stand beside the noised image as channels without noise. With an autoencoder (latent diffusion,
Rombach et al. 2022) all of this is done on its scaled latents; the autoencoder stays in the checkpoint.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthrad.cases import Case
from synthrad.conditioning import Condition, Images
from synthrad.data.prompts import Prompt
from synthrad.dataset_info import DatasetInfo
from synthrad.diffusion.denoisers import Denoise, clipped, denoiser, guided, inpainting
from synthrad.diffusion.predictions import Prediction, noised_loss, spread_times
from synthrad.diffusion.samplers import Sampler, sample, spacing_of
from synthrad.diffusion.schedules import Kind, NoiseSchedule, times
from synthrad.errors import InputError
from synthrad.generators import guards, preflight
from synthrad.generators.attention import Flash, keep_attention, settle_attention
from synthrad.generators.autoencoder import Autoencoder
from synthrad.generators.conditional import ConditionalGenerator, noises_of
from synthrad.generators.editing import outside_kept, starting_picture
from synthrad.generators.latents import KeptLatents, read_autoencoder, remake
from synthrad.generators.ranks import seed_apart, whole
from synthrad.nets.diffusion_unet import DiffusionUNet
from synthrad.nets.encoding import MaskEncoding, decode_masks
from synthrad.nets.text import FrozenEncoder, WordEncoder


class Diffusion(ConditionalGenerator):
    """A conditional diffusion model. Everything about the data comes from the datamodule's `spec()` and stays in the checkpoint.

    Args:
        max_images: stop once this many real images were shown.
        autoencoder: checkpoint of an Autoencoder of the same size; null = on pixels.
        channels, attention, res_blocks, head_channels, recompute: of the net, see nets.diffusion_unet.DiffusionUNet.
        flash: attention by scaled_dot_product_attention or by the plain product; auto = by the faster one, measured at the start
            of the fit, and as its checkpoint did wherever that is used (generators.attention).
        schedule, shift, zero_terminal_snr: of the noise, see diffusion.schedules.NoiseSchedule; shift "auto" is 64 / the longer
            side of what is noised, at most 1.
        prediction: what the net answers: v, epsilon or x0; velocity with schedule rectified_flow, and with no other.
        min_snr: bound of the weights of the loss, see diffusion.predictions.weight_of; null = none; "auto" = 5, and none for
            a velocity. It is of a picture without shift: neighbouring pixels of a larger one say as much at shift^2 times its SNR.
        times: of training, uniform or logit_normal.
        masks: draw = as channels beside the image; given = the image is drawn from a mask (a source that needs masks).
        mask_encoding: onehot or scalar, see nets.encoding.
        lr: of AdamW, constant after warmup_images.
        ema_half_life_images: of the averaged net that samples; at most ema_rampup times the images shown.
        label_dropout: share of images that train with some labels and attributes made unknown, see nets.encoding.forget.
        drop_rate: share of images that train with none of them: what guidance steers away from.
        prompt_drop_rate: share that trains without its prompt, its labels and attributes kept: so that prompts may be left out.
        accumulate: parts that a batch is worked through in, for less memory.
        text: what reads prompts (data.prompt), whose tokens the net attends to: words = a small transformer over words that is
            trained along; a folder or hub id of a transformers model = that one, frozen, from its own files also at sampling;
            null = no prompts.
        text_length: words or tokens of the longest prompt; null = 32 words, or as many tokens as the model takes.
        text_width: of a token, for words.
        vector: whether the net is told labels and attributes as a vector, too; false = by prompts alone.
        sampler: of `sample`: ddpm, ddim or pndm (even steps), dpm_multistep, unipc or heun (steps even in the logarithm of the noise);
            see diffusion.samplers.
        steps: of the sampler. ddpm and ddim want 100 or more: with 25 even steps, samples differ in brightness by a quarter less
            than the data. guidance: scale, 1 = the condition as learned. guidance_interval: times at which it is applied.
            All four are what `sample` does unless `draw_with` says otherwise.
    """

    shown = ("loss",)
    takes_truncation = False
    starts_from_images = True

    def __init__(self, max_images: int = 5_000_000, autoencoder: str | None = None, channels: Sequence[int] = (128, 256, 256),
                 attention: Sequence[bool] = (False, True, True), res_blocks: int = 2, head_channels: int = 64, flash: Flash = "auto",
                 recompute: bool = False,
                 schedule: Kind = "cosine", shift: float | Literal["auto"] = "auto", zero_terminal_snr: bool = False,
                 prediction: Prediction = "v", min_snr: float | Literal["auto"] | None = "auto", times: Literal["uniform", "logit_normal"] = "uniform",
                 masks: Literal["draw", "given"] = "draw", mask_encoding: MaskEncoding = "onehot", lr: float = 1e-4,
                 warmup_images: int = 10_000, ema_half_life_images: float = 50_000, ema_rampup: float = 0.05,
                 label_dropout: float = 0.1, drop_rate: float = 0.1, prompt_drop_rate: float = 0.0, accumulate: int = 1, sampler: Sampler = "dpm_multistep",
                 text: str | None = None, text_length: int | None = None, text_width: int = 128, vector: bool = True,
                 steps: int = 25, guidance: float = 1.0, guidance_interval: tuple[float, float] = (0.0, 1.0)):
        super().__init__()
        self.save_hyperparameters()
        self.noise_schedule = NoiseSchedule()
        self.autoencoder: Autoencoder | None = None
        self._entry: dict[str, Any] | None = None  # of the autoencoder, as checkpoints keep it
        self._latents: KeptLatents | None = None
        self._reader: Any = None  # of prompts, if it is a frozen one
        self.drawing: dict[str, Any] = {"sampler": sampler, "steps": steps, "guidance": guidance,
                                        "guidance_interval": list(guidance_interval)}

    def draw_with(self, **options: Any) -> None:
        """Change how `sample` draws: sampler, steps, guidance, guidance_interval, each if not None; `drawing` says what holds.

        Raises:
            InputError: a value that cannot be meant, or guidance of a generator that was never without a condition.
        """
        made = {**self.drawing, **{k: v for k, v in options.items() if v is not None}}
        preflight.check_drawing(made, self.undirected, bool(self.net_ema.c_dim or self.hparams.text))
        self.drawing = made

    @property
    def undirected(self) -> float:
        """Share of images that trained without a condition."""
        return self.hparams.drop_rate

    def make_nets(self, spec: dict[str, Any], picture_channels: int, given_channels: int, c_dim: int) -> None:
        """The net and its average."""
        h = self.hparams
        preflight.check_drawing(self.drawing, self.undirected, bool(c_dim or h.text))
        if h.text is not None and "prompt" not in spec:
            raise InputError("model.text", f"{h.text!r}, and no data.prompt", "a template of prompts", 'set data.prompt, such as "{findings}"')
        if h.prompt_drop_rate and "prompt" not in spec:
            raise InputError("model.prompt_drop_rate", f"{h.prompt_drop_rate}, and no data.prompt", "0, or a template of prompts", "set data.prompt and model.text")
        if not h.vector and h.text is None:
            raise InputError("model.vector", "false without model.text", "true, or a reader of prompts", "set model.text to words")
        if (h.prediction == "velocity") != (h.schedule == "rectified_flow") and h.prediction != "x0":
            raise InputError("model.prediction", f"{h.prediction} with schedule {h.schedule}",
                             "velocity (or x0) for a rectified flow; v, epsilon or x0 for the others", "change one of the two")
        if h.prediction == "epsilon" and (h.zero_terminal_snr or h.schedule == "cosine"):
            raise InputError("model.prediction", f"epsilon with schedule {h.schedule}, which ends in noise alone",
                             "v or x0: noise says nothing of a picture that is not in it", "use v, or schedule linear")
        size, drawn = spec["size"], picture_channels - given_channels
        if self._entry is not None:  # of a checkpoint
            self.autoencoder = remake(self._entry)
        elif h.autoencoder is not None:
            self.autoencoder, self._entry, lineage = read_autoencoder(h.autoencoder, spec, h.masks)
            info = DatasetInfo.from_dict(dict(spec["info"]), "data")
            spec["info"] = replace(info, lineage=info.lineage + lineage).to_dict()
        if self.autoencoder is not None:
            drawn, *size = self.autoencoder.net_ema.latent_shape
        shift = min(1.0, 64 / max(size)) if h.shift == "auto" else h.shift
        self.noise_schedule = NoiseSchedule(h.schedule, shift, h.zero_terminal_snr)
        if h.text not in (None, "words"):
            self._reader = FrozenEncoder(h.text, "model.text", h.text_length)

        def make() -> DiffusionUNet:
            words = WordEncoder(spec["vocabulary"], h.text_length or 32, h.text_width) if h.text == "words" else None
            width = getattr(words or self._reader, "width", None)
            return DiffusionUNet(size, drawn + given_channels, drawn, c_dim if h.vector else 0, h.channels, h.attention, h.res_blocks,
                                 h.head_channels, width, bool(h.flash), words, h.recompute)

        self.net, self.net_ema = make(), make().requires_grad_(False).eval()
        self.net_ema.load_state_dict(self.net.state_dict())
        for net in (self.net, self.net_ema):
            net.to(memory_format=torch.channels_last)

    def prepare_fit(self, batch_size: int) -> None:
        """Refuse what would overflow, and prompts that would be cut."""
        if self.hparams.text is not None:
            data = self.trainer.datamodule
            self._check_lengths(data.prompts(range(len(data.train))))
        if self.trainer.precision == "16-mixed" and not self.hparams.flash:
            raise InputError("model.flash", "false with trainer.precision 16-mixed", "true: plain attention multiplies before it "
                             "scales, and overflows in float16", "set model.flash to true, or use bf16-mixed")

    def state(self) -> dict[str, Any]:
        """What the net's answers mean."""
        return {"noise": {"prediction": self.hparams.prediction, **asdict(self.noise_schedule)}, "autoencoder": self._entry,
                "reader": None if self._reader is None else self._reader.digest}

    def restore(self, state: dict[str, Any]) -> None:
        """Refuse to read the answers of a net as something else."""
        for name, own in self.state()["noise"].items():
            if (found := state["noise"][name]) != own:
                key = {"kind": "schedule"}.get(name, name)
                raise InputError(f"model.{key}", str(own), f"{found}, with which the checkpoint was trained", "set it back, or start a "
                                 "training of its own in a new folder")
        if self._reader is not None and state.get("reader") != self._reader.digest:
            raise InputError("model.text", f"other weights in {self._reader.name}", "those that the checkpoint was trained with",
                             "put them back: what a prompt means depends on them")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the autoencoder as the checkpoint has it; to sample, its own file is not needed, and to go on with a fit it is.

        Raises:
            InputError: the config names another autoencoder.
        """
        entry = checkpoint.get("synthrad", {}).get("autoencoder")
        if self.spec is not None and (entry or {}).get("digest") != (self._entry or {}).get("digest"):
            raise InputError("model.autoencoder", str(self.hparams.autoencoder), "the autoencoder that the checkpoint was trained with",
                             "set it back, or start a training of its own in a new folder")
        self._entry = entry
        super().on_load_checkpoint(checkpoint)
        keep_attention(self, checkpoint)

    @property
    def attending(self) -> list[nn.Module]:
        """The nets whose attention `flash` decides; not the autoencoder, which has its own."""
        return [self.net, self.net_ema]

    def on_fit_start(self) -> None:
        """Choose the attention and encode the training images; a finished fit stays as it is when it is run again."""
        settle_attention(self)
        data = self.trainer.datamodule
        if self._reader is not None:
            self._reader.keep_in(data.cache_path)
        if self.autoencoder is not None:
            self._latents = KeptLatents(data, data.cache_path, self.autoencoder, self._entry["digest"])
            self._latents.make(self.trainer.strategy)
        self.stop_when_done()

    def on_train_start(self) -> None:
        """Let processes draw different noise; a resumed fit gets its random state back after this."""
        seed_apart(self.trainer.global_rank)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.net.parameters(), lr=self.hparams.lr, weight_decay=0.0, fused=True)

    # ---- training

    def training_step(self, batch: Case, batch_idx: int) -> None:
        """A step at times of the batch's own; count and average."""
        guards.check_batch(batch.image, batch.attributes, self.images_seen)
        real, c = self.encode(batch)
        dropped = torch.rand(len(c), 1, device=c.device) < self.hparams.drop_rate
        untold = dropped[:, 0]
        if self.hparams.prompt_drop_rate:
            untold = untold | (torch.rand(len(c), device=c.device) < self.hparams.prompt_drop_rate)
        c, prompts = c.masked_fill(dropped, 0.0), self._prompts(batch.index, untold.tolist())
        k = len(self.spec["channels"]) if self.wants_masks else real.shape[1]
        picture, given = real[:, :k], real[:, k:]
        if self._latents is not None:
            posterior = torch.randn(len(real), *self.autoencoder.net_ema.latent_shape, device=real.device, dtype=real.dtype)
            picture, given = self._latents.draw(batch.index, posterior), self._fit_masks(given, posterior.shape[2:])
        min_snr = (None if self.hparams.prediction == "velocity" else 5.0) if self.hparams.min_snr == "auto" else self.hparams.min_snr
        bound = None if min_snr is None else min_snr * self.noise_schedule.shift**2
        noise, t = torch.randn_like(picture), spread_times(len(real), self.hparams.times)

        def loss(p: slice) -> Tensor:
            told = None if prompts is None else self._tokens(self.net, prompts[p])
            answers = lambda x, at: self._answer(self.net, x, at, c[p], told, given[p])  # noqa: E731
            return noised_loss(answers, picture[p], noise[p], t[p], self.noise_schedule, self.hparams.prediction, bound).mean()

        optimizer, total = self.optimizers(), len(real) * self.trainer.world_size
        warm = min(1.0, (self.images_seen + total) / max(1, self.hparams.warmup_images))
        for group in optimizer.param_groups:
            group["lr"] = self.hparams.lr * warm
        self.step(optimizer, "loss", len(real), loss)
        self.count(len(real), self.net, self.net_ema, self.ramped(len(real), self.hparams.ema_half_life_images))

    def _fit_masks(self, masks: Tensor, shape: Sequence[int]) -> Tensor:
        """Given masks [n, channels, h, w] beside what is noised, of `shape`."""
        return F.adaptive_avg_pool2d(masks, shape)  # as they are, on pixels

    def _answer(self, net: nn.Module, x: Tensor, t: Tensor, c: Tensor, tokens: Tensor | None, masks: Tensor | None) -> Tensor:
        """What a net, trained or averaged, answers to noised pictures under a condition."""
        return net(x if masks is None else torch.cat([x, masks], 1), t, c, tokens)

    def _prompts(self, rows: Tensor, dropped: Sequence[bool]) -> list[str] | None:
        """A prompt an image, "" where it is dropped; what `encode` let the batch forget for this once is not in them."""
        if self.hparams.text is None:
            return None
        known, k = self.remembered, len(self.spec["classes"])
        labels = known[:, :k].masked_fill(known[:, k : 2 * k] == 0, float("nan"))
        written = self.trainer.datamodule.prompts(rows.tolist(), labels, known[:, 2 * k :])
        return ["" if gone else prompt for prompt, gone in zip(written, dropped, strict=True)]

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Refuse prompts that would be cut, and say which words mean nothing to a reader of words.

        Raises:
            InputError: a prompt is too long.
        """
        self._check_lengths(prompts)
        if self._reader is None and (strange := self._words(self.net_ema).unknown(prompts)):
            warnings.warn(f"prompts: {len(strange)} words that no training prompt had, such as {strange[0]!r}: to this generator they all "
                          "say the same, and nothing that it learned", stacklevel=2)

    def _check_lengths(self, prompts: Sequence[str]) -> None:
        (self._words(self.net_ema) if self._reader is None else self._reader).check(prompts)

    def _words(self, net: nn.Module) -> WordEncoder:
        return net.words

    def _tokens(self, net: DiffusionUNet, prompts: Sequence[str]) -> Tensor:
        return self._words(net)(prompts) if self._reader is None else self._reader(prompts, self.device)

    @property
    def _drawn_channels(self) -> int:
        return self.net_ema.net.out_channels

    # ---- sampling

    def gathered(self) -> AbstractContextManager:
        """Inside, the average is whole on the first process, also where trainer.strategy=fsdp shares it out."""
        return whole(self.net_ema, self.trainer.is_global_zero)

    @torch.no_grad()
    def sample(self, condition: Condition, seeds: Sequence[int], truncation: float = 1.0) -> Images:
        """Draw len(seeds) pictures with the averaged net; all noise of image k comes from seeds[k] alone.

        Args:
            condition: labels and attributes; what is missing is unknown. Masks [n, L, h, w], if they are given. Text, for a
                model that reads prompts; None = written from labels and attributes. An image to start from, with `masks` of it
                where the model draws both, a strength, and where it may change.
            truncation: 1; a diffusion model has no mean picture to come closer to, guidance is its counterpart.

        Returns:
            image [n, C, h, w] clipped to [-1, 1], masks int64 [n, L, h, w].
        """
        if truncation != 1:
            raise InputError("--truncation", str(truncation), "1 for a diffusion model, which has no mean picture", "leave it out; "
                             "--guidance above 1 trades variety for what was asked")
        how, (c, masks) = self.drawing, self.asked(condition, len(seeds))
        latent = self.autoencoder is not None
        shape = (self._drawn_channels, *(self.autoencoder.net_ema.latent_shape[1:] if latent else self.spec["size"]))
        if masks is not None:
            masks = self._fit_masks(masks, shape[1:])
        noise = noises_of(seeds, shape, self.device)
        prompts = self._asked_prompts(condition, len(seeds))
        told, untold = self._denoiser(c, masks, prompts), self._denoiser(torch.zeros_like(c), masks, prompts and [""] * len(prompts))
        denoise = guided(told, untold, how["guidance"], tuple(how["guidance_interval"]))
        if not latent:
            denoise = clipped(denoise, 1.0)
        start, x = starting_picture(self, condition, len(seeds)), noise()
        if start is not None:
            alpha, sigma = (float(a) for a in self.noise_schedule(torch.tensor(condition.strength, dtype=torch.float64)))
            x = alpha * start + sigma * x
            if condition.inside is not None:
                inside = condition.inside[:, None].to(self.device, torch.float32)
                denoise = inpainting(denoise, start, F.adaptive_max_pool2d(inside, shape[1:]))
        last = 1.0 if start is None else condition.strength
        at = times(how["steps"], spacing_of(how["sampler"]), self.noise_schedule, last, most=160 / self.noise_schedule.shift)
        out = sample(how["sampler"], denoise, self.noise_schedule, x, at, noise)
        if latent:
            out = self.autoencoder.to_pictures(out.to(next(self.autoencoder.net_ema.parameters()).dtype)).float()
        k = len(self.spec["channels"])
        image = out[:, :k].clamp(-1, 1)
        if masks is not None:
            drawn = condition.masks
        else:
            encoding = (self.autoencoder if latent else self).hparams.mask_encoding
            drawn = decode_masks(out[:, k:], self.structures, encoding)
        return outside_kept(Images(image, drawn), condition)

    def _asked_prompts(self, condition: Condition, n: int) -> list[str] | None:
        if self.hparams.text is None:
            return None
        if condition.text is not None:
            return list(condition.text)
        labels = np.full((n, len(self.spec["classes"])), np.nan) if condition.labels is None else condition.labels
        taught = [k for k, c in enumerate(self.spec["classes"]) if c not in self.spec.get("untaught", ())]
        return Prompt(**self.spec["prompt"]).write_all(labels[:, taught], [self.spec["classes"][k] for k in taught], condition.attributes)

    def _denoiser(self, c: Tensor, masks: Tensor | None, prompts: Sequence[str] | None = None) -> Denoise:
        """The averaged net under a condition."""
        dtype = next(self.net_ema.parameters()).dtype
        tokens = None if prompts is None else self._tokens(self.net_ema, prompts).to(dtype)

        def net(x: Tensor, t: Tensor) -> Tensor:
            return self._answer(self.net_ema, x.to(dtype), t, c, tokens, None if masks is None else masks.to(dtype))

        return denoiser(net, self.noise_schedule, self.hparams.prediction)

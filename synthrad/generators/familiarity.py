"""How well a trained generator knows given pictures, one number a picture: what a membership attack on its weights looks at.

A model answers better for what it was trained on: a diffusion model by its denoising loss (Matsumoto et al. 2023; Carlini et al.
2023, section 5), an autoencoder by its reconstruction (Hilprecht et al. 2019, section 4.2) and by the bound that it was trained on,
a GAN by its discriminator's opinion (Hayes et al. 2019, "LOGAN", section 4.1). A part also learns given pictures by heart, so
that an audit can plant what it then looks for.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synthrad.cases import Case
from synthrad.conditioning import Condition
from synthrad.diffusion.predictions import noised_loss
from synthrad.errors import InputError
from synthrad.gan.losses import both, fake_loss, real_loss
from synthrad.generators.autoencoder import Autoencoder
from synthrad.generators.conditional import noise_of
from synthrad.generators.diffusion import Diffusion
from synthrad.generators.gan import StyleGAN2

TIMES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)  # of the denoising loss: with more noise it says more of how common a picture is, and less of who was learned
REPEATS = 2  # noises a time
DRAWS = 4  # of the latents, for the bound
COMPANIONS = 3  # pictures beside each one that a discriminator judges: it compares groups of four
BATCH = 32  # pictures scored at once
LEARN_BATCH = 16  # pictures a step of learning by heart
QUIET = 1e-12  # errors below it are equal


@dataclass(frozen=True)
class Pictures:
    """Real pictures with what is known of each, as a generator is told it.

    Args:
        case: a batch. condition: of the same pictures, with masks and text where the generator takes them.
    """

    case: Case
    condition: Condition

    def __len__(self) -> int:
        return len(self.case.image)

    def take(self, rows: Sequence[int] | np.ndarray) -> Pictures:
        """Some of them, in this order."""
        at, c = torch.as_tensor(np.asarray(rows, dtype=np.int64)), self.condition
        case = Case(**{n: getattr(self.case, n)[at] for n in ("image", "masks", "labels", "index", "attributes")})
        return Pictures(case, replace(c, labels=None if c.labels is None else c.labels[at.numpy()],
                                      attributes=[c.attributes[i] for i in at] if c.attributes else (),
                                      masks=None if c.masks is None else c.masks[at], text=None if c.text is None else [c.text[i] for i in at]))

    def mirrored(self) -> Pictures:
        """Left and right exchanged, of images and masks."""
        flipped = lambda x: None if x is None else x.flip(-1)  # noqa: E731
        c = self.condition
        return Pictures(replace(self.case, image=flipped(self.case.image), masks=flipped(self.case.masks)), replace(c, masks=flipped(c.masks)))


class Part(ABC):
    """A net of a generator that was trained on pictures.

    Attributes:
        names: of its statistics. betas: of Adam, as in training.
    """

    names: tuple[str, ...]
    betas = (0.9, 0.999)

    def __init__(self, module: Any):
        self.module = module

    @property
    @abstractmethod
    def net(self) -> torch.nn.Module:
        """What learns."""

    @property
    def lr(self) -> float:
        """Of Adam, as in training."""
        return self.module.hparams.lr

    @abstractmethod
    def familiar(self, pictures: Pictures) -> dict[str, Tensor]:
        """For each of `names` [n], higher = better known; each picture's number depends on that picture alone."""

    @abstractmethod
    def loss(self, pictures: Pictures, noise: Callable[..., Tensor]) -> Tensor:
        """The mean loss of pictures, as in training."""

    @torch.no_grad()
    def scores(self, pictures: Pictures, done: Callable[[int], object] = lambda n: None) -> dict[str, np.ndarray]:
        """`familiar` of any number of pictures; `done` is told how many were scored."""
        found: dict[str, list[Tensor]] = {n: [] for n in self.names}
        for start in range(0, len(pictures), BATCH):
            some = pictures.take(range(start, min(start + BATCH, len(pictures))))
            for name, values in self.familiar(some).items():
                found[name].append(values.double().cpu())
            done(len(some))
        return {name: torch.cat(values).numpy() for name, values in found.items()}

    def learned(self, pictures: Pictures, showings: int, seed: int, done: Callable[[int], object] = lambda n: None) -> Part:
        """A copy that was shown these pictures, and no others, so many times each; `done` is told how many were shown."""
        made = copy.copy(self)
        made.module = copy.deepcopy(self.module)
        net = made.net.requires_grad_(True)
        optimizer = torch.optim.Adam(net.parameters(), lr=made.lr, betas=made.betas)
        noise, rng = noise_of(seed), np.random.default_rng(seed)
        size = min(LEARN_BATCH, len(pictures))
        order = np.concatenate([rng.permutation(len(pictures)) for _ in range(showings)])
        for start in range(0, len(order) - size + 1, size):
            optimizer.zero_grad(set_to_none=True)
            loss = made.loss(pictures.take(order[start : start + size]), noise)
            if not torch.isfinite(loss):
                raise InputError("self-test of membership/" + "/".join(made.names), "a loss that is not finite while pictures are learned by heart",
                                 "a checkpoint that can be trained on", "give an earlier checkpoint")
            loss.backward()
            optimizer.step()
            done(size)
        net.requires_grad_(False)
        return made


class Denoising(Part):
    """A diffusion model: minus the logarithm of its loss, mean over fixed times, of the same noise for every picture, and that beside the same of the mirrored
    picture: a picture that is easy for anybody is so mirrored, too (a neighbourhood comparison, Mattern et al. 2023). Of a generator that was shown its
    pictures both ways the second says nothing.
    """

    names = ("denoising", "neighbour")

    @property
    def net(self) -> torch.nn.Module:
        """The average, which samples."""
        return self.module.net_ema

    def familiar(self, pictures: Pictures) -> dict[str, Tensor]:
        """See Part."""
        own = self._logs(pictures)
        return {"denoising": -own, "neighbour": self._logs(pictures.mirrored()) - own}

    def _logs(self, pictures: Pictures) -> Tensor:
        """Logarithm of the loss, [n]; each time counts alike, whatever its loss is worth."""
        picture, answers = self._asked(pictures)
        noise, logs = noise_of(0), []
        for t in TIMES:
            losses = torch.stack([self._losses(answers, picture, noise(1, *picture.shape[1:]).expand(picture.shape),
                                               torch.full((len(picture),), t, dtype=torch.float64)) for _ in range(REPEATS)])
            logs.append(losses.mean(0).clamp(min=QUIET).log())
        return torch.stack(logs).mean(0)

    def loss(self, pictures: Pictures, noise: Callable[..., Tensor]) -> Tensor:
        """See Part."""
        picture, answers = self._asked(pictures)
        t = torch.special.ndtr(noise(len(picture)).double())  # uniform
        return self._losses(answers, picture, noise(*picture.shape), t).mean()

    def _losses(self, answers: Callable[[Tensor, Tensor], Tensor], picture: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Weighted as in training."""
        m = self.module
        bound = m.hparams.min_snr
        if bound == "auto":
            bound = None if m.hparams.prediction == "velocity" else 5.0
        return noised_loss(answers, picture, noise.to(picture), t, m.noise_schedule, m.hparams.prediction,
                           None if bound is None else bound * m.noise_schedule.shift**2)

    def _asked(self, pictures: Pictures) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
        """What is noised, and the net under each picture's own condition."""
        m, n = self.module, len(pictures)
        c, masks = m.asked(pictures.condition, n)
        dtype = next(m.net_ema.parameters()).dtype
        real = m.pictures(_moved(pictures.case, m.device))
        picture = real[:, : len(m.spec["channels"])] if m.wants_masks else real
        if m.autoencoder is not None:
            picture = m.autoencoder.to_latents(picture)[0].float()
        masks = None if masks is None else m._fit_masks(masks, picture.shape[2:]).to(dtype)
        tokens = None if m.hparams.text is None else m._tokens(m.net_ema, pictures.condition.text).to(dtype)
        return picture, lambda x, t: m._answer(m.net_ema, x.to(dtype), t, c, tokens, masks)


class Autoencoding(Part):
    """An autoencoder: minus the logarithms of its reconstruction's mean absolute error, and of the bound that it was trained on.

    The bound, L1 + w KL / numbers, is the evidence bound of a Laplace likelihood of scale w over w and the numbers of a
    picture, but for a constant (Kingma and Welling 2014, eq. 3).

    Args:
        bound: whether to look at it: not where latents are not drawn from a prior.
    """

    betas = (0.5, 0.9)

    def __init__(self, module: Autoencoder, bound: bool):
        super().__init__(module)
        self.names = ("reconstruction", "bound") if bound else ("reconstruction",)

    @property
    def net(self) -> torch.nn.Module:
        """The average, which samples."""
        return self.module.net_ema

    def familiar(self, pictures: Pictures) -> dict[str, Tensor]:
        """See Part."""
        real, net = self._real(pictures), self.net
        mean, deviation = net.encode(real)
        found = {"reconstruction": _absolute(net.decode(mean), real)}
        if "bound" in self.names:
            noise = noise_of(0)
            errors = [_absolute(net.decode(mean + deviation * noise(1, *mean.shape[1:]).to(mean)), real) for _ in range(DRAWS)]
            divergence = 0.5 * (mean.square() + deviation.square() - 1 - deviation.square().clamp(min=1e-20).log()).flatten(1).sum(1)
            found["bound"] = torch.stack(errors).mean(0) + self.module.bottleneck_weight * divergence / real[0].numel()
        return {name: -cost.clamp(min=QUIET).log() for name, cost in found.items()}

    def loss(self, pictures: Pictures, noise: Callable[..., Tensor]) -> Tensor:
        """Without the discriminator's opinion: L1 and what the bottleneck costs."""
        real = self._real(pictures)
        made, cost, _ = self.net(real, noise(len(real), *self.net.latent_shape).to(real))
        share = real[0].numel() if self.module.hparams.bottleneck == "kl" else 1
        return _absolute(made, real).mean() + self.module.bottleneck_weight * cost / share

    def _real(self, pictures: Pictures) -> Tensor:
        m = self.module
        return m.pictures(_moved(pictures.case, m.device))[:, : m.picture_channels].to(m.latent_moments)


class Judging(Part):
    """A GAN: its discriminator's logit of a picture under its own condition, beside the same few fakes for every picture."""

    names = ("discriminator",)
    betas = (0.0, 0.99)

    @property
    def net(self) -> torch.nn.Module:
        """The discriminator."""
        return self.module.discriminator

    @property
    def lr(self) -> float:
        """Of Adam, as in training."""
        given = self.module.hparams.lr
        return 0.0025 if given == "auto" else given  # see gan.settings.settle

    def familiar(self, pictures: Pictures) -> dict[str, Tensor]:
        """See Part."""
        real, c = self._real(pictures)
        n = len(real)
        beside = [self._drawn([k] * n, pictures.condition) for k in range(COMPANIONS)]
        return {"discriminator": self._logits(torch.cat([real, *beside]), c.repeat(COMPANIONS + 1, 1))[:n]}

    def loss(self, pictures: Pictures, noise: Callable[..., Tensor]) -> Tensor:
        """The discriminator's logistic loss, of these pictures and of as many fakes."""
        real, c = self._real(pictures)
        seeds = (noise(len(real)).double().abs() * 2**40).long().tolist()
        fake = self._drawn(seeds, pictures.condition)
        share = self.module.generator_ema.mapping.share
        judge = self.module.discriminator
        return both(real_loss, judge(self._scaled(real), c), share) + both(fake_loss, judge(self._scaled(fake), c), share)

    def _real(self, pictures: Pictures) -> tuple[Tensor, Tensor]:
        m = self.module
        return m.pictures(_moved(pictures.case, m.device)), m.asked(pictures.condition, len(pictures))[0]

    @torch.no_grad()
    def _drawn(self, seeds: Sequence[int], condition: Condition) -> Tensor:
        """Fake pictures [n, channels, h, w] under these conditions, with their masks."""
        m = self.module
        made = m.sample(replace(condition, text=None), seeds)
        return m.pictures(Case(made.image, made.masks.to(m.device), *[made.image[:, :0, 0, 0]] * 3))

    def _scaled(self, pictures: Tensor) -> Tensor:
        """As the discriminator gets them, without augmentation."""
        k, scale = len(self.module.spec["channels"]), self.module.hparams.mask_scale
        return torch.cat([pictures[:, :k], pictures[:, k:] * scale], 1)

    def _logits(self, pictures: Tensor, c: Tensor) -> Tensor:
        return both(lambda x: x, self.module.discriminator(self._scaled(pictures), c), self.module.generator_ema.mapping.share)


def parts_of(module: Any) -> list[Part]:
    """What of a generator was trained on pictures and can be asked about them.

    Raises:
        InputError: a generator of another kind.
    """
    if isinstance(module, StyleGAN2):
        return [Judging(module)]
    if isinstance(module, Autoencoder):
        return [Autoencoding(module, bound=module.hparams.bottleneck == "kl")]
    if isinstance(module, Diffusion):
        return [Denoising(module), *([Autoencoding(module.autoencoder, bound=False)] if module.autoencoder is not None else [])]
    raise InputError("--checkpoint", f"a {type(module).__name__}", "a StyleGAN2, an Autoencoder or a diffusion model",
                     "there is no attack on other generators")


def _absolute(made: Tensor, real: Tensor) -> Tensor:
    """Mean absolute error of each picture, [n]."""
    return (made.to(real.dtype) - real).abs().flatten(1).mean(1)


def _moved(case: Case, device: torch.device) -> Case:
    parts: Mapping[str, Tensor] = {n: getattr(case, n).to(device) for n in ("image", "masks", "labels", "index", "attributes")}
    return Case(**parts)

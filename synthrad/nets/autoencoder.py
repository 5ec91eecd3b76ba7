"""An autoencoder of pictures: to a latent picture of a quarter or an eighth of the side, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Literal

import torch
from monai.networks.layers.vector_quantizer import EMAQuantizer, VectorQuantizer
from monai.networks.nets import AutoencoderKL
from torch import Tensor, nn

from synthrad.errors import InputError
from synthrad.nets.attention import Attended
from synthrad.nets.normalization import quicken
from synthrad.nets.recompute import computed_again

Bottleneck = Literal["kl", "vq"]


class ImageAutoencoder(nn.Module):
    """MONAI's AutoencoderKL (Rombach et al. 2022, section 3.1), regularised by KL or by a codebook.

    Args:
        size: (height, width), each divisible by 2^(levels - 1), the factor f of the side.
        in_channels: of the pictures. latent_channels: of the latent pictures.
        channels: feature maps of each level, from the full size down; multiples of 8. Three levels are f = 4, four are f = 8.
        res_blocks: residual blocks a level. attention: whether the smallest level has attention.
        bottleneck: kl = a normal distribution a pixel of the latent picture (Kingma and Welling 2014); vq = the nearest entry of
            a codebook (van den Oord et al. 2017, with averaged entries).
        codes: entries of the codebook. flash: scaled_dot_product_attention instead of the plain product.
        recompute: see nets.recompute.
    """

    def __init__(self, size: Sequence[int], in_channels: int, latent_channels: int = 4, channels: Sequence[int] = (64, 128, 256),
                 res_blocks: int = 2, attention: bool = True, bottleneck: Bottleneck = "kl", codes: int = 1024, flash: bool = False,
                 recompute: bool = False):
        super().__init__()
        self.factor = 2 ** (len(channels) - 1)
        if any(side % self.factor for side in size):
            raise InputError("model.channels", f"{len(channels)} levels for pictures of {tuple(size)}",
                             f"height and width divisible by {self.factor}", "fewer levels, or another data.size")
        if odd := [c for c in channels if c < 8 or c % 8]:
            raise InputError("model.channels", str(odd[0]), "multiples of 8", "choose rounder numbers")
        self.latent_shape = (latent_channels, *(side // self.factor for side in size))
        self.attended = [Attended(channels[-1], 1, math.prod(self.latent_shape[1:]))] if attention else []
        self.bottleneck, self.recompute = bottleneck, recompute
        self.net = AutoencoderKL(
            2, in_channels, in_channels, res_blocks, tuple(channels), (*[False] * (len(channels) - 1), attention), latent_channels,
            norm_num_groups=32 if all(c % 32 == 0 for c in channels) else 8, with_encoder_nonlocal_attn=attention,
            with_decoder_nonlocal_attn=attention, use_flash_attention=flash)
        quicken(self.net)
        self.quantizer = VectorQuantizer(EMAQuantizer(2, codes, latent_channels)) if bottleneck == "vq" else None
        if self.quantizer is not None:  # with MONAI's zeros the first update throws every entry away that it did not use
            self.quantizer.quantizer.ema_cluster_size.fill_(1.0)
        if bottleneck == "vq":  # nothing is drawn around the mean: no parameters that never learn
            self.net.quant_conv_log_sigma = None

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [n, in_channels, h, w] to means and deviations of their latents, [n, latent_channels, h / f, w / f] each.

        With a codebook the deviation is 0 and the mean is what is not quantized yet.
        """
        with self._blocks(self.net.encoder):
            if self.quantizer is None:
                return self.net.encode(x)
            mean = self.net.quant_conv_mu(self.net.encoder(x))
        return mean, torch.zeros_like(mean)

    def decode(self, z: Tensor) -> Tensor:
        """Latents to pictures; with a codebook, of its nearest entries."""
        return self._decode(z if self.quantizer is None else self.quantizer(z)[1])

    def _decode(self, z: Tensor) -> Tensor:
        with self._blocks(self.net.decoder):
            return self.net.decode(z)

    def _blocks(self, part: nn.Module) -> AbstractContextManager[None]:
        return computed_again(list(part.blocks) if self.recompute else [])

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures, and standard normal noise in the shape of their latents.

        Returns:
            the pictures that are decoded again, what the bottleneck costs (the KL divergence to a standard normal
            distribution, summed over the latent picture, or the codebook's commitment), a mean over the pictures, and the latents.
        """
        mean, deviation = self.encode(x)
        if self.quantizer is not None:
            cost, z = self.quantizer(mean)
            return self._decode(z), cost, mean
        variance = deviation.square()
        divergence = 0.5 * (mean.square() + variance - 1 - variance.clamp(min=1e-20).log())  # Kingma and Welling 2014, appendix B
        z = mean + deviation * noise
        return self._decode(z), divergence.flatten(1).sum(1).mean(), z

"""The UNet of diffusion models, told the time, a condition vector and, where it has a context, tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn

from synthrad.errors import InputError


class DiffusionUNet(nn.Module):
    """MONAI's DiffusionModelUNet (Rombach et al. 2022; Ho et al. 2020) with a condition vector added to the embedding of the time.

    Args:
        size: (height, width), each divisible by 2^(levels - 1).
        in_channels: of the noised picture and of what is given beside it. out_channels: of its answer.
        c_dim: of the condition vector; 0 = none.
        channels: feature maps of each level, from the full size down; multiples of 8.
        attention: whether a level has attention; the block at the lowest size always has.
        res_blocks: residual blocks a level.
        head_channels: of one attention head; must divide the channels of levels with attention and of the last one.
        context_dim: of the tokens that attention also reads; None = no tokens.
        words: a net that reads prompts and is trained along, see nets.text.WordEncoder.
        flash: scaled_dot_product_attention instead of the plain product. Which is faster differs by machine.
    """

    def __init__(self, size: Sequence[int], in_channels: int, out_channels: int, c_dim: int,
                 channels: Sequence[int] = (128, 256, 256), attention: Sequence[bool] = (False, True, True), res_blocks: int = 2,
                 head_channels: int = 64, context_dim: int | None = None, flash: bool = False,
                 words: nn.Module | None = None):
        super().__init__()
        self.words = words
        self._check(size, channels, attention, head_channels)
        groups = 32 if all(c % 32 == 0 for c in channels) else 8
        self.c_dim, self.context_dim = c_dim, context_dim
        self.net = DiffusionModelUNet(
            2, in_channels, out_channels, num_res_blocks=res_blocks, channels=tuple(channels), attention_levels=tuple(attention),
            norm_num_groups=groups, num_head_channels=head_channels,
            with_conditioning=context_dim is not None, cross_attention_dim=context_dim, num_class_embeds=1 if c_dim else None,
            use_flash_attention=flash, include_fc=True)
        if c_dim:  # MONAI adds the embedding of one class number to that of the time; this adds that of a whole condition
            wide = 4 * channels[0]
            self.net.class_embedding = nn.Sequential(nn.Linear(c_dim, wide), nn.SiLU(), nn.Linear(wide, wide))

    @staticmethod
    def _check(size: Sequence[int], channels: Sequence[int], attention: Sequence[bool], head_channels: int) -> None:
        down = 2 ** (len(channels) - 1)
        if any(side % down for side in size):
            raise InputError("model.channels", f"{len(channels)} levels for pictures of {tuple(size)}",
                             f"height and width divisible by {down}", "fewer levels, or another data.size")
        if len(attention) != len(channels):
            raise InputError("model.attention", f"{len(attention)} levels", f"{len(channels)}, as model.channels has",
                             "say of each level whether it has attention")
        for c, a in zip(channels, (*attention[:-1], True), strict=True):
            if head_channels < 1 or c % 8 or (a and c % head_channels):
                raise InputError("model.channels", str(c), f"multiples of 8, and of model.head_channels={head_channels} in levels "
                                 "with attention and in the last", "choose rounder numbers")

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """Answers [n, out_channels, h, w].

        Args:
            x: [n, in_channels, h, w]. t: times [n] in [0, 1]. c: [n, c_dim]. context: tokens [n, length, context_dim].
        """
        told = c.to(x.dtype) if self.c_dim else None
        return self.net(x, (1000 * t).to(torch.float32), context=context, class_labels=told)

"""The UNet of diffusion models, told the time, a condition vector and, where it has a context, tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.nets import ControlNet, DiffusionModelUNet
from torch import Tensor, nn

from synthrad.errors import InputError
from synthrad.nets.attention import Attended
from synthrad.nets.normalization import quicken
from synthrad.nets.recompute import computed_again


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
        flash: scaled_dot_product_attention instead of the plain product. Which is faster differs by machine, see nets.attention.
        recompute: see nets.recompute.
    """

    def __init__(self, size: Sequence[int], in_channels: int, out_channels: int, c_dim: int,
                 channels: Sequence[int] = (128, 256, 256), attention: Sequence[bool] = (False, True, True), res_blocks: int = 2,
                 head_channels: int = 64, context_dim: int | None = None, flash: bool = False,
                 words: nn.Module | None = None, recompute: bool = False):
        super().__init__()
        self.words = words
        self._check(size, channels, attention, head_channels)
        groups = 32 if all(c % 32 == 0 for c in channels) else 8
        self.c_dim, self.context_dim = c_dim, context_dim
        self.shared = {  # with a control branch
            "spatial_dims": 2, "in_channels": in_channels, "num_res_blocks": res_blocks, "channels": tuple(channels),
            "attention_levels": tuple(attention), "norm_num_groups": groups, "num_head_channels": head_channels,
            "with_conditioning": context_dim is not None, "cross_attention_dim": context_dim, "num_class_embeds": 1 if c_dim else None,
            "use_flash_attention": flash, "include_fc": True}
        self.attended = [Attended(c, c // head_channels, math.prod(size) // 4**min(i, len(channels) - 1))
                         for i, (c, a) in enumerate(zip((*channels, channels[-1]), (*attention, True), strict=True)) if a]
        self.net = DiffusionModelUNet(out_channels=out_channels, **self.shared)
        quicken(self.net)
        if c_dim:
            self.net.class_embedding = _condition_embedding(c_dim, 4 * channels[0])
        self.recompute = recompute

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

    @property
    def blocks(self) -> list[nn.Module]:
        """The parts that hold nearly all of its weights, in the order in which they are computed."""
        return [*self.net.down_blocks, self.net.middle_block, *self.net.up_blocks]

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None, context: Tensor | None = None,
                control: tuple[list[Tensor], Tensor] | None = None) -> Tensor:
        """Answers [n, out_channels, h, w].

        Args:
            x: [n, in_channels, h, w]. t: times [n] in [0, 1]. c: [n, c_dim]. context: tokens [n, length, context_dim].
            control: of a ControlBranch, added to what the way down hands to the way up.
        """
        told = c.to(x.dtype) if self.c_dim else None
        down, middle = (None, None) if control is None else control
        with computed_again(self.blocks if self.recompute else []):
            return self.net(x, (1000 * t).to(torch.float32), context=context, class_labels=told, down_block_additional_residuals=down,
                            mid_block_additional_residual=middle)


def _condition_embedding(c_dim: int, width: int) -> nn.Sequential:
    """MONAI adds the embedding of one class number to that of the time; this adds that of a whole condition."""
    return nn.Sequential(nn.Linear(c_dim, width), nn.SiLU(), nn.Linear(width, width))


class ControlBranch(nn.Module):
    """A trainable copy of a UNet's way down that also reads a picture, MONAI's ControlNet (Zhang et al. 2023, section 3).

    It starts as a copy of the UNet, its outputs pass convolutions that start at zero: untrained, it changes nothing.

    Args:
        unet: what it is copied from, and what it steers; its `recompute` holds here, too.
        control_channels: of the picture. halvings: how often that is larger than what the UNet sees.
    """

    def __init__(self, unet: DiffusionUNet, control_channels: int, halvings: int = 0):
        super().__init__()
        self.c_dim, self.recompute = unet.c_dim, unet.recompute
        self.net = ControlNet(**unet.shared, conditioning_embedding_in_channels=control_channels,
                              conditioning_embedding_num_channels=tuple(16 * 2**i for i in range(halvings + 1)))
        quicken(self.net)
        if self.c_dim:
            self.net.class_embedding = _condition_embedding(self.c_dim, 4 * unet.shared["channels"][0])
        theirs = unet.net.state_dict()
        self.net.load_state_dict({k: theirs.get(k, v) for k, v in self.net.state_dict().items()})

    @property
    def blocks(self) -> list[nn.Module]:
        """As those of DiffusionUNet."""
        return [*self.net.down_blocks, self.net.middle_block]

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None, context: Tensor | None, control: Tensor) -> tuple[list[Tensor], Tensor]:
        """What is added to the UNet's way down, level by level, and at its lowest level.

        Args:
            x, t, c, context: as the UNet gets them. control: [n, control_channels, h 2^halvings, w 2^halvings].
        """
        told = c.to(x.dtype) if self.c_dim else None
        with computed_again(self.blocks if self.recompute else []):
            return self.net(x, (1000 * t).to(torch.float32), control, context=context, class_labels=told)

"""Swin transformer with a UPerNet head and an auxiliary one, as Akbar et al. (2024) train it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from synthrad.nets.deep_supervision import Supervised
from synthrad.nets.dense_heads import ConvHead, UperNetHead, enlarged
from synthrad.nets.pretrained_net import PretrainedNet
from synthrad.nets.transformers_loading import load_model

BASE = {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 7}
AUXILIARY = 2  # the stage that the auxiliary head reads


class SwinUperNet(PretrainedNet):
    """A segmentation net: image [B, C, H, W] in [-1, 1] to logits [B, out_channels, H, W], of any size.

    Four stages of a Swin transformer (Liu et al. 2021), each through a normalization of its own, a UPerNet head and, while it trains, an auxiliary head on the
    third stage, whose loss counts 0.4. Positions are relative within windows: nothing is interpolated. Weights in the hub: microsoft/swin-base-patch4-window7-224;
    without weights the settings are over those of Swin-Base: {embed_dim: 96, depths: [2, 2, 6, 2], num_heads: [3, 6, 12, 24]} is Swin-Tiny.

    Args:
        channels: inside the UPerNet head; the auxiliary one has half.
        drop_path: share of blocks that a picture skips in training, rising to it from the first to the last (Huang et al. 2016).
        auxiliary_weight: of the auxiliary head's loss; 0 = no such head.
        out_channels: logits, over all layers; linked from the data.
    """

    BACKBONE = "backbone.swin"  # the normalization of each stage is new, and part of the head

    def __init__(
        self,
        channels: int = 512,
        drop_path: float = 0.3,
        auxiliary_weight: float = 0.4,
        out_channels: int = 2,
        **options: Any,
    ):
        super().__init__(**options)
        said = {**({"model_type": "swin", **BASE} if self.weights is None else {}), **(self.settings or {})}
        stages = {"out_features": [f"stage{i}" for i in range(1, 5)], "out_indices": [1, 2, 3, 4], "drop_path_rate": drop_path}
        self.backbone = load_model({"swin": "SwinBackbone"}, self.weights, {**said, **stages}, self.in_channels, fresh=["hidden_states_norms", r"swin\.layernorm"])
        self.auxiliary_weight = auxiliary_weight
        self._tune()
        self.backbone.swin.layernorm.requires_grad_(False)  # unread
        widths = self.backbone.channels
        self.head = UperNetHead(widths, out_channels, channels)
        self.auxiliary = ConvHead(widths[AUXILIARY], channels // 2, out_channels) if auxiliary_weight else None

    def forward(self, image: Tensor) -> Tensor | Supervised:
        """Logits [B, out_channels, H, W] of an image [B, C, H, W]; in training the auxiliary ones too."""
        maps = self.backbone(self.shown(image).contiguous()).feature_maps
        size = image.shape[-2:]
        logits = enlarged(self.head(maps), size)
        if self.auxiliary is None or not self.training:
            return logits
        return Supervised([logits, enlarged(self.auxiliary(maps[AUXILIARY]), size)], [1.0, self.auxiliary_weight])

"""Swin transformer with a UPerNet head and an auxiliary one, as Akbar et al. (2024) train it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from synthrad.nets.deep_supervision import Supervised
from synthrad.nets.dense_heads import ConvHead, UperNetHead, enlarged
from synthrad.nets.transformers_loading import load_model
from synthrad.nets.tuning import Tuning, tune

BASE = {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 7}
AUXILIARY = 2  # the stage that the auxiliary head reads


class SwinUperNet(nn.Module):
    """A segmentation net: image [B, C, H, W] in [-1, 1] to logits [B, out_channels, H, W], of any size.

    Four stages of a Swin transformer (Liu et al. 2021), each through a normalization of its own, a UPerNet head and, while it trains, an auxiliary head on the
    third stage, whose loss counts 0.4. Positions are relative within windows: nothing is interpolated.

    Args:
        weights: null (random), a folder in the hub's format, a weights file, or a hub id that is in the local cache (microsoft/swin-base-patch4-window7-224).
        settings: of the transformers model, over those of Swin-Base or of the folder: {embed_dim: 96, depths: [2, 2, 6, 2], num_heads: [3, 6, 12, 24]} is Swin-Tiny.
        tuning: of the transformer: frozen, lora = low-rank changes of its attention, full.
        rank: of the low-rank changes.
        channels: inside the UPerNet head; the auxiliary one has half.
        drop_path: share of blocks that a picture skips in training, rising to it from the first to the last (Huang et al. 2016).
        auxiliary_weight: of the auxiliary head's loss; 0 = no such head.
        in_channels: image channels; linked from the data.
        out_channels: logits, over all layers; linked from the data.
    """

    def __init__(
        self,
        weights: str | None = None,
        settings: dict[str, Any] | None = None,
        tuning: Tuning = "full",
        rank: int = 8,
        channels: int = 512,
        drop_path: float = 0.3,
        auxiliary_weight: float = 0.4,
        in_channels: int = 1,
        out_channels: int = 2,
    ):
        super().__init__()
        weights = None if weights in ("None", "null", "") else weights  # how command lines spell null
        said = {**({"model_type": "swin", **BASE} if weights is None else {}), **(settings or {})}
        stages = {"out_features": [f"stage{i}" for i in range(1, 5)], "out_indices": [1, 2, 3, 4], "drop_path_rate": drop_path}
        self.backbone = load_model({"swin": "SwinBackbone"}, weights, {**said, **stages}, in_channels, fresh=["hidden_states_norms", r"swin\.layernorm"])
        self.tuning, self.auxiliary_weight = tuning, auxiliary_weight
        tune(self.backbone, tuning, rank, weights is not None)
        self.backbone.hidden_states_norms.requires_grad_(True)  # new, and part of the head
        self.backbone.swin.layernorm.requires_grad_(False)  # unread
        widths = self.backbone.channels
        self.head = UperNetHead(widths, out_channels, channels)
        self.auxiliary = ConvHead(widths[AUXILIARY], channels // 2, out_channels) if auxiliary_weight else None

    def train(self, mode: bool = True) -> SwinUperNet:
        """A frozen transformer stays in evaluation."""
        super().train(mode)
        if self.tuning == "frozen":
            self.backbone.eval()
        return self

    def forward(self, image: Tensor) -> Tensor | Supervised:
        """Logits [B, out_channels, H, W] of an image [B, C, H, W]; in training the auxiliary ones too."""
        maps = self.backbone(image.contiguous()).feature_maps
        size = image.shape[-2:]
        logits = enlarged(self.head(maps), size)
        if self.auxiliary is None or not self.training:
            return logits
        return Supervised([logits, enlarged(self.auxiliary(maps[AUXILIARY]), size)], [1.0, self.auxiliary_weight])

"""Plain vision transformers (DINOv2, DINOv3, RAD-DINO, ViT, any of timm) with a linear, UPerNet or DPT head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from synthrad.errors import InputError
from synthrad.nets.backbones import backbone_of
from synthrad.nets.dense_heads import DptHead, LinearHead, Pyramid, UperNetHead, enlarged
from synthrad.nets.pretrained_net import PretrainedNet

Head = Literal["linear", "upernet", "dpt"]
DEPTHS = 4  # of the blocks that pyramid heads read


class VitSegmenter(PretrainedNet):
    """A segmentation net: image [B, C, H, W] in [-1, 1] to logits [B, out_channels, H, W], of any size.

    Pictures are enlarged to whole patches (and by `scale`), logits are brought back to the picture's grid, bilinear. Embeddings of places are
    interpolated to the grid. Weights in the hub: facebook/dinov2-small, microsoft/rad-dino; of transformers those of model_type dinov2,
    dinov2_with_registers, dinov3_vit and vit.

    Args:
        name: a vision transformer of timm, such as vit_small_patch14_dinov2; null = a model of the transformers library, which the folder of `weights`
            or `settings` name.
        head: linear (last block, or `blocks`), upernet or dpt (four blocks).
        blocks: numbers of the blocks that the head reads, from 0; null = the last one (linear), or four evenly spaced ones that end with it.
        channels: inside the upernet and dpt heads.
        out_channels: logits, over all layers; linked from the data.
    """

    def __init__(
        self,
        name: str | None = None,
        head: Head = "upernet",
        blocks: list[int] | None = None,
        channels: int = 256,
        out_channels: int = 2,
        **options: Any,
    ):
        super().__init__(**options)
        self.backbone = backbone_of(name, self.weights, self.settings, self.in_channels)
        self.blocks = _chosen(blocks, head, self.backbone.blocks)
        self._tune()
        self.backbone.stop_after(self.blocks[-1])
        widths = [self.backbone.width] * len(self.blocks)
        self.pyramid = Pyramid(self.backbone.width) if head == "upernet" else None
        self.head = LinearHead(widths, out_channels) if head == "linear" else (UperNetHead if head == "upernet" else DptHead)(widths, out_channels, channels)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [B, out_channels, H, W] of an image [B, C, H, W]."""
        maps = self.backbone.maps(self.shown(image, self.backbone.patch), self.blocks)
        return enlarged(self.head(maps if self.pyramid is None else self.pyramid(maps)), image.shape[-2:])


def _chosen(blocks: Sequence[int] | None, head: Head, depth: int) -> list[int]:
    """The numbers of the blocks that a head reads."""
    if head not in ("linear", "upernet", "dpt"):
        raise InputError("model.net.head", repr(head), "linear, upernet or dpt")
    if blocks is None:
        if head != "linear" and depth < DEPTHS:
            raise InputError("model.net.settings", f"{depth} blocks", f"at least {DEPTHS} for the head {head}", "use the head linear, or name `blocks`")
        return [depth - 1] if head == "linear" else [round(depth * (i + 1) / DEPTHS) - 1 for i in range(DEPTHS)]
    if sorted(blocks) != list(blocks) or not blocks or not 0 <= blocks[0] <= blocks[-1] < depth:
        raise InputError("model.net.blocks", str(blocks), f"rising numbers of 0 to {depth - 1}")
    if head != "linear" and len(blocks) != DEPTHS:
        raise InputError("model.net.blocks", f"{len(blocks)} blocks", f"{DEPTHS} for the head {head}")
    return list(blocks)

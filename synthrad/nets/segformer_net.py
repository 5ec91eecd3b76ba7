"""SegFormer of the transformers library (Xie et al. 2021)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from synthrad.nets.dense_heads import enlarged
from synthrad.nets.transformers_loading import load_model
from synthrad.nets.tuning import Tuning, tune


class SegformerNet(nn.Module):
    """A segmentation net: image [B, C, H, W] in [-1, 1] to logits [B, out_channels, H, W], of any size.

    The head is that of the weights where they hold one (but for its last layer, which is new), else random.

    Args:
        weights: null (random), a folder in the hub's format, a weights file, or a hub id that is in the local cache (nvidia/mit-b0,
            nvidia/segformer-b0-finetuned-ade-512-512).
        settings: of the transformers model, over those of SegFormer-B0 or of the folder: {depths: [3, 4, 6, 3], hidden_sizes: [64, 128, 320, 512],
            decoder_hidden_size: 768} is B2.
        tuning: of the encoder: frozen, lora = low-rank changes of its attention, full.
        rank: of the low-rank changes.
        in_channels: image channels; linked from the data.
        out_channels: logits, over all layers; linked from the data.
    """

    def __init__(
        self,
        weights: str | None = None,
        settings: dict[str, Any] | None = None,
        tuning: Tuning = "full",
        rank: int = 8,
        in_channels: int = 1,
        out_channels: int = 2,
    ):
        super().__init__()
        weights = None if weights in ("None", "null", "") else weights  # how command lines spell null
        said = {**({"model_type": "segformer"} if weights is None else {}), **(settings or {})}
        self.net = load_model({"segformer": "SegformerForSemanticSegmentation"}, weights, said, in_channels, fresh=[r"^decode_head\."])
        self.net.decode_head.classifier = nn.Conv2d(self.net.config.decoder_hidden_size, out_channels, 1)
        self.tuning = tuning
        tune(self.net.segformer, tuning, rank, weights is not None)

    def train(self, mode: bool = True) -> SegformerNet:
        """A frozen encoder stays in evaluation."""
        super().train(mode)
        if self.tuning == "frozen":
            self.net.segformer.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Logits [B, out_channels, H, W] of an image [B, C, H, W]."""
        return enlarged(self.net(image, output_hidden_states=True).logits, image.shape[-2:])

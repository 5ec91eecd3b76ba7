"""SegFormer of the transformers library (Xie et al. 2021)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from synthrad.nets.dense_heads import enlarged
from synthrad.nets.pretrained_net import PretrainedNet
from synthrad.nets.transformers_loading import load_model


class SegformerNet(PretrainedNet):
    """A segmentation net: image [B, C, H, W] in [-1, 1] to logits [B, out_channels, H, W], of any size.

    The head is that of the weights where they hold one (but for its last layer, which is new), else random. Weights in the hub: nvidia/mit-b0,
    nvidia/segformer-b0-finetuned-ade-512-512; without weights the settings are over those of SegFormer-B0: {depths: [3, 4, 6, 3],
    hidden_sizes: [64, 128, 320, 512], decoder_hidden_size: 768} is B2.

    Args:
        out_channels: logits, over all layers; linked from the data.
    """

    BACKBONE = "net.segformer"

    def __init__(self, out_channels: int = 2, **options: Any):
        super().__init__(**options)
        said = {**({"model_type": "segformer"} if self.weights is None else {}), **(self.settings or {})}
        self.net = load_model({"segformer": "SegformerForSemanticSegmentation"}, self.weights, said, self.in_channels, fresh=[r"^decode_head\."])
        self.net.decode_head.classifier = nn.Conv2d(self.net.config.decoder_hidden_size, out_channels, 1)
        self._tune()

    def forward(self, image: Tensor) -> Tensor:
        """Logits [B, out_channels, H, W] of an image [B, C, H, W]."""
        return enlarged(self.net(self.shown(image), output_hidden_states=True).logits, image.shape[-2:])

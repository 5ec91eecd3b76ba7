"""What nets around a pretrained backbone share: where its weights come from, how large it sees a picture, and what of it learns."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from synthrad.errors import InputError
from synthrad.nets.dense_heads import whole_patches
from synthrad.nets.loading import unless_null
from synthrad.nets.tuning import Tuning, tune


class PretrainedNet(nn.Module):
    """A net that is a backbone, whose name BACKBONE says, and new parts around it.

    Args:
        weights: null (random), a folder in the hub's format, a weights file, or a hub id that is in the local cache; nothing is ever fetched.
        settings: of the transformers model where weights are null or a file alone, over those of the folder otherwise: {hidden_size: 384, ...}.
        tuning: of the backbone: frozen = nothing of it learns and it stays in evaluation; lora = low-rank changes of its attention learn; full = all of it.
        rank: of the low-rank changes.
        scale: of the picture before it is cut into patches: with 64 px and patches of 14 px, 4 gives 19 x 19 places in the place of 5 x 5.
        in_channels: image channels; linked from the data.
    """

    BACKBONE = "backbone"  # all that is not in this module is the head's, also to optimizers

    def __init__(
        self,
        weights: str | None = None,
        settings: dict[str, Any] | None = None,
        tuning: Tuning = "full",
        rank: int = 8,
        scale: float = 1.0,
        in_channels: int = 1,
    ):
        super().__init__()
        if not scale > 0:
            raise InputError("model.net.scale", str(scale), "above 0", "1 shows pictures as they are")
        self.weights, self.settings, self.in_channels = unless_null(weights), settings, in_channels
        self.tuning, self.rank, self.scale = tuning, rank, float(scale)

    @property
    def frozen(self) -> bool:
        """Whether the backbone stays the same throughout a fit."""
        return self.tuning not in ("lora", "full")

    def train(self, mode: bool = True) -> PretrainedNet:
        """A frozen backbone stays in evaluation: no dropout, no statistics of the batch."""
        super().train(mode)
        if self.frozen:
            self.get_submodule(self.BACKBONE).eval()
        return self

    def _tune(self, how: Tuning | None = None) -> None:
        """Choose what of the backbone learns, once it is built; how: what `tuning` stands for, where it has another word."""
        tune(self.get_submodule(self.BACKBONE), how or self.tuning, self.rank, self.weights is not None)

    def shown(self, image: Tensor, step: int = 1) -> Tensor:
        """A picture [B, C, H, W] enlarged by `scale`, and further to sides that are whole multiples of `step`, bilinear."""
        return whole_patches(image, step, self.scale)

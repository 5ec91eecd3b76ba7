"""Any backbone of timm or of the transformers library as a classifier: a probe of what it knows, low-rank tuning, or all of it tuned."""

from __future__ import annotations

import hashlib
import inspect
import sys
from importlib.metadata import version
from typing import Any, Literal

import torch
from torch import Tensor, nn

from synthrad.errors import InputError
from synthrad.nets import dense_heads
from synthrad.nets.attentive_probe import AttentiveProbe
from synthrad.nets.backbones import Pool, backbone_of
from synthrad.nets.pretrained_net import PretrainedNet
from synthrad.nets.tuning import Tuning

Head = Literal["linear", "attentive"]


class TunedClassifier(PretrainedNet):
    """A classifier: image [B, C, H, W] in [-1, 1] to logits [B, num_classes], of any size.

    With `tuning: frozen` it is a probe: the backbone stays in evaluation and what it gives for an image is computed once and kept on disk
    (`data.views`), so that `forward` takes those features, too. Pictures are enlarged to whole patches (and by `scale`); embeddings of places are
    interpolated. Weights of three channels are taken for those of standardised colour pictures: the first convolution is changed to take
    [-1, 1] and the data's channels.

    Args:
        name: a net of timm, such as resnet50 or vit_small_patch14_dinov2; null = a model of the transformers library, which the folder of `weights`
            or `settings` name (DINOv2, DINOv3, RAD-DINO, ViT, CLIP ...).
        tuning: of the backbone: frozen = the head alone learns; lora = low-rank changes of its attention, too; full = all.
        head: linear, of the pooled features; attentive, of all tokens.
        pool: for the linear head: cls = the class token, mean = over the places, cls_mean = both side by side; null = as timm does, of transformers the class
            token where there is one.
        num_classes: logits; linked from the data.
    """

    def __init__(
        self,
        name: str | None = None,
        tuning: Tuning = "frozen",
        head: Head = "linear",
        pool: Pool | None = None,
        num_classes: int = 1,
        **options: Any,
    ):
        super().__init__(tuning=tuning, **options)
        if head not in ("linear", "attentive"):
            raise InputError("model.net.head", repr(head), "linear or attentive")
        if pool not in (None, "cls", "mean", "cls_mean"):
            raise InputError("model.net.pool", repr(pool), "null, cls, mean or cls_mean")
        if head == "attentive" and pool is not None:
            raise InputError("model.net.pool", f"{pool} with the head attentive", "null: this head reads all tokens")
        self.backbone = backbone_of(name, self.weights, self.settings, self.in_channels)
        self.pool, self.reads = pool, "tokens" if head == "attentive" else "pooled"
        self._tune()
        if pool is not None and pool.startswith("cls") and not self.backbone.with_class:
            raise InputError("model.net.pool", f"{pool} for {type(self.backbone.net).__name__}, which has no class token", "null or mean")
        width = self.backbone.width if self.reads == "tokens" else self.backbone.pooled_width(pool)
        self.head = AttentiveProbe(width, num_classes) if head == "attentive" else nn.Linear(width, num_classes)

    @property
    def identity(self) -> str:
        """SHA-256 of what decides the features of an image: equal ones give equal features."""
        return identity_of(self.backbone, [self.reads, self.pool, self.scale])

    def encode(self, image: Tensor) -> Tensor:
        """What the head reads of an image [B, C, H, W]: pooled features [B, D] or tokens [B, N, D]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            shown = self.shown(image, self.backbone.patch)
            return self.backbone.tokens(shown) if self.reads == "tokens" else self.backbone.pooled(shown, self.pool)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [B, num_classes] of an image [B, C, H, W], or of what `encode` gave for it."""
        return self.head(self.encode(image) if image.ndim == 4 else image)


def identity_of(backbone: nn.Module, settings: list[Any]) -> str:
    """SHA-256 of a frozen backbone's weights, structure and settings, and of the code and the versions of what computes with them."""
    code = [inspect.getsource(module) for module in (sys.modules[type(backbone).__module__], dense_heads)]
    libraries = [version(p) for p in ("torch", "timm", "transformers")]
    found = hashlib.sha256(repr([code, str(backbone), str(getattr(getattr(backbone, "net", None), "config", "")), settings, libraries]).encode())
    for key, value in sorted(backbone.state_dict().items()):
        found.update(key.encode() + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()

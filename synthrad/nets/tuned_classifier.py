"""Any backbone of timm or of the transformers library as a classifier: a probe of what it knows, low-rank tuning, or all of it tuned."""

from __future__ import annotations

import hashlib
import inspect
import math
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synthrad.errors import InputError, near
from synthrad.nets.attentive_probe import AttentiveProbe
from synthrad.nets.loading import load_into, load_plain, locate
from synthrad.nets.timm_net import any_size
from synthrad.nets.transformers_loading import fit_input, load_model, source_of
from synthrad.nets.tuning import Tuning, tune

Head = Literal["linear", "attentive"]
Pool = Literal["cls", "mean", "cls_mean"]


class TunedClassifier(nn.Module):
    """A classifier: image [B, C, H, W] in [-1, 1] to logits [B, num_classes], of any size.

    With `tuning: frozen` it is a probe: the backbone stays in evaluation and what it gives for an image is computed once and kept on disk
    (`data.views`), so that `forward` takes those features, too. Pictures are enlarged to whole patches (and by `scale`); embeddings of places are
    interpolated. Weights of three channels are taken for those of standardised colour pictures: the first convolution is changed to take
    [-1, 1] and the data's channels.

    Args:
        name: a net of timm, such as resnet50 or vit_small_patch14_dinov2; null = a model of the transformers library, which the folder of `weights`
            or `settings` name (DINOv2, DINOv3, RAD-DINO, ViT ...).
        weights: null (random), a folder in the hub's format, a weights file, or a hub id that is in the local cache (facebook/dinov2-small).
        settings: of the transformers model where weights are null or a file alone: {model_type: dinov2, hidden_size: 384, ...}.
        tuning: frozen = the head alone learns; lora = low-rank changes of the attention too; full = all.
        head: linear, of the pooled features; attentive, of all tokens.
        pool: for the linear head: cls = the class token, mean = over the places, cls_mean = both side by side; null = as timm does, of transformers the class
            token where there is one.
        rank: of the low-rank changes.
        scale: of the picture before its patches: with 64 px and patches of 14 px, 4 gives 19 x 19 places in the place of 5 x 5.
        in_channels: image channels; linked from the data.
        num_classes: logits; linked from the data.
    """

    def __init__(
        self,
        name: str | None = None,
        weights: str | None = None,
        settings: dict[str, Any] | None = None,
        tuning: Tuning = "frozen",
        head: Head = "linear",
        pool: Pool | None = None,
        rank: int = 8,
        scale: float = 1.0,
        in_channels: int = 1,
        num_classes: int = 1,
    ):
        super().__init__()
        weights = None if weights in ("None", "null", "") else weights  # how command lines spell null
        name = None if name in ("None", "null", "") else name
        if head not in ("linear", "attentive"):
            raise InputError("model.net.head", repr(head), "linear or attentive")
        if pool not in (None, "cls", "mean", "cls_mean"):
            raise InputError("model.net.pool", repr(pool), "null, cls, mean or cls_mean")
        if head == "attentive" and pool is not None:
            raise InputError("model.net.pool", f"{pool} with the head attentive", "null: this head reads all tokens")
        if not scale > 0:
            raise InputError("model.net.scale", str(scale), "above 0", "1 shows pictures as they are")
        self.backbone = (HubBackbone if name is None else TimmBackbone)(name, weights, settings, in_channels)
        self.tuning, self.pool, self.reads, self.scale = tuning, pool, "tokens" if head == "attentive" else "pooled", float(scale)
        tune(self.backbone, tuning, rank, weights is not None)
        self.backbone.check(pool)
        width = self.backbone.width if self.reads == "tokens" else self.backbone.pooled_width(pool)
        self.head = AttentiveProbe(width, num_classes) if head == "attentive" else nn.Linear(width, num_classes)

    @property
    def frozen(self) -> bool:
        """Whether what `encode` gives stays the same throughout a fit."""
        return self.tuning == "frozen"

    @property
    def identity(self) -> str:
        """SHA-256 of what decides the features of an image: equal ones give equal features."""
        return identity_of(self.backbone, [self.reads, self.pool, self.scale])

    def train(self, mode: bool = True) -> TunedClassifier:
        """A frozen backbone stays in evaluation: no dropout, no statistics of the batch."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def encode(self, image: Tensor) -> Tensor:
        """What the head reads of an image [B, C, H, W]: pooled features [B, D] or tokens [B, N, D]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            shown = whole_patches(image, self.backbone.patch, self.scale)
            return self.backbone.tokens(shown) if self.reads == "tokens" else self.backbone.pooled(shown, self.pool)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [B, num_classes] of an image [B, C, H, W], or of what `encode` gave for it."""
        return self.head(self.encode(image) if image.ndim == 4 else image)


def identity_of(backbone: nn.Module, settings: list[Any]) -> str:
    """SHA-256 of a frozen backbone's weights, structure and settings, and of the versions of what computes with them."""
    code = inspect.getsource(sys.modules[type(backbone).__module__])
    libraries = [version(p) for p in ("torch", "timm", "transformers")]
    found = hashlib.sha256(repr([code, str(backbone), str(getattr(getattr(backbone, "net", None), "config", "")), settings, libraries]).encode())
    for key, value in sorted(backbone.state_dict().items()):
        found.update(key.encode() + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def whole_patches(image: Tensor, patch: int, scale: float) -> Tensor:
    """A picture [B, C, H, W] enlarged by `scale` and then to whole patches, bilinear."""
    size = [patch * max(1, math.ceil(scale * side / patch - 1e-6)) for side in image.shape[-2:]]
    return image if size == list(image.shape[-2:]) else F.interpolate(image, size, mode="bilinear", align_corners=False)


def _pooled(rows: Tensor, before: int, pool: Pool) -> Tensor:
    """[B, D], cls_mean [B, 2 D], of tokens [B, N, D] of which the first `before` belong to no place."""
    parts = [rows[:, 0]] if pool.startswith("cls") else []
    return torch.cat([*parts, rows[:, before:].mean(1)] if pool.endswith("mean") else parts, 1)


class TimmBackbone(nn.Module):
    """Any net of timm without its head."""

    def __init__(self, name: str, weights: str | None, settings: Mapping[str, Any] | None, channels: int):
        super().__init__()
        import timm

        if not timm.is_model(name):
            raise InputError("model.net.name", repr(name), "a timm model (timm.list_models())", near(name, timm.list_models()))
        if settings:
            raise InputError("model.net.settings", str(dict(settings)), f"none beside name {name!r}: they are of models of the transformers library")
        state = None if weights is None else load_plain(_timm_file(weights))
        if state is None:
            self.net = any_size(name, in_chans=channels, num_classes=0)
        else:
            self.net = _loaded(name, state, channels, f"model.net.weights {weights}")
        embedding = getattr(self.net, "patch_embed", None)
        patch = getattr(embedding, "patch_size", 1)
        self.patch = int(patch[0] if isinstance(patch, tuple | list) else patch)
        self.width, self.before = int(self.net.num_features), int(getattr(self.net, "num_prefix_tokens", 0))

    def pooled_width(self, pool: Pool | None) -> int:
        """Columns of `pooled`."""
        return int(self.net.head_hidden_size) if pool is None else self.width * (2 if pool == "cls_mean" else 1)

    def check(self, pool: Pool | None) -> None:
        """Refuse to pool what the net lacks."""
        if pool is not None and pool.startswith("cls") and not getattr(self.net, "has_class_token", False):
            raise InputError("model.net.pool", f"{pool} for {type(self.net).__name__}, which has no class token", "null or mean")

    def tokens(self, image: Tensor) -> Tensor:
        """[B, N, D] of the last layer, normalized as the net does."""
        found = self.net.forward_features(image)
        if found.ndim == 3:
            return found
        return found.flatten(1, 2) if getattr(self.net, "output_fmt", "NCHW") == "NHWC" else found.flatten(2).transpose(1, 2)

    def pooled(self, image: Tensor, pool: Pool | None) -> Tensor:
        """[B, pooled_width]."""
        if pool is None:
            return self.net.forward_head(self.net.forward_features(image), pre_logits=True)
        return _pooled(self.tokens(image), self.before, pool)


def _loaded(name: str, state: dict[str, Tensor], channels: int, where: str) -> nn.Module:
    net = any_size(name, in_chans=3, num_classes=0)
    first = next((k for k, v in net.state_dict().items() if v.ndim == 4), None)
    if first in state and state[first].shape[1:2] == (channels,) != (3,):  # of a net that saw pictures in [-1, 1], as ours do
        net = any_size(name, in_chans=channels, num_classes=0)
        load_into(net, state, where)
        return net
    table = getattr(net, "pos_embed", None)
    if isinstance(table, Tensor) and "pos_embed" in state and state["pos_embed"].shape != table.shape:
        from timm.layers import resample_abs_pos_embed

        prefix = 0 if net.no_embed_class else net.num_prefix_tokens
        state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], list(net.patch_embed.grid_size), num_prefix_tokens=prefix)
    load_into(net, state, where)
    fit_input(net, channels, net.pretrained_cfg["mean"], net.pretrained_cfg["std"])
    return net


def _timm_file(weights: str) -> Any:
    path = source_of(weights, "model.net.weights") if not weights.startswith("timm/") else weights
    folder_file = path / "model.safetensors" if not isinstance(path, str) and path.is_dir() else None
    return folder_file if folder_file is not None and folder_file.is_file() else locate(str(path), "model.net.weights")


class HubBackbone(nn.Module):
    """A vision model of the transformers library: its last hidden state."""

    def __init__(self, name: None, weights: str | None, settings: Mapping[str, Any] | None, channels: int):
        super().__init__()
        if weights is None and not settings:
            raise InputError("model.net", "neither name, weights nor settings", "a timm name, weights, or settings of a model with random weights",
                             "such as --model.net.name=vit_small_patch14_dinov2")
        net = load_model("AutoModel", weights, settings, channels)
        self.net = getattr(net, "vision_model", net)  # of a model of images and text
        config = self.net.config
        widths = getattr(config, "hidden_sizes", None)
        self.patch, self.width = int(getattr(config, "patch_size", 1) or 1), int(widths[-1] if widths else config.hidden_size)
        takes = inspect.signature(self.net.forward).parameters
        self.told = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}
        self.with_class = any(n.endswith(("cls_token", "class_embedding")) for n, _ in self.net.named_parameters())

    def pooled_width(self, pool: Pool | None) -> int:
        """Columns of `pooled`."""
        return self.width * (2 if pool == "cls_mean" else 1)

    def check(self, pool: Pool | None) -> None:
        """Refuse to pool what the net lacks."""
        if pool is not None and pool.startswith("cls") and not self.with_class:
            raise InputError("model.net.pool", f"{pool} for {type(self.net).__name__}, which has no class token", "null or mean")

    def tokens(self, image: Tensor) -> Tensor:
        """[B, N, D] of the last layer, normalized as the net does."""
        found = self.net(pixel_values=image, **self.told).last_hidden_state
        return found if found.ndim == 3 else found.flatten(2).transpose(1, 2)

    def pooled(self, image: Tensor, pool: Pool | None) -> Tensor:
        """[B, pooled_width]."""
        rows = self.tokens(image)
        places = (image.shape[-2] // self.patch) * (image.shape[-1] // self.patch)
        before = rows.shape[1] - places if self.with_class else 0
        return _pooled(rows, before, pool or ("cls" if self.with_class else "mean"))

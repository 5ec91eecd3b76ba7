"""Backbones of timm and of the transformers library, with or without weights: rows of tokens, a pooled row, and maps of chosen blocks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, cat, nn

from synthrad.errors import InputError
from synthrad.nets.loading import load_plain, locate, unless_null
from synthrad.nets.timm_net import any_size, check_name, load_timm, patch_of, size_refused
from synthrad.nets.transformers_loading import fit_input, load_model

Pool = Literal["cls", "mean", "cls_mean"]
PLAIN = ("dinov2", "dinov2_with_registers", "dinov3_vit", "vit")  # model_types whose blocks have maps of one size


def backbone_of(name: str | None, weights: str | None, settings: Mapping[str, Any] | None, channels: int) -> TimmBackbone | HubBackbone:
    """A net of timm by its name, or of the transformers library by its weights or settings, that takes pictures [B, channels, H, W] in [-1, 1].

    Weights of three channels are taken for those of standardised colour pictures: the first convolution is changed to take [-1, 1] and the channels.

    Raises:
        InputError: neither is named, or weights and settings do not fit.
    """
    name = unless_null(name)
    if name is not None:
        return TimmBackbone(name, weights, settings, channels)
    if weights is None and not settings:
        raise InputError("model.net", "neither name, weights nor settings", "a timm name, weights, or settings of a model with random weights",
                         "such as --model.net.name=vit_small_patch14_dinov2")
    return HubBackbone(weights, settings, channels)


class TimmBackbone(nn.Module):
    """Any net of timm without its head."""

    def __init__(self, name: str, weights: str | None, settings: Mapping[str, Any] | None, channels: int):
        super().__init__()
        check_name(name)
        if settings:
            raise InputError("model.net.settings", str(dict(settings)), f"none beside name {name!r}: they are of models of the transformers library")
        if weights is None:
            self.net = any_size(name, in_chans=channels, num_classes=0)
        else:
            self.net = _loaded(name, load_plain(locate(weights, "model.net.weights")), channels, f"model.net.weights {weights}")
        self.name, self.patch = name, patch_of(self.net)
        self.width, self.before = int(self.net.num_features), int(getattr(self.net, "num_prefix_tokens", 0))
        self.with_class = bool(getattr(self.net, "has_class_token", False))

    @property
    def blocks(self) -> int:
        """How many blocks have maps.

        Raises:
            InputError: no plain vision transformer.
        """
        if not (getattr(self.net, "dynamic_img_size", False) and hasattr(self.net, "blocks")):
            raise InputError("model.net.name", repr(self.name), "a plain vision transformer of timm, whose blocks see one grid of patches of any size",
                             "such as vit_small_patch14_dinov2")
        return len(self.net.blocks)

    def pooled_width(self, pool: Pool | None) -> int:
        """Columns of `pooled`."""
        return int(self.net.head_hidden_size) if pool is None else self.width * (2 if pool == "cls_mean" else 1)

    def tokens(self, image: Tensor) -> Tensor:
        """[B, N, D] of the last layer, normalized as the net does."""
        found = self._features(image)
        if found.ndim == 3:
            return found
        return found.flatten(1, 2) if getattr(self.net, "output_fmt", "NCHW") == "NHWC" else found.flatten(2).transpose(1, 2)

    def pooled(self, image: Tensor, pool: Pool | None) -> Tensor:
        """[B, pooled_width]."""
        if pool is None:
            return self.net.forward_head(self._features(image), pre_logits=True)
        return _pooled(self.tokens(image), self.before, pool)

    def _features(self, image: Tensor) -> Tensor:
        with size_refused(self.net, self.name, image):
            return self.net.forward_features(image)

    def maps(self, image: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """[B, C, H, W] of whole patches to [B, width, H / patch, W / patch] of each block, through the last normalization."""
        return self.net.forward_intermediates(image, indices=list(blocks), norm=True, intermediates_only=True)

    def stop_after(self, block: int) -> None:
        """Let blocks that nothing reads go: they would be computed for nothing, and never get a gradient."""
        self.net.prune_intermediate_layers([block], prune_norm=False, prune_head=True)


def _loaded(name: str, state: dict[str, Tensor], channels: int, where: str) -> nn.Module:
    net = any_size(name, in_chans=3, num_classes=0)
    first = next((k for k, v in net.state_dict().items() if v.ndim == 4), None)
    if first in state and state[first].shape[1:2] == (channels,) != (3,):  # of a net that saw pictures in [-1, 1], as ours do
        net = any_size(name, in_chans=channels, num_classes=0)
        load_timm(net, state, where)
        return net
    load_timm(net, state, where)
    fit_input(net, channels, net.pretrained_cfg["mean"], net.pretrained_cfg["std"])
    return net


class HubBackbone(nn.Module):
    """A vision model of the transformers library, alone or of a model of images and text."""

    def __init__(self, weights: str | None, settings: Mapping[str, Any] | None, channels: int):
        super().__init__()
        net = load_model("AutoModel", weights, settings, channels)
        self.net = getattr(net, "vision_model", net)  # of a model of images and text
        if getattr(self.net, "use_head", False):  # SigLIP's own pooling, which nothing here reads
            self.net.use_head, self.net.head = False, None
        config = self.net.config
        widths = getattr(config, "hidden_sizes", None)
        self.patch, self.width = int(getattr(config, "patch_size", 1) or 1), int(widths[-1] if widths else config.hidden_size)
        takes = inspect.signature(self.net.forward).parameters
        self.told = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}
        self.with_class = any(n.endswith(("cls_token", "class_embedding")) for n, _ in self.net.named_parameters())
        self.norm = "layernorm" if hasattr(self.net, "layernorm") else "norm"

    @property
    def blocks(self) -> int:
        """How many blocks have maps.

        Raises:
            InputError: no plain vision transformer.
        """
        if self.net.config.model_type not in PLAIN:
            raise InputError("model.net.weights", f"a model of model_type {self.net.config.model_type}", f"one of {', '.join(PLAIN)}")
        return int(self.net.config.num_hidden_layers)

    def pooled_width(self, pool: Pool | None) -> int:
        """Columns of `pooled`."""
        return self.width * (2 if pool == "cls_mean" else 1)

    def tokens(self, image: Tensor) -> Tensor:
        """[B, N, D] of the last layer, normalized as the net does."""
        found = self.net(pixel_values=image, **self.told).last_hidden_state
        if self.net.config.model_type == "clip_vision_model":  # which normalizes the class token alone
            found = self.net.post_layernorm(found)
        return found if found.ndim == 3 else found.flatten(2).transpose(1, 2)

    def pooled(self, image: Tensor, pool: Pool | None) -> Tensor:
        """[B, pooled_width]."""
        rows = self.tokens(image)
        places = (image.shape[-2] // self.patch) * (image.shape[-1] // self.patch)
        before = rows.shape[1] - places if self.with_class else 0
        return _pooled(rows, before, pool or ("cls" if self.with_class else "mean"))

    def maps(self, image: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """[B, C, H, W] of whole patches to [B, width, H / patch, W / patch] of each block, through the last normalization."""
        h, w = (side // self.patch for side in image.shape[-2:])
        states = self.net(pixel_values=image, output_hidden_states=True, **self.told).hidden_states
        rows = [getattr(self.net, self.norm)(states[k + 1])[:, -h * w :] for k in blocks]  # without class and register tokens, which come first
        return [r.transpose(1, 2).unflatten(2, (h, w)) for r in rows]

    def stop_after(self, block: int) -> None:
        """Let blocks that nothing reads go: they would be computed for nothing, and never get a gradient."""
        owner = getattr(self.net, "encoder", None) or getattr(self.net, "model", None) or self.net  # of the list, which the library names in many ways
        name = "layer" if hasattr(owner, "layer") else "layers"
        setattr(owner, name, getattr(owner, name)[: block + 1])


def _pooled(rows: Tensor, before: int, pool: Pool) -> Tensor:
    """[B, D], cls_mean [B, 2 D], of tokens [B, N, D] of which the first `before` belong to no place."""
    parts = [rows[:, 0]] if pool.startswith("cls") else []
    return cat([*parts, rows[:, before:].mean(1)] if pool.endswith("mean") else parts, 1)

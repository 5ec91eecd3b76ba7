"""Plain vision transformers (DINOv2, DINOv3, RAD-DINO, ViT, any of timm) with a linear, UPerNet or DPT head."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from synthrad.errors import InputError, near
from synthrad.nets.dense_heads import DptHead, LinearHead, Pyramid, UperNetHead, enlarged
from synthrad.nets.loading import load_into, load_plain, locate
from synthrad.nets.transformers_loading import fit_input, load_model, source_of
from synthrad.nets.tuning import Tuning, tune

Head = Literal["linear", "upernet", "dpt"]
DEPTHS = 4  # of the blocks that pyramid heads read


class VitSegmenter(nn.Module):
    """A segmentation net: image [B, C, H, W] in [-1, 1] to logits [B, out_channels, H, W], of any size.

    Pictures are enlarged to whole patches (and by `scale`), logits are brought back to the picture's grid, bilinear. Embeddings of places are
    interpolated to the grid.

    Args:
        name: a vision transformer of timm, such as vit_small_patch14_dinov2; null = a model of the transformers library, which the folder of `weights`
            or `settings` name (model_type dinov2, dinov2_with_registers, dinov3_vit or vit).
        weights: null (random), a folder in the hub's format, a weights file, or a hub id that is in the local cache (facebook/dinov2-small).
        settings: of the transformers model where weights are null or a file alone: {model_type: dinov2, hidden_size: 384, ...}.
        head: linear (last block, or `blocks`), upernet or dpt (four blocks).
        tuning: frozen = the head alone learns; lora = low-rank changes of the attention too; full = all.
        rank: of the low-rank changes.
        blocks: numbers of the blocks that the head reads, from 0; null = the last one (linear), or four evenly spaced ones that end with it.
        channels: inside the upernet and dpt heads.
        scale: of the picture before its patches: with 64 px and patches of 14 px, 4 gives 19 x 19 places in the place of 5 x 5.
        in_channels: image channels; linked from the data.
        out_channels: logits, over all layers; linked from the data.
    """

    def __init__(
        self,
        name: str | None = None,
        weights: str | None = None,
        settings: dict[str, Any] | None = None,
        head: Head = "upernet",
        tuning: Tuning = "full",
        rank: int = 8,
        blocks: list[int] | None = None,
        channels: int = 256,
        scale: float = 1.0,
        in_channels: int = 1,
        out_channels: int = 2,
    ):
        super().__init__()
        weights = None if weights in ("None", "null", "") else weights  # how command lines spell null
        name = None if name in ("None", "null", "") else name
        self.backbone = (HubTokens if name is None else TimmTokens)(name, weights, settings, in_channels)
        if not scale > 0:
            raise InputError("model.net.scale", str(scale), "above 0", "1 shows pictures as they are")
        self.blocks, self.scale, self.tuning = _chosen(blocks, head, self.backbone.depth), scale, tuning
        tune(self.backbone, tuning, rank, weights is not None)
        self.backbone.stop_after(self.blocks[-1])
        widths = [self.backbone.width] * len(self.blocks)
        self.pyramid = Pyramid(self.backbone.width) if head == "upernet" else None
        self.head = LinearHead(widths, out_channels) if head == "linear" else (UperNetHead if head == "upernet" else DptHead)(widths, out_channels, channels)

    def train(self, mode: bool = True) -> VitSegmenter:
        """A frozen backbone stays in evaluation."""
        super().train(mode)
        if self.tuning == "frozen":
            self.backbone.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Logits [B, out_channels, H, W] of an image [B, C, H, W]."""
        patch = self.backbone.patch
        whole = [patch * max(1, math.ceil(self.scale * side / patch - 1e-6)) for side in image.shape[-2:]]
        maps = self.backbone(enlarged(image, whole), self.blocks)
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


class HubTokens(nn.Module):
    """The transformers library's ViTs: maps of chosen blocks, each through the last normalization."""

    KINDS = ("dinov2", "dinov2_with_registers", "dinov3_vit", "vit")

    def __init__(self, name: None, weights: str | None, settings: Mapping[str, Any] | None, channels: int):
        super().__init__()
        if weights is None and not settings:
            raise InputError("model.net", "neither name, weights nor settings", "a timm name, weights, or settings of a model with random weights",
                             "such as --model.net.name=vit_small_patch14_dinov2")
        self.net = load_model("AutoModel", weights, settings, channels)
        config = self.net.config
        if config.model_type not in self.KINDS:
            raise InputError("model.net.weights", f"a model of model_type {config.model_type}", f"one of {', '.join(self.KINDS)}")
        self.patch, self.width, self.depth = int(config.patch_size), int(config.hidden_size), int(config.num_hidden_layers)
        self.norm = "layernorm" if hasattr(self.net, "layernorm") else "norm"
        takes = inspect.signature(self.net.forward).parameters
        self.told = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}

    def stop_after(self, block: int) -> None:
        """Let blocks that nothing reads go: they would be computed for nothing, and never get a gradient."""
        owner = getattr(self.net, "encoder", None) or getattr(self.net, "model", None) or self.net  # of the list, which the library names in many ways
        name = "layer" if hasattr(owner, "layer") else "layers"
        setattr(owner, name, getattr(owner, name)[: block + 1])

    def forward(self, image: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """[B, C, H, W] of whole patches to [B, width, H / patch, W / patch] each."""
        h, w = (side // self.patch for side in image.shape[-2:])
        states = self.net(pixel_values=image, output_hidden_states=True, **self.told).hidden_states
        rows = [getattr(self.net, self.norm)(states[k + 1])[:, -h * w :] for k in blocks]  # without class and register tokens, which come first
        return [r.transpose(1, 2).unflatten(2, (h, w)) for r in rows]


class TimmTokens(nn.Module):
    """timm's vision transformers: maps of chosen blocks, each through the last normalization."""

    def __init__(self, name: str, weights: str | None, settings: Mapping[str, Any] | None, channels: int):
        super().__init__()
        import timm

        if not timm.is_model(name):
            raise InputError("model.net.name", repr(name), "a timm model (timm.list_models('vit*'))", near(name, timm.list_models()))
        if settings:
            raise InputError("model.net.settings", str(dict(settings)), f"none beside name {name!r}: they are of models of the transformers library")
        state = None if weights is None else load_plain(_timm_file(weights))
        try:
            net = timm.create_model(name, pretrained=False, in_chans=channels if state is None else 3, num_classes=0, dynamic_img_size=True)
        except TypeError as e:
            raise InputError("model.net.name", f"{name!r}, which takes pictures of one size", "a vision transformer of timm", "such as vit_small_patch14_dinov2") from e
        if state is not None:
            if "pos_embed" in state and net.pos_embed is not None and state["pos_embed"].shape != net.pos_embed.shape:
                from timm.layers import resample_abs_pos_embed

                prefix = 0 if net.no_embed_class else net.num_prefix_tokens
                state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], list(net.patch_embed.grid_size), num_prefix_tokens=prefix)
            load_into(net, state, f"model.net.weights {weights}")
            fit_input(net, channels, net.pretrained_cfg["mean"], net.pretrained_cfg["std"])
        self.net, self.patch, self.width, self.depth = net, int(net.patch_embed.patch_size[0]), int(net.num_features), len(net.blocks)

    def stop_after(self, block: int) -> None:
        """Let blocks that nothing reads go: they would be computed for nothing, and never get a gradient."""
        self.net.prune_intermediate_layers([block], prune_norm=False, prune_head=True)

    def forward(self, image: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """[B, C, H, W] of whole patches to [B, width, H / patch, W / patch] each."""
        return self.net.forward_intermediates(image, indices=list(blocks), norm=True, intermediates_only=True)


def _timm_file(weights: str) -> Any:
    path = source_of(weights, "model.net.weights")
    return path / "model.safetensors" if path.is_dir() and (path / "model.safetensors").is_file() else locate(str(path), "model.net.weights")

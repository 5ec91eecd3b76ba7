"""Checkpoints of SAM, MedSAM and SAM-HQ as their authors publish them (sam_vit_b_01ec64.pth, medsam_vit_b.pth, sam_hq_vit_b.pth): the settings that their shapes
say, and the names of the transformers library. Names are those of github.com/facebookresearch/segment-anything and github.com/SysCV/sam-hq.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from synthrad.errors import InputError

PLACES = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
NUMBERED = {  # modules that the authors number and the library names
    "image_encoder.neck": ("neck", {0: "conv1", 1: "layer_norm1", 2: "conv2", 3: "layer_norm2"}),
    "prompt_encoder.mask_downscaling": ("mask_embed", {0: "conv1", 1: "layer_norm1", 3: "conv2", 4: "layer_norm2", 6: "conv3"}),
    "mask_decoder.output_upscaling": ("upscale_", {0: "conv1", 1: "layer_norm", 3: "conv2"}),
    "mask_decoder.compress_vit_feat": ("compress_vit_", {0: "conv1", 1: "norm", 3: "conv2"}),
    "mask_decoder.embedding_encoder": ("encoder_", {0: "conv1", 1: "norm", 3: "conv2"}),
    "mask_decoder.embedding_maskfeature": ("mask_", {0: "conv1", 1: "norm", 3: "conv2"}),
}
OTHERS = (
    (r"^image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^image_encoder\.blocks\.(\d+)\.norm(\d)\.", r"vision_encoder.layers.\1.layer_norm\2."),
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.", "vision_encoder."),
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", "prompt_encoder.shared_embedding.positional_embedding"),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"^mask_decoder\.transformer\.layers\.(\d+)\.norm(\d)\.", r"mask_decoder.transformer.layers.\1.layer_norm\2."),
    (r"^mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"^mask_decoder\.hf_token\.", "mask_decoder.hq_token."),
    (r"^mask_decoder\.hf_mlp\.", "mask_decoder.hq_mask_mlp."),
)


def is_original(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the authors' names."""
    return any(k.startswith("image_encoder.") for k in state)


def settings_of(state: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """Settings of the transformers model that a state dict with the authors' names belongs to.

    All that shapes say; the heads of the mask decoder are 8 as in all that is published.

    Args:
        where: of the weights, for errors.

    Raises:
        InputError: of SAM2, or of another image encoder than SAM's own.
    """
    if any(k.startswith("image_encoder.trunk.") for k in state):
        raise InputError(where, "a checkpoint of SAM2 with its authors' names, which say too little of the model", "SAM2 as a folder of the transformers library",
                         "run `hf download facebook/sam2.1-hiera-tiny --local-dir FOLDER` (or -small, -base-plus, -large) where there is a network (read its licence)")
    try:
        return _of_shapes(state)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as e:
        lacking = f"without {e.args[0]}" if isinstance(e, KeyError) else f"with tensors whose shapes are not SAM's ({e})"
        raise InputError(where, f"names {sorted(state)[:2]} ... {lacking}", "a whole checkpoint of SAM, MedSAM or SAM-HQ with SAM's own image encoder, or a "
                         "folder of the transformers library", "such as sam_vit_b_01ec64.pth, or `hf download facebook/sam-vit-base --local-dir FOLDER`") from e


def _of_shapes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    _, grid, _, width = state["image_encoder.pos_embed"].shape
    patch = state["image_encoder.patch_embed.proj.weight"].shape[-1]
    seen = [(state[f"image_encoder.blocks.{i}.attn.rel_pos_h"].shape[0] + 1) // 2 for i in range(_count(state, "image_encoder.blocks"))]  # places along a side
    hidden, hq = state["mask_decoder.iou_token.weight"].shape[1], "mask_decoder.hf_token.weight" in state
    vision = {"hidden_size": width, "num_hidden_layers": len(seen), "num_attention_heads": width // state["image_encoder.blocks.0.attn.rel_pos_h"].shape[1],
              "image_size": grid * patch, "patch_size": patch, "mlp_dim": state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0],
              "output_channels": state["image_encoder.neck.0.weight"].shape[0], "window_size": next((n for n in seen if n != grid), 14),
              "global_attn_indexes": [i for i, n in enumerate(seen) if n == grid], "num_pos_feats": state[PLACES].shape[1]}
    prompt = {"hidden_size": hidden, "image_size": grid * patch, "patch_size": patch, "image_embedding_size": grid,
              "mask_input_channels": state["prompt_encoder.mask_downscaling.3.weight"].shape[0]}
    layers = "mask_decoder.transformer.layers"
    decoder = {"hidden_size": hidden, "num_hidden_layers": _count(state, layers), "mlp_dim": state[f"{layers}.0.mlp.lin1.weight"].shape[0],
               "attention_downsample_rate": hidden // state[f"{layers}.0.cross_attn_token_to_image.q_proj.weight"].shape[0],
               "num_multimask_outputs": _count(state, "mask_decoder.output_hypernetworks_mlps") - 1,
               "iou_head_depth": _count(state, "mask_decoder.iou_prediction_head.layers"),
               "iou_head_hidden_dim": state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0], **({"vit_dim": width} if hq else {})}
    return {"model_type": "sam_hq" if hq else "sam", "vision_config": vision, "prompt_encoder_config": prompt, "mask_decoder_config": decoder}


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors by the names of the transformers library; names that are not the authors' stay as they are."""
    out = {_renamed(k, state): v for k, v in state.items() if k not in ("pixel_mean", "pixel_std")}
    return {**out, "shared_image_embedding.positional_embedding": state[PLACES]}


def _renamed(name: str, state: Mapping[str, Tensor]) -> str:
    for module, (ours, parts) in NUMBERED.items():
        if (found := re.match(rf"{re.escape(module)}\.(\d+)\.", name)) and int(found[1]) in parts:
            room = module.split(".")[0].replace("image_encoder", "vision_encoder")
            return f"{room}.{ours}{'' if ours.endswith('_') else '.'}{parts[int(found[1])]}.{name[found.end():]}"
    if found := re.match(r"(mask_decoder\.(?:iou_prediction_head|hf_mlp|output_hypernetworks_mlps\.\d+)\.layers)\.(\d+)\.", name):
        k, last = int(found[2]), _count(state, found[1]) - 1
        part = "proj_in" if k == 0 else "proj_out" if k == last else f"layers.{k - 1}"
        name = f"{found[1].removesuffix('.layers')}.{part}.{name[found.end():]}"
    for theirs, ours in OTHERS:
        if re.search(theirs, name):
            return re.sub(theirs, ours, name)
    return name


def _count(state: Mapping[str, Tensor], module: str) -> int:
    """How many numbered parts a module has."""
    return len({k[len(module) + 1 :].split(".")[0] for k in state if k.startswith(f"{module}.")})

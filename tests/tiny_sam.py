"""Small SAM, SAM-HQ and SAM2: the very classes, random weights; as the hub keeps them and under the names of their authors' files."""

import json
from pathlib import Path

import torch

PARTS = {"prompt_encoder_config": {"hidden_size": 16, "image_size": 64, "image_embedding_size": 4},
         "mask_decoder_config": {"hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "iou_head_hidden_dim": 16}}
SAM = {**PARTS, "vision_config": {"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "mlp_dim": 32,
                                  "num_pos_feats": 8, "window_size": 2, "global_attn_indexes": [1]}}
SAM_HQ = {**SAM, "mask_decoder_config": {**SAM["mask_decoder_config"], "vit_dim": 16}}
SAM2 = {
    "vision_config": {
        "backbone_config": {"model_type": "sam2_hiera_det_model", "hidden_size": 8, "embed_dim_per_stage": [8, 16, 32, 64], "blocks_per_stage": [1, 1, 3, 1],
                            "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4, 2, 2, 2], "global_attention_blocks": [3],
                            "image_size": [64, 64]},
        "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 16, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]},
    "prompt_encoder_config": {"hidden_size": 16, "image_size": 64},
    "mask_decoder_config": PARTS["mask_decoder_config"],
}
KINDS = {"sam": ("SamConfig", "SamModel", SAM), "sam_hq": ("SamHQConfig", "SamHQModel", SAM_HQ), "sam2": ("Sam2Config", "Sam2Model", SAM2)}


def make_sam(folder: Path, kind: str = "sam") -> str:
    """A folder of the hub."""
    import transformers

    config, model, settings = KINDS[kind]
    torch.manual_seed(0)
    net = getattr(transformers, model)(getattr(transformers, config)(**settings))
    for p in net.parameters():  # embeddings of places start at 0, which would hide how they are read
        torch.nn.init.normal_(p, std=0.2)
    net.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    return str(folder)


AUTHORS = {  # a part of the library's name: what the authors call it
    "vision_encoder.patch_embed.projection": "image_encoder.patch_embed.proj", "vision_encoder.layers": "image_encoder.blocks",
    "vision_encoder.neck.conv1": "image_encoder.neck.0", "vision_encoder.neck.layer_norm1": "image_encoder.neck.1",
    "vision_encoder.neck.conv2": "image_encoder.neck.2", "vision_encoder.neck.layer_norm2": "image_encoder.neck.3", "vision_encoder.pos": "image_encoder.pos",
    "shared_embedding.positional_embedding": "pe_layer.positional_encoding_gaussian_matrix", "encoder.point_embed.": "encoder.point_embeddings.",
    "mask_embed.conv1": "mask_downscaling.0", "mask_embed.layer_norm1": "mask_downscaling.1", "mask_embed.conv2": "mask_downscaling.3",
    "mask_embed.layer_norm2": "mask_downscaling.4", "mask_embed.conv3": "mask_downscaling.6", "upscale_conv1": "output_upscaling.0",
    "upscale_layer_norm": "output_upscaling.1", "upscale_conv2": "output_upscaling.3", "layer_norm_final_attn": "norm_final_attn", ".layer_norm": ".norm",
    "hq_token": "hf_token", "hq_mask_mlp": "hf_mlp", "compress_vit_conv1": "compress_vit_feat.0", "compress_vit_norm": "compress_vit_feat.1",
    "compress_vit_conv2": "compress_vit_feat.3", "encoder_conv1": "embedding_encoder.0", "encoder_norm": "embedding_encoder.1",
    "encoder_conv2": "embedding_encoder.3", "mask_conv1": "embedding_maskfeature.0", "mask_norm": "embedding_maskfeature.1", "mask_conv2": "embedding_maskfeature.3",
    "layers.0.MLP": "layers.1", "proj_in": "layers.0", "proj_out": "layers.2",
}


def authors_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict of the library's SAM or SAM-HQ as its authors would save it (heads of three layers, as all are)."""
    out = {}
    for name, value in state.items():
        if name.startswith("shared_image_embedding."):
            continue  # the authors keep it once
        if "_mlp" in name or "iou_prediction_head" in name:
            name = name.replace("layers.0", "layers.0.MLP")
        for ours, theirs in AUTHORS.items():
            name = name.replace(ours, theirs)
        out[name] = value
    return out

"""Small models of images and text as the hub keeps them: the very classes, random weights, a tokenizer of letters."""

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, SiglipConfig, SiglipModel

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def make_clip(folder: Path, kind: str = "clip") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {token: i for i, token in enumerate([*LETTERS, *(x + "</w>" for x in LETTERS), "<|startoftext|>", "<|endoftext|>"])}
    CLIPTokenizer(vocab=vocab, merges=[]).save_pretrained(folder)
    text = {**SMALL, "vocab_size": len(vocab), "max_position_embeddings": 32, "bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}
    vision = {**SMALL, "image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    if kind == "clip":
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    else:
        SiglipModel(SiglipConfig(text_config={**text, "projection_size": 16}, vision_config=vision)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.48, 0.45, 0.4], "image_std": [0.26, 0.26, 0.27]}')
    return folder

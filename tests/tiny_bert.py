"""A text encoder as the transformers library keeps one, of random weights and ten words."""

from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizer


def make_bert(folder: Path) -> Path:
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "effusion", "left", "right", "no", "finding"]
    (folder / "vocab.txt").write_text("\n".join(vocab))
    torch.manual_seed(0)
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(vocab), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                         max_position_embeddings=8)).save_pretrained(folder)
    return folder

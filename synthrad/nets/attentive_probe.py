"""A head that chooses what to read of a net's tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class AttentiveProbe(nn.Module):
    """Tokens [B, N, D] to logits [B, K]: one learned query attends to all tokens (Chen et al. 2023, CAE, section 4; Bardes et al. 2024, V-JEPA, appendix).

    Query + attention, then a residual two-layer perceptron, both behind layer norms, then a linear layer.

    Args:
        width: D. outputs: K. heads: of the attention; None = the divisor of the width that is nearest to width / 64.
    """

    def __init__(self, width: int, outputs: int, heads: int | None = None):
        super().__init__()
        heads = heads or min((h for h in range(1, width + 1) if width % h == 0), key=lambda h: abs(math.log(h * 64 / width)))
        self.query = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.linear = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, K] of tokens [B, N, D]."""
        read, query = self.norm(tokens), self.query.expand(len(tokens), -1, -1)
        found = query + self.attention(query, read, read, need_weights=False)[0]
        return self.linear((found + self.mlp(found)).squeeze(1))

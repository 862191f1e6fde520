"""One pre-norm Transformer layer that never lets padding reach a token."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.nn.dropout import Dropout


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward, each behind a LayerNorm and a residual connection.

    Attention is written as two matrix products: for the short texts and narrow widths of an adapter they
    train faster on CPU than the fused kernel, whose backward pass dominates there.

    Args:
        dim: width.
        heads: attention heads; divides `dim`.
        feedforward_dim: hidden width of the feed-forward part.
        dropout: fraction dropped on both residual branches while training.

    Source: Vaswani et al., 2017; pre-norm after Xiong et al., 2020.
    """

    def __init__(self, *, dim: int, heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.feedforward_in = nn.Linear(dim, feedforward_dim)
        self.feedforward_out = nn.Linear(feedforward_dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps `x [B, T, dim]` to `[B, T, dim]`.

        Args:
            x: token states.
            mask: bool, True at what may be looked at: `[B, T]` by every token of a row, or `[B, T, T]` by the
                token of the second dimension.
        """
        x = x + self.dropout(self._attend(self.attention_norm(x), mask))
        hidden = F.gelu(self.feedforward_in(self.feedforward_norm(x)))
        out: Tensor = x + self.dropout(self.feedforward_out(hidden))
        return out

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        rows, tokens, dim = x.shape
        split = self.query_key_value(x).view(rows, tokens, 3, self.heads, dim // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) * (dim // self.heads) ** -0.5
        # A sum, whose backward pass costs nothing.
        bias = torch.zeros(mask.shape, dtype=scores.dtype, device=mask.device)
        bias = bias.masked_fill(~mask, float("-inf"))
        scores = scores + bias.view(rows, 1, -1, tokens)
        attended = scores.softmax(dim=-1) @ value
        out: Tensor = self.attention_out(attended.transpose(1, 2).reshape(rows, tokens, dim))
        return out

"""From token states to one vector per text, blind to padding."""

import torch
from torch import Tensor, nn


def mean_pooling(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens.

    Args:
        x: `[B, T, dim]`.
        mask: `[B, T]` bool, True at tokens; no row all False.

    Returns:
        `[B, dim]`.
    """
    kept = x.masked_fill(~mask[..., None], 0.0)
    return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True).to(x.dtype)


class AttentionPooling(nn.Module):
    """Weighted mean over the tokens, with one learned score per head and token.

    Starts as the plain mean: the scores begin at zero.

    Args:
        dim: width.
        heads: independent weightings; divides `dim`.
    """

    def __init__(self, *, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.score = nn.Linear(dim, heads, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Pools `x [B, T, dim]` under `mask [B, T]` (bool, True at tokens) to `[B, dim]`."""
        rows, tokens, dim = x.shape
        scores = self.score(self.norm(x)).masked_fill(~mask[..., None], float("-inf"))
        weights = scores.softmax(dim=1)
        parts = x.masked_fill(~mask[..., None], 0.0).view(rows, tokens, self.heads, dim // self.heads)
        return torch.einsum("btn,btnd->bnd", weights, parts).reshape(rows, dim)

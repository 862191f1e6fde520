"""The trained part: frozen states of several layers -> Down -> Transformer layers -> masked pooling -> Up."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.recipes import AdapterSpec


def normed(states: Tensor) -> Tensor:
    """Each state `[..., H]` with mean 0 and variance 1: what the adapter takes.

    Frozen states are normed once, before they are stored.
    """
    width = int(states.shape[-1])  # a plain number: ONNX wants it constant
    return F.layer_norm(states, (width,))


class Adapter(nn.Module):
    """Maps a text model's token states into the teacher's embedding space.

    `spec` gives widths, depth and pooling; `input_dim` is L * H, the layers whose states come in times their
    width, `target_dim` D, width of the teacher's embedding. Down takes a token's states side by side: one
    learned weight per layer instead kept four points less (`benchmarks/RESULTS.md`).

    Source: the Down, Transformer layers, Up design of the language-adaptation talk.
    """

    def __init__(self, *, spec: AdapterSpec, input_dim: int, target_dim: int) -> None:
        super().__init__()
        width = int(spec.bottleneck_dim)  # `auto` is settled before
        self.down = nn.Linear(input_dim, width)
        self.layers = nn.ModuleList(
            TransformerLayer(
                dim=width, heads=spec.heads, feedforward_dim=spec.feedforward_dim, dropout=spec.dropout
            )
            for _ in range(int(spec.layers))
        )
        self.pool = AttentionPooling(dim=width, heads=spec.heads) if spec.pooling == "attention" else None
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, target_dim)
        self.dropout = Dropout(spec.dropout)
        # Not so small that the first outputs are the mean target alone: texts that all look alike at first
        # learn more slowly (embedded world, two epochs: held-out recall 45 instead of 74).
        nn.init.normal_(self.up.weight, std=0.02)
        nn.init.zeros_(self.up.bias)

    def start_at(self, mean_target: Tensor) -> None:
        """Centre the untrained adapter's answers on the mean target `[D]`, so that the loss starts lower."""
        with torch.no_grad():
            self.up.bias.copy_(mean_target)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Embed texts: `[B, D]` float32, not normalised.

        `states [B, T, L, H]` are floating, `normed`; what stands behind `mask [B, T]` (bool, True at tokens,
        no row all False) does not matter, if it is finite.
        """
        return self.pool_out(self.encode(self.project_in(states), mask), mask)

    def project_in(self, states: Tensor) -> Tensor:
        """Down, which looks at each token alone: `[..., L, H]` to `[..., width]`."""
        x = self.dropout(self.down(states.flatten(-2)))
        return x if self.layers else F.gelu(x)

    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        """The Transformer layers: `x [B, T, width]` to the same shape; `mask` as they take it."""
        for layer in self.layers:
            x = layer(x, mask)
        return x

    def pool_out(self, x: Tensor, mask: Tensor, places: Tensor | None = None) -> Tensor:
        """Pooling and Up: `x [B, T, width]` under `mask [B, T]` to `[B, D]` float32.

        With `places`, int64 `[B, T]`, x is `[N, width]`, and those are its rows, any ones behind the mask.
        """
        pooled = mean_pooling(rows_at(x, places), mask) if self.pool is None else self.pool(x, mask, places)
        embedding: Tensor = self.up(self.norm(pooled))
        return embedding.float()


class TransformerLayer(nn.Module):
    """Self-attention and feed-forward, each behind a LayerNorm and a residual connection.

    Attention is written as two matrix products: for the short texts and narrow widths of an adapter they
    train faster on CPU than the fused kernel, whose backward pass dominates there.

    `heads` divides the width `dim`; dropout is on both residual branches.

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
        """Map token states `x [B, T, dim]` to `[B, T, dim]`.

        `mask` is bool, True at what may be looked at: `[B, T]` by every token of a row, or `[B, T, T]` by the
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
        bias = torch.zeros(mask.shape, dtype=scores.dtype, device=mask.device).masked_fill(~mask, -torch.inf)
        scores = scores + bias.view(rows, 1, -1, tokens)
        attended = scores.softmax(dim=-1) @ value
        out: Tensor = self.attention_out(attended.transpose(1, 2).reshape(rows, tokens, dim))
        return out


def mean_pooling(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of `x [B, T, dim]` over the tokens, `[B, dim]`; `mask [B, T]` bool, no row all False."""
    kept = x.masked_fill(~mask[..., None], 0.0)
    return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True).to(x.dtype)


def rows_at(x: Tensor, places: Tensor | None) -> Tensor:
    """Rows of `x [N, dim]` at `places [B, T]`; x itself without places."""
    return x if places is None else x.index_select(0, places.flatten()).view(*places.shape, -1)


class AttentionPooling(nn.Module):
    """Weighted mean over the tokens, with one learned score per head and token.

    Starts as the plain mean: the scores begin at zero. `heads` divides `dim`.
    """

    def __init__(self, *, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.score = nn.Linear(dim, heads, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, x: Tensor, mask: Tensor, places: Tensor | None = None) -> Tensor:
        """Pool `x [B, T, dim]`, finite, under `mask [B, T]` (bool, True at tokens) to `[B, dim]`.

        `places` as in `Adapter.pool_out`: each token is then scored once, however long the padding.
        """
        scores = rows_at(self.score(self._normed(x)), places).masked_fill(~mask[..., None], float("-inf"))
        x = rows_at(x, places)
        parts = x.view(*scores.shape, x.shape[2] // self.heads) * scores.softmax(dim=1).to(x.dtype)[..., None]
        return parts.sum(dim=1).flatten(1)

    def _normed(self, x: Tensor) -> Tensor:
        # Autocast would norm a copy in float32, and round the result again.
        norm = self.norm
        with torch.autocast(x.device.type, enabled=False):
            return F.layer_norm(
                x, norm.normalized_shape, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps
            )


class Dropout(nn.Module):
    """Drops values while training and scales up those that stay; elsewhere than on a CPU it is PyTorch's own.

    PyTorch draws one number for each value, on one core: a fifth of an adapter's step. Here one draw of 64
    bits decides over four values, so the fraction is exact to 1/65,536. Source: Srivastava et al., 2014.
    """

    def __init__(self, fraction: float) -> None:
        super().__init__()
        self.fraction = fraction

    def forward(self, x: Tensor) -> Tensor:
        """Map `x` of any shape to the same shape."""
        if not self.training or self.fraction == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.fraction)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        steps = draws.view(torch.int16)[: x.numel()].view(x.shape)  # 65,536 values, all equally likely
        kept = (steps >= round(self.fraction * 2**16) - 2**15).to(x.dtype)
        return x * kept.mul_(1 / (1 - self.fraction))

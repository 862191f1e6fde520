"""The trained part: mix of frozen states -> Down -> Transformer layers -> masked pooling -> Up."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.nn.dropout import Dropout
from langadapt.nn.pooling import AttentionPooling, mean_pooling
from langadapt.nn.transformer import TransformerLayer
from langadapt.recipes import AdapterSpec


def normed(states: Tensor) -> Tensor:
    """Each state `[..., H]` with mean 0 and variance 1: what the adapter mixes.

    Frozen states are normed once, before they are stored.
    """
    width = int(states.shape[-1])  # a plain number: ONNX wants it constant
    return F.layer_norm(states, (width,))


class Adapter(nn.Module):
    """Maps a text model's token states into the teacher's embedding space.

    Args:
        spec: widths, depth, pooling; from the recipe.
        state_dim: H, width of the text model's states.
        state_count: L, how many layers' states come in.
        target_dim: D, width of the teacher's embedding.

    Source: the Down, Transformer layers, Up design of the language-adaptation talk; the learned mix of
        layers is ELMo's (Peters et al., 2018, eq. 1).
    """

    def __init__(self, *, spec: AdapterSpec, state_dim: int, state_count: int, target_dim: int) -> None:
        super().__init__()
        width = spec.bottleneck_dim
        self.mix = nn.Parameter(torch.zeros(state_count))
        self.down = nn.Linear(state_dim, width)
        self.layers = nn.ModuleList(
            TransformerLayer(
                dim=width, heads=spec.heads, feedforward_dim=spec.feedforward_dim, dropout=spec.dropout
            )
            for _ in range(spec.layers)
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
        """Centres the untrained adapter's answers on the mean target `[D]`, so that the loss starts lower."""
        with torch.no_grad():
            self.up.bias.copy_(mean_target)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Embeds texts.

        Args:
            states: `[B, T, L, H]` floating, `normed`; what stands behind the mask does not matter.
            mask: `[B, T]` bool, True at tokens; no row all False.

        Returns:
            `[B, D]` float32, not normalised.
        """
        return self.leave(self.attend(self.enter(states), mask), mask)

    def enter(self, states: Tensor) -> Tensor:
        """The part that looks at each token alone, mix and Down: `[..., L, H]` to `[..., width]`."""
        weights = torch.softmax(self.mix, dim=0).to(states.dtype)
        flat = states.flatten(0, -3)
        # A product for each token; einsum would first copy all states into another order.
        mixed = torch.bmm(weights.expand(flat.shape[0], 1, -1), flat)
        x = self.down(mixed.view(*states.shape[:-2], -1))
        x = self.dropout(x)
        return x if self.layers else F.gelu(x)

    def attend(self, x: Tensor, mask: Tensor) -> Tensor:
        """The Transformer layers: `x [B, T, width]` to the same shape; `mask` as they take it."""
        for layer in self.layers:
            x = layer(x, mask)
        return x

    def leave(self, x: Tensor, mask: Tensor) -> Tensor:
        """Pooling and Up: `x [B, T, width]` under `mask [B, T]` to `[B, D]` float32."""
        pooled = mean_pooling(x, mask) if self.pool is None else self.pool(x, mask)
        embedding: Tensor = self.up(self.norm(pooled))
        return embedding.float()

"""A frozen table of token embeddings with trained rows behind it."""

import torch
from torch import Tensor, nn


class ExtendedEmbedding(nn.Module):
    """Looks old ids up in the table that was there, new ones in rows of its own.

    The table is called, not copied: what it does besides looking up (a scale, padding) goes on as it was.

    Args:
        table: the model's own embeddings.
        first_id: the first new id; all new ones follow it.
        rows: `[pieces, H]` float32, the start of the new rows.
    """

    def __init__(self, *, table: nn.Embedding, first_id: int, rows: Tensor) -> None:
        super().__init__()
        self.table = table
        self.first_id = first_id
        self.rows = nn.Parameter(rows)
        self.padding_idx = table.padding_idx
        self.embedding_dim = table.embedding_dim

    @property
    def weight(self) -> Tensor:
        """The old table alone: transformers asks it for device and type."""
        return self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Embeds ids `[...]` int64 as `[..., H]`."""
        new = ids >= self.first_id
        known: Tensor = self.table(ids.masked_fill(new, 0))
        # Some families scale their embeddings inside the table (M2M100: by the root of H).
        scale = getattr(self.table, "embed_scale", 1.0)
        added = nn.functional.embedding((ids - self.first_id).clamp(min=0), self.rows) * scale
        return torch.where(new.unsqueeze(-1), added.to(known), known)

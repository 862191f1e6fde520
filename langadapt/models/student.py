"""Text model and adapter as one module."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.data.tokens import PackedBatch, TextBatch, blocks, by_length, length_groups
from langadapt.models.text_model import TextModel
from langadapt.models.trained import choose_trained
from langadapt.nn import Adapter
from langadapt.recipes import AdapterSpec
from langadapt.recipes.language import Trains


class Student(nn.Module):
    """The adapted language model: text model, frozen or partly trained, and the adapter on its states.

    Args:
        text_model: the encoder.
        spec: the adapter's shape.
        trains: what of the text model trains beside the rows of new pieces.
        target_dim: D, the teacher's width.
    """

    def __init__(self, *, text_model: TextModel, spec: AdapterSpec, trains: Trains, target_dim: int) -> None:
        super().__init__()
        self.layers: Literal["last", "all"] | tuple[int, ...] = spec.states
        self.trains = trains
        self.text_model = text_model
        self.adapter = Adapter(
            spec=spec,
            state_dim=text_model.state_dim,
            state_count=text_model.check_layers(spec.states),
            target_dim=target_dim,
        ).to(text_model.device)
        choose_trained(text_model, trains)

    def train(self, mode: bool = True) -> "Student":
        """Train mode for what trains; a frozen text model stays in eval mode."""
        super().train(mode)
        if self.states_are_fixed:
            self.text_model.eval()
        return self

    @property
    def states_are_fixed(self) -> bool:
        """True where nothing of the text model trains, so that its states can be computed once."""
        return not any(weight.requires_grad for weight in self.text_model.parameters())

    def forward(self, batch: TextBatch, states: Tensor | None = None) -> Tensor:
        """Embeds a batch of texts: `[B, D]` float32, not normalised.

        Args:
            batch: `[B, T]` ids and mask.
            states: `[B, T, L, H]` of the frozen text model, where they are known already.
        """
        # What tuning put on top was told the whole batch's mask, so it must see the whole batch.
        parts = [] if self._forward_pre_hooks else length_groups(batch.mask.sum(dim=1))
        if len(parts) < 2:
            return self._embed(batch, states)
        out = torch.zeros(len(batch.mask), self.adapter.up.out_features, device=self.text_model.device)
        for part in parts:
            own = None if states is None else states[part.rows.to(states.device), : part.tokens]
            embedded = self._embed(batch.rows(part.rows).cut(part.tokens), own)
            out = out.index_copy(0, part.rows.to(out.device), embedded)
        return out

    def _embed(self, batch: TextBatch, states: Tensor | None) -> Tensor:
        if states is not None:
            states = states.to(self.text_model.device).float()
        elif self.states_are_fixed:
            with torch.no_grad():
                states = self.text_model.states(batch, self.layers)
        else:
            states = self.text_model.states(batch, self.layers)
        embedding: Tensor = self.adapter(states, batch.mask.to(states.device))
        return embedding

    def parameter_counts(self) -> dict[str, int]:
        """`trained` and `total` number of weights; the total counts the text model and the adapter."""
        weights = list(self.parameters())
        return {
            "trained": sum(p.numel() for p in weights if p.requires_grad),
            "total": sum(p.numel() for p in weights),
        }

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], *, batch_tokens: int = 2048, exact: bool = False) -> Tensor:
        """Encodes texts in their order.

        Args:
            texts: any number, none empty.
            batch_tokens: tokens per forward pass.
            exact: float32 throughout; without it bfloat16 where the device computes faster in it.

        Returns:
            `[len(texts), D]` float32 unit rows on the CPU.

        Raises:
            DataError: an empty or whitespace text, with its row number.
        """
        was_training = self.training
        self.eval()
        tokens = self.text_model.tokenize(texts)
        out = torch.zeros(len(texts), self.adapter.up.out_features)
        for rows in by_length(tokens.lengths, batch_tokens=batch_tokens):
            embedded = self._embed_packed(tokens.packed(rows), exact=exact)
            out[torch.from_numpy(np.ascontiguousarray(rows))] = F.normalize(embedded, dim=-1).cpu()
        self.train(was_training)
        return out

    def _embed_packed(self, batch: PackedBatch, *, exact: bool) -> Tensor:
        """The adapter runs once for each length in the batch, so that nothing is padded: `[B, D]` float32."""
        if self._forward_pre_hooks:
            # What tuning put on top is told the mask of a whole padded batch.
            padded: Tensor = self(batch.padded(pad_id=self.text_model.engine.pad_id))
            return padded
        states = self.text_model.packed_states(batch, self.layers, exact=exact)
        half = states.dtype == torch.bfloat16
        embedded = []
        with torch.autocast(states.device.type, torch.bfloat16, enabled=half):
            for ids, part in zip(blocks(batch.ids, batch.runs), blocks(states, batch.runs), strict=True):
                text = TextBatch(input_ids=ids, mask=torch.ones_like(ids, dtype=torch.bool))
                embedded.append(self(text, part))
        return torch.cat(embedded).float()

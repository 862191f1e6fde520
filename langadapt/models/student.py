"""Text model and adapter as one module."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.data.tokens import TextBatch, Tokens, length_groups, ragged_index
from langadapt.models.half_precision import HalfPrecision
from langadapt.models.text_engine import BATCH_TOKENS
from langadapt.models.text_model import TextModel
from langadapt.models.trained import choose_trained
from langadapt.nn import Adapter, normed
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
        self.half_adapter: HalfPrecision[Adapter] = HalfPrecision(fused=False)
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
            states: `[B, T, L, H]` of the frozen text model, normed, where they are known already.
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
        if states is None:
            with torch.no_grad() if self.states_are_fixed else nullcontext():
                states = normed(self.text_model.states(batch, self.layers))
        states = states.to(self.text_model.device)
        if not torch.is_autocast_enabled(states.device.type):
            states = states.float()
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
    def encode(
        self, texts: Sequence[str], *, batch_tokens: int = BATCH_TOKENS, exact: bool = False
    ) -> Tensor:
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
        if was_training:
            self.eval()
        tokens = self.text_model.tokenize(texts)
        out = torch.zeros(len(texts), self.adapter.up.out_features)
        for rows in self.text_model.engine.batches(tokens, batch_tokens=batch_tokens):
            embedded = self._embed_frozen(tokens, rows, exact=exact)
            out[torch.from_numpy(np.ascontiguousarray(rows))] = F.normalize(embedded, dim=-1).cpu()
        if was_training:
            self.train()
        return out

    def _embed_frozen(self, tokens: Tokens, rows: NDArray[np.int64], *, exact: bool) -> Tensor:
        """Some texts through the text engine: `[len(rows), D]` float32, not normalised."""
        if self._forward_pre_hooks:
            # What tuning put on top is told the mask of a whole padded batch.
            whole: Tensor = self(tokens.batch(rows))
            return whole
        states = self.frozen_states(tokens, rows, exact=exact)
        lengths = tokens.lengths_of(rows)
        offsets = np.append(0, lengths.cumsum())
        out = torch.empty(len(rows), self.adapter.up.out_features, device=states.device)
        adapter = self.half_adapter.of(self.adapter) if states.dtype == torch.bfloat16 else self.adapter
        entered = adapter.enter(states)
        for part in length_groups(torch.from_numpy(lengths)):
            index, mask = (torch.from_numpy(x) for x in ragged_index(offsets, part.rows.numpy()))
            padded = entered[index.to(states.device)]
            out[part.rows.to(out.device)] = adapter.embed(padded, mask.to(states.device))
        return out

    def frozen_states(self, tokens: Tokens, rows: NDArray[np.int64], *, exact: bool = False) -> Tensor:
        """What the adapter takes of some texts, without gradients.

        Returns:
            `[N, L, H]`, the N tokens one text behind another, normed; see `TextEngine.states`.
        """
        return normed(self.text_model.packed_states(tokens, rows, self.layers, exact=exact))

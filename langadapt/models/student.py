"""Text model and adapter as one module."""

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.data.tokens import TextBatch, Tokens, in_rows, length_groups
from langadapt.models.bfloat16 import HalfPrecision
from langadapt.models.frozen_text import BATCH_TOKENS, FrozenText
from langadapt.models.text_model import TextModel
from langadapt.models.towers import Layers
from langadapt.models.trainable import PROBE_IDS, Tower, embedding_table
from langadapt.nn import Adapter, normed
from langadapt.recipes import AdapterSpec


class Student(nn.Module):
    """The adapted language model: text model, frozen unless told otherwise, and the adapter on its states.

    Args:
        text_model: the encoder.
        spec: the adapter's shape.
        target_dim: D, the teacher's width.
    """

    def __init__(self, *, text_model: TextModel, spec: AdapterSpec, target_dim: int) -> None:
        super().__init__()
        self.layers: Layers = spec.states
        self.text_model = text_model
        self.adapter = Adapter(
            spec=spec,
            state_dim=text_model.state_dim,
            state_count=text_model.check_layers(spec.states),
            target_dim=target_dim,
        ).to(text_model.device)
        self.half_adapter: HalfPrecision[Adapter] = HalfPrecision(fused=False)

    def train(self, mode: bool = True) -> "Student":
        """Set train mode for what trains; a frozen text model stays in eval mode."""
        super().train(mode)
        if self.states_are_fixed:
            self.text_model.eval()
        return self

    @property
    def states_are_fixed(self) -> bool:
        """True where nothing of the text model trains, so that its states can be computed once."""
        return not any(weight.requires_grad for weight in self.text_model.parameters())

    def forward(self, batch: TextBatch, states: Tensor | None = None) -> Tensor:
        """Embed a batch of texts: `[B, D]` float32, not normalised.

        Args:
            batch: `[B, T]` ids and mask.
            states: `[N, L, H]` of the frozen text model, normed, where they are known already; a row for each
                token, one text behind another.
        """
        if states is not None:
            return self._embed(states, batch)
        out = torch.zeros(len(batch.mask), self.adapter.up.out_features, device=self.text_model.device)
        for part in length_groups(batch.mask.sum(dim=1)):
            own = batch.rows(part.rows).cut(part.tokens)
            with torch.no_grad() if self.states_are_fixed else nullcontext():
                known = normed(self.text_model.states(own, self.layers))[own.mask.to(out.device)]
            out = out.index_copy(0, part.rows.to(out.device), self._embed(known, own))
        return out

    def packed_states(self, batch: TextBatch) -> Tensor:
        """What `forward` takes as states, `[N, L, H]`, without gradients."""
        lengths = batch.mask.sum(dim=1).cpu().numpy()
        ids = batch.input_ids[batch.mask].int().cpu().numpy()
        tokens = Tokens(ids=ids, offsets=np.append(0, lengths.cumsum()), pad_id=0)
        with torch.autocast(self.text_model.device.type, enabled=False):
            return self._run_states(tokens, np.arange(len(lengths)))

    def _embed(self, states: Tensor, batch: TextBatch) -> Tensor:
        states = states.to(self.text_model.device)
        if not torch.is_autocast_enabled(states.device.type):
            states = states.float()
        return _packed(self.adapter, states, batch.mask.sum(dim=1).cpu().numpy())

    def parameter_counts(self) -> dict[str, int]:
        """`trained` and `total` number of weights; the total counts the text model and the adapter."""
        weights = list(self.parameters())
        return {
            "trained": sum(p.numel() for p in weights if p.requires_grad),
            "total": sum(p.numel() for p in weights),
        }

    @property
    def frozen(self) -> FrozenText:
        """The student over many texts, each to a normalised embedding `[D]` float32; in eval mode."""
        model, dim = self.text_model, self.adapter.up.out_features
        return FrozenText(
            tokenize=model.tokenize, run=self._run, path=model.path, dim=dim, device=model.device
        )

    @property
    def frozen_states(self) -> FrozenText:
        """What the adapter takes of many texts: `[N, L, H]`, the N tokens one text behind another, normed."""
        model = self.text_model
        return FrozenText(
            tokenize=model.tokenize,
            run=self._run_states,
            path=model.path,
            dim=model.state_dim,
            device=model.device,
        )

    def encode(
        self, texts: Sequence[str], *, batch_tokens: int = BATCH_TOKENS, exact: bool = False
    ) -> Tensor:
        """Encode texts in their order; the arguments are those of `FrozenText.embed`.

        Returns:
            `[len(texts), D]` float32, normalised, on the CPU.

        Raises:
            DataError: an empty or whitespace text, with its row number.
        """
        was_training = self.training
        if was_training:
            self.eval()
        out = self.frozen.embed(texts, exact=exact, batch_tokens=batch_tokens)
        if was_training:
            self.train()
        return out

    def _run(self, tokens: Tokens, rows: NDArray[np.int64], *, exact: bool = False) -> Tensor:
        states = self._run_states(tokens, rows, exact=exact)
        adapter = self.half_adapter.of(self.adapter) if states.dtype == torch.bfloat16 else self.adapter
        return F.normalize(_packed(adapter, states, tokens.lengths_of(rows)), dim=-1)

    def _run_states(self, tokens: Tokens, rows: NDArray[np.int64], *, exact: bool = False) -> Tensor:
        return normed(self.text_model.packed_states(tokens, rows, self.layers, exact=exact))


def _packed(adapter: Adapter, states: Tensor, lengths: NDArray[np.int64]) -> Tensor:
    """An adapter's answers with several texts in a row: fewer operations, and larger ones, than padded.

    Args:
        adapter: on the states' device.
        states: `[N, L, H]` of the N tokens of B texts, one text behind another, normed.
        lengths: tokens of each text, int64 `[B]`.

    Returns:
        `[B, D]` float32.
    """
    rows, device = in_rows(lengths), states.device
    x = adapter.project_in(states)
    x = x.index_select(0, rows.tokens().flatten().to(device)).view(*rows.texts.shape, -1)
    x = adapter.encode(x, rows.together().to(device)).flatten(0, 1)
    places, mask = rows.by_text()
    x = x.index_select(0, places.flatten().to(device)).view(*places.shape, -1)
    return adapter.pool_out(x, mask.to(device))


def student_tower(student: Student) -> Tower:
    """A student's text model and adapter."""
    encoder = student.text_model.encoder
    probe = TextBatch(input_ids=torch.tensor(PROBE_IDS), mask=torch.ones(1, 2, dtype=torch.bool))
    return Tower(
        label=f"{student.text_model.source.repo} (text tower)",
        module=student,
        parts=(student,),
        encoder=encoder,
        projection=student.adapter.up,
        embeddings=embedding_table(encoder),
        run=lambda: student(probe),
    )

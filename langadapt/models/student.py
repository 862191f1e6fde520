"""The multilingual text encoder, and the student: text model and adapter as one module."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from inspect import signature
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.data.tokens import (
    Layout,
    TextBatch,
    Tokens,
    consecutive,
    in_rows,
    length_groups,
    send,
    together,
)
from langadapt.errors import ModelError, RecipeError
from langadapt.files.json import read_json
from langadapt.models.families import HalfPrecision
from langadapt.models.frozen_text import FrozenText, TextPath, packed_states, text_path
from langadapt.models.load import (
    PROBE_TEXTS,
    Refusing,
    ResolvedModel,
    check_padding,
    load_config,
    load_module,
    load_tokenizer,
    position_limit,
    tokenize_texts,
    uses_bf16,
)
from langadapt.models.towers import Layers, layer_states, spread
from langadapt.models.trainable import PROBE_IDS, Tower, embedding_table, parameter_counts
from langadapt.nn.adapter import Adapter, normed, rows_at
from langadapt.recipes import AdapterSpec, TextModelRef

_PROBE = TextBatch(input_ids=torch.tensor(PROBE_IDS), mask=torch.ones(1, 2, dtype=torch.bool))


class TextModel(nn.Module):
    """Any text encoder of transformers that returns hidden states; `prefix` is put before each text."""

    def __init__(
        self, *, source: ResolvedModel, encoder: nn.Module, tokenizer: Any, prefix: str, max_tokens: int
    ) -> None:
        super().__init__()
        self.source = source
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.prefix = prefix
        self.max_tokens = max_tokens
        self.bfloat16_copy: HalfPrecision[nn.Module] = HalfPrecision(fused=self.path == "packed")
        with torch.no_grad():
            states = self.states(_PROBE, "all")
        self.state_count, self.state_dim = states.shape[2], states.shape[3]

    @property
    def device(self) -> torch.device:
        """Where the encoder runs."""
        return next(self.encoder.parameters()).device

    @property
    def path(self) -> TextPath:
        """How `packed_states` runs; the encoder may change between calls."""
        return text_path(self.encoder)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids with the model's prefix and special tokens, cut at `max_tokens`."""
        return tokenize_texts(self.tokenizer, texts, max_tokens=self.max_tokens, prepare=self.prefix.__add__)

    def first_texts(self, tokens: Tokens, rows: NDArray[np.int64]) -> str:
        """The first of some texts as their tokens spell them, for messages."""
        ids = (tokens.ids[tokens.positions(rows[i : i + 1])] for i in range(min(3, len(rows))))
        texts = (self.tokenizer.decode(each.tolist(), skip_special_tokens=True)[:60] for each in ids)
        return ", ".join(f"'{text}'" for text in texts) + (", ..." if len(rows) > 3 else "")

    def states(self, batch: TextBatch, layers: Layers) -> Tensor:
        """Hidden states `[B, T, L, H]` of a batch, in the encoder's dtype."""
        given = batch.to(self.device)
        return layer_states(self.encoder, given.input_ids, given.mask, layers)

    def packed_states(
        self, tokens: Tokens, rows: NDArray[np.int64], layers: Layers, *, exact: bool = False
    ) -> Tensor:
        """Hidden states `[N, L, H]` of the N tokens of some texts, one text behind another.

        On the padded path the texts of `rows` should be of like length, on the packed one of many. The dtype
        is the encoder's own if `exact`, else bfloat16 where the device is faster in it: from a copy of the
        weights, which has no gradients.
        """
        encoder = self.encoder if exact or not uses_bf16(self.device) else self.bfloat16_copy.of(self.encoder)
        if self.path == "padded":
            given = tokens.batch(rows).to(self.device)
            return layer_states(encoder, given.input_ids, given.mask, layers)[given.mask]
        batch = tokens.packed(rows, few_shapes=self.device.type == "cuda")
        index = send(batch.rows.places(), self.device)
        chosen = packed_states(encoder, batch, layers)
        return torch.stack([state.flatten(0, 1).index_select(0, index) for state in chosen], dim=1)

    def check_layers(self, layers: Layers) -> int:
        """Number of states that `layers` means for this model; a RecipeError for an index that it lacks."""
        if isinstance(layers, int):
            return len(spread(layers, self.state_count))
        if layers in ("last", "all"):
            return 1 if layers == "last" else self.state_count
        for i in layers:
            if not -self.state_count <= int(i) < self.state_count:
                known = f"{self.source.repo} has states 0 to {self.state_count - 1}"
                raise RecipeError(f"adapter.states: {known}, got {i}")
        return len(layers)


def load_text_model(
    source: ResolvedModel,
    ref: TextModelRef,
    *,
    max_tokens: int,
    device: torch.device | None = None,
    beside: TextModel | None = None,
    pooler: bool = False,
) -> TextModel:
    """Load a text encoder, frozen: XLM-R, BERT, LaBSE, E5, MiniLM, ModernBERT, the encoder of NLLB/M2M.

    `ref` gives prefix and tokenizer language; texts are cut at `max_tokens`, or the model's own limit if that
    is lower. `beside` is the same model, loaded already: its weights are shared. `pooler` keeps the pooler
    that the file has.
    """
    config = load_config(source)
    module: Any = load_module(source, config, pooler=pooler) if beside is None else beside.encoder
    if getattr(config, "is_encoder_decoder", False) and beside is None:
        module = module.get_encoder()
    inputs = signature(module.forward).parameters
    if getattr(config, "is_decoder", False) or "input_ids" not in inputs or "pixel_values" in inputs:
        raise ModelError(f"{source.repo} ({config.model_type}) is not a text encoder")
    for part in module.modules():
        if hasattr(part, "layerdrop"):  # M2M100: a layer left out while training would be a state too few
            part.layerdrop = 0.0
    options = {"src_lang": ref.tokenizer_language} if ref.tokenizer_language else {}
    tokenizer = load_tokenizer(source, **options)
    limit = min(max_tokens, position_limit(config, module), int(tokenizer.model_max_length))
    prefix = _own_prompt(source) if ref.prefix is None else ref.prefix
    with Refusing(f"{source.repo} ({config.model_type}) gives no hidden states of one width for each token"):
        model = TextModel(source=source, encoder=module, tokenizer=tokenizer, prefix=prefix, max_tokens=limit)
    if beside is None:
        tokens = model.tokenize(PROBE_TEXTS)
        check_padding(source, lambda rows: model.states(tokens.batch(rows), "last"))
    return model.to(device or torch.device("cpu"))


def _own_prompt(source: ResolvedModel) -> str:
    """The prompt of a sentence-transformers repository: the default one, else that of queries; or nothing."""
    path = source.path / "config_sentence_transformers.json"
    if not path.is_file():
        return ""
    with Refusing(f"{source.repo}: no usable {path.name}"):
        facts = read_json(path)
        prompts = facts.get("prompts") or {}
        return str(prompts.get(facts.get("default_prompt_name")) or prompts.get("query") or "")


def pooling_of(source: ResolvedModel) -> tuple[list[str], int | None] | None:
    """Read how a sentence-transformers repository pools states, and how wide they are; None for any other."""
    path = source.path / "1_Pooling" / "config.json"
    if not path.is_file():
        return None
    with Refusing(f"{source.repo}: 1_Pooling/config.json cannot be read"):
        values = read_json(path)
        chosen = [name.removeprefix("pooling_mode_") for name, value in values.items() if value is True]
        chosen = [str(values["pooling_mode"])] if "pooling_mode" in values else chosen
        return [name for name in chosen if name != "include_prompt"], values.get("word_embedding_dimension")


class Student(nn.Module):
    """Text model, frozen unless told otherwise, and the adapter on its states; `target_dim` is D."""

    def __init__(self, *, text_model: TextModel, spec: AdapterSpec, target_dim: int) -> None:
        super().__init__()
        spec = spec.settled()
        self.layers: Layers = spec.states
        self.text_model = text_model
        self.adapter = Adapter(
            spec=spec,
            input_dim=text_model.check_layers(spec.states) * text_model.state_dim,
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

    def forward(self, batch: TextBatch | Layout, states: Tensor | None = None) -> Tensor:
        """Embed a batch of texts: `[B, D]` float32, not normalised.

        `states [N, L, H]` are those of the frozen text model, normed, where they are known already: a row for
        each token, one text behind another. With them the texts' `Layout` is enough; rows that it does not
        name do not matter.
        """
        if states is None:
            assert isinstance(batch, TextBatch)
            tokens = batch.tokens(pad_id=self.text_model.tokenizer.pad_token_id)
            with torch.no_grad() if self.states_are_fixed else nullcontext():
                states = self._all_states(tokens, np.arange(len(tokens)), exact=True)
        return self._embed(states, batch)

    def packed_states(self, tokens: Tokens, rows: NDArray[np.int64]) -> Tensor:
        """What `forward` takes as states of some texts, `[N, L, H]`, of a text model that is frozen."""
        with torch.autocast(self.text_model.device.type, enabled=False):
            return self._all_states(tokens, rows)

    def _all_states(self, tokens: Tokens, rows: NDArray[np.int64], *, exact: bool = False) -> Tensor:
        """States of texts of any length: on the padded path those of like length together."""
        if self.text_model.path == "packed":
            return self._run_states(tokens, rows, exact=exact)
        lengths = tokens.lengths_of(rows)
        groups = length_groups(lengths)
        states = torch.cat([self._run_states(tokens, rows[group], exact=exact) for group in groups])
        order, starts = np.concatenate(groups), np.empty_like(lengths)
        starts[order] = np.cumsum(lengths[order]) - lengths[order]
        return states.index_select(0, torch.from_numpy(consecutive(starts, lengths)).to(states.device))

    def _embed(self, states: Tensor, batch: TextBatch | Layout) -> Tensor:
        states = states.to(self.text_model.device)
        if not torch.is_autocast_enabled(states.device.type):
            states = states.float()
        if isinstance(batch, TextBatch):
            batch = in_rows(batch.mask.sum(dim=1).cpu().numpy()).layout()
        return _packed(self.adapter, states, batch)

    def parameter_counts(self) -> dict[str, int]:
        """`trained` and `total` number of weights; the total counts the text model and the adapter."""
        return parameter_counts(self.parameters())

    @property
    def frozen(self) -> FrozenText:
        """The student over many texts, each to a normalised embedding `[D]` float32; in eval mode."""
        return replace(self.frozen_states, run=self._run, dim=self.adapter.up.out_features)

    @property
    def frozen_states(self) -> FrozenText:
        """What the adapter takes of many texts: `[N, L, H]`, the N tokens one text behind another, normed."""
        model, run = self.text_model, self._run_states
        return FrozenText(
            tokenize=model.tokenize, run=run, path=model.path, dim=model.state_dim, device=model.device
        )

    def encode(self, texts: Sequence[str], *, batch_tokens: int | None = None, exact: bool = False) -> Tensor:
        """Encode texts as `FrozenText.embed` does, whatever the mode; the mode stays."""
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
        return F.normalize(_packed(adapter, states, in_rows(tokens.lengths_of(rows)).layout()), dim=-1)

    def _run_states(self, tokens: Tokens, rows: NDArray[np.int64], *, exact: bool = False) -> Tensor:
        return normed(self.text_model.packed_states(tokens, rows, self.layers, exact=exact))


def _packed(adapter: Adapter, states: Tensor, layout: Layout) -> Tensor:
    """Embed `[B, D]` float32 without padding: fewer operations, and larger ones, than padded.

    `states [N, L, H]` are of the N tokens of B texts, one text behind another, normed. For Transformer layers
    several texts share a row.
    """
    tokens, texts, places, mask = layout.to(states.device)
    x = adapter.project_in(states)
    if not adapter.layers:  # tokens are on their own: no rows are needed
        return adapter.pool_out(x, mask, tokens.flatten()[places])
    x = adapter.encode(rows_at(x, tokens), together(texts)).flatten(0, 1)
    return adapter.pool_out(x, mask, places)


def student_tower(student: Student) -> Tower:
    """A student's text model and adapter."""
    encoder = student.text_model.encoder
    return Tower(
        label=f"{student.text_model.source.repo} (text tower)",
        module=student,
        parts=(student,),
        encoder=encoder,
        projection=student.adapter.up,
        embeddings=embedding_table(encoder),
        embed=student,
        probe=_PROBE,
    )

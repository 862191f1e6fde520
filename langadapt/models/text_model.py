"""The multilingual text encoder: token ids to the states of its layers."""

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.data.tokens import TextBatch, Tokens, tokenize
from langadapt.errors import ModelError, RecipeError
from langadapt.models.bfloat16 import HalfPrecision
from langadapt.models.device import uses_bf16
from langadapt.models.frozen_text import FrozenText, TextPath, packed_states, text_path
from langadapt.models.load import (
    ResolvedModel,
    load_config,
    load_module,
    load_tokenizer,
    position_limit,
    resolve_model,
    token_ids,
)
from langadapt.models.towers import Layers, layer_states, spread
from langadapt.recipes import TextModelRef


class TextModel(nn.Module):
    """Any encoder of transformers that returns hidden states.

    Args:
        source: where it came from.
        encoder: the transformers module (of an encoder-decoder only the encoder).
        tokenizer: its tokenizer.
        prefix: put before each text.
        max_tokens: texts are cut here.
    """

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
        probe = TextBatch(input_ids=torch.tensor([[5, 6]]), mask=torch.ones(1, 2, dtype=torch.bool))
        with torch.no_grad():
            states = self.states(probe, "all")
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
        encode = token_ids(self.tokenizer, self.max_tokens)
        return tokenize(
            texts,
            (lambda some: encode([self.prefix + text for text in some])) if self.prefix else encode,
            pad_id=self.tokenizer.pad_token_id,
        )

    def first_texts(self, batch: TextBatch) -> str:
        """The first texts of a batch as its tokens spell them, for messages."""
        texts = [
            self.tokenizer.decode(ids[mask], skip_special_tokens=True)[:60]
            for ids, mask in zip(batch.input_ids[:3], batch.mask[:3], strict=True)
        ]
        more = ", ..." if len(batch.input_ids) > len(texts) else ""
        return ", ".join(f"'{text}'" for text in texts) + more

    def states(self, batch: TextBatch, layers: Layers) -> Tensor:
        """Layer states of a batch.

        Args:
            batch: `[B, T]` ids and mask.
            layers: see `Layers`.

        Returns:
            `[B, T, L, H]` in the encoder's dtype.
        """
        given = batch.to(self.device)
        return layer_states(self.encoder, given.input_ids, given.mask, layers)

    @torch.no_grad()
    def packed_states(
        self, tokens: Tokens, rows: NDArray[np.int64], layers: Layers, *, exact: bool = False
    ) -> Tensor:
        """Hidden states of texts one behind another, without gradients, as fast as the machine allows.

        Args:
            tokens: of many texts.
            rows: which of them. On the padded path they should be of like length, on the packed one of many.
            layers: see `Layers`.
            exact: float32 whatever the device offers.

        Returns:
            `[N, L, H]`, the N tokens of the rows' texts, on the encoder's device, float32 or bfloat16.
        """
        encoder = self.encoder if exact or not uses_bf16(self.device) else self.bfloat16_copy.of(self.encoder)
        if self.path == "padded":
            given = tokens.batch(rows).to(self.device)
            return layer_states(encoder, given.input_ids, given.mask, layers)[given.mask]
        batch = tokens.packed(rows)
        index = batch.rows.places().to(self.device)
        chosen = packed_states(encoder, batch, layers)
        return torch.stack([state.flatten(0, 1).index_select(0, index) for state in chosen], dim=1)

    def check_layers(self, layers: Layers) -> int:
        """Number of states that `layers` means for this model.

        Raises:
            RecipeError: an index that the model does not have.
        """
        if isinstance(layers, int):
            return len(spread(layers, self.state_count))
        if layers in ("last", "all"):
            return 1 if layers == "last" else self.state_count
        for i in layers:
            if not -self.state_count <= int(i) < self.state_count:
                raise RecipeError(
                    f"adapter.states: {self.source.repo} has states 0 to {self.state_count - 1}, got {i}"
                )
        return len(layers)


def load_text_model(
    source: ResolvedModel,
    ref: TextModelRef,
    *,
    max_tokens: int,
    device: torch.device | None = None,
    beside: TextModel | None = None,
) -> TextModel:
    """Loads a text encoder, frozen: XLM-R, BERT, LaBSE, E5, MiniLM, ModernBERT, the encoder of NLLB/M2M.

    Args:
        source: where it lies.
        ref: its prefix and tokenizer language.
        max_tokens: longer texts are cut, at the model's own limit if that is lower.
        device: where it runs; the CPU unless said.
        beside: the same model, loaded already: its weights are shared instead of loaded again.

    Raises:
        ModelError: no encoder in it, no padding token, or it cannot be loaded.
    """
    config = load_config(source)
    module: Any = load_module(source, config) if beside is None else beside.encoder
    if getattr(config, "is_encoder_decoder", False) and beside is None:
        module = module.get_encoder()
    inputs = signature(module.forward).parameters
    if getattr(config, "is_decoder", False) or "input_ids" not in inputs or "pixel_values" in inputs:
        raise ModelError(f"{source.repo} ({config.model_type}) is not a text encoder")
    options = {"src_lang": ref.tokenizer_language} if ref.tokenizer_language else {}
    tokenizer = load_tokenizer(source, **options)
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{source.repo}: its tokenizer has no padding token")
    limit = min(max_tokens, position_limit(config, module), int(tokenizer.model_max_length))
    model = TextModel(source=source, encoder=module, tokenizer=tokenizer, prefix=ref.prefix, max_tokens=limit)
    return model.to(device or torch.device("cpu"))


Agreement = Callable[[Sequence[str], Sequence[str]], NDArray[np.float32]]
"""Two sides of R pairs of texts to the cosine of each pair, float32 `[R]`."""


def load_agreement(name: str) -> Agreement:
    """Load a multilingual encoder that tells whether two texts mean the same, on the CPU.

    Texts are embedded by the mean of the last layer's states, as is usual for E5 and the MiniLM family.

    Args:
        name: a local folder, or `org/name@revision` on the Hub.

    Raises:
        ModelError: no such model.
    """
    repo, _, revision = name.partition("@")
    reference = TextModelRef(repo=repo, revision=revision or None, unverified=not revision)
    model = load_text_model(resolve_model(reference), reference, max_tokens=128)

    def means(tokens: Tokens, rows: NDArray[np.int64], *, exact: bool = False) -> Tensor:
        states = model.packed_states(tokens, rows, "last", exact=exact)[:, 0].float()
        parts = torch.split(states, tokens.lengths_of(rows).tolist())
        return F.normalize(torch.stack([text.mean(dim=0) for text in parts]), dim=1)

    text = FrozenText(
        tokenize=model.tokenize, run=means, path=model.path, dim=model.state_dim, device=model.device
    )

    def agree(english: Sequence[str], target: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray((text.embed(english) * text.embed(target)).sum(dim=1).numpy(), np.float32)

    return agree

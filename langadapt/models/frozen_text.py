"""A frozen text encoder over many texts: packed where it can be, in bfloat16 where that is fast."""

from collections.abc import Callable, Iterator
from functools import cache
from inspect import signature
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from langadapt.data.tokens import PackedBatch, Tokens, by_length, in_order
from langadapt.models.bfloat16 import HalfLayers, HalfPrecision, walk
from langadapt.models.device import uses_bf16
from langadapt.models.towers import Layers, chosen_layers, chosen_states, layer_states
from langadapt.nn.peft_modules import TopLayer

TextPath = Literal["packed", "padded"]

BATCH_TOKENS = 2048

"""Tokens of a forward pass: enough for the matrix units, few enough for the caches."""


class TextEngine:
    """Answers for a text encoder without gradients, as fast as the machine allows.

    Reference for both is the plain forward pass of transformers: packed float32 answers equal it to
    rounding, bfloat16 ones to a cosine of 0.9995.

    Args:
        encoder: in eval mode whenever the engine is asked; its weights may change between calls.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder
        self.half: HalfPrecision[nn.Module] = HalfPrecision(fused=self.path == "packed")

    @property
    def path(self) -> TextPath:
        """`packed`, hardly with padding, or `padded`: the plain forward pass, for families not known."""
        return "packed" if self._known() and takes_packed(self.encoder) else "padded"

    def _known(self) -> bool:
        config: Any = self.encoder.config
        return config.model_type in FAMILIES

    def precision(self, *, exact: bool) -> torch.dtype:
        """What it computes in: bfloat16 where the device has it and exactness is not asked for."""
        return torch.bfloat16 if not exact and uses_bf16(_device(self.encoder)) else torch.float32

    def batches(self, tokens: Tokens, *, batch_tokens: int = BATCH_TOKENS) -> Iterator[NDArray[np.int64]]:
        """Row numbers in the batches that `states` is fastest with, each row once."""
        cut = in_order if self.path == "packed" else by_length
        return cut(tokens.lengths, batch_tokens=batch_tokens)

    def states(
        self,
        tokens: Tokens,
        rows: NDArray[np.int64],
        layers: Layers,
        *,
        exact: bool = False,
    ) -> Tensor:
        """States of the layers that `layers` means (see `layer_states`), text by text.

        Args:
            tokens: of many texts.
            rows: which of them. On the padded path they should be of like length, on the packed one of many.
            layers: see `Layers`.
            exact: float32 whatever the device offers.

        Returns:
            `[N, L, H]`, the N tokens of the rows' texts, on the encoder's device, float32 or bfloat16.
        """
        encoder = self.encoder
        if self.precision(exact=exact) == torch.bfloat16:
            encoder = self.half.of(encoder)
        if self.path == "padded":
            given = tokens.batch(rows).to(_device(encoder))
            return layer_states(encoder, given.input_ids, given.mask, layers)[given.mask]

        batch = tokens.packed(rows)
        places = batch.rows.places().to(_device(encoder))
        chosen = packed_states(encoder, batch, layers)
        return torch.stack([state.flatten(0, 1).index_select(0, places) for state in chosen], dim=1)


def how_it_runs(path: TextPath, device: torch.device) -> str:
    """For people."""
    how = "texts packed, several in a row" if path == "packed" else "transformers' own forward pass, padded"
    return f"{how}, {'bfloat16' if uses_bf16(device) else 'float32'}"


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


# Families that take a finished mask of four dimensions, and positions.
_FROM_ZERO = {"bert", "distilbert", "modernbert", "chinese_clip_text_model"}

_BEHIND_PADDING = {"camembert", "roberta", "xlm-roberta", "altclip_text_model"}

FAMILIES = _FROM_ZERO | _BEHIND_PADDING

"""Model types that `packed_states` knows."""


def takes_packed(encoder: nn.Module) -> bool:
    """Whether rows may hold several texts now.

    Not for an attention that somebody else chose, which may read the mask in its own way, and not with a
    layer that tuning put on top, which attends on its own.
    """
    config: Any = encoder.config
    top = any(isinstance(module, TopLayer) for module in walk(encoder))
    return config._attn_implementation == "sdpa" and not top


def packed_states(encoder: nn.Module, batch: PackedBatch, layers: Layers) -> list[Tensor]:
    """States `[R, W, H]` of a packed batch, of the layers that `layers` means (see `layer_states`)."""
    module: Any = encoder
    config = module.config
    mask: Any = packed_mask(encoder, batch, causal=False)
    ids, positions = batch.ids.to(mask.device), _positions(config, batch).to(mask.device)
    options = {"input_ids": ids, "position_ids": positions}
    if _has_token_types(type(encoder).forward):
        # Some families would look theirs up by position.
        options["token_type_ids"] = torch.zeros_like(ids)
    fused = getattr(getattr(module, "encoder", None), "layer", None)
    if isinstance(fused, HalfLayers):
        first = module.embeddings(**options)
        states = [first, *(state.view_as(first) for state in fused(first, mask))]
        return chosen_layers(states, layers)
    if config.model_type == "modernbert":
        mask = {"full_attention": mask, "sliding_attention": _near(mask, config.sliding_window)}
    output = module(attention_mask=mask, output_hidden_states=layers != "last", **options)
    return chosen_states(output, layers)


@cache
def _has_token_types(forward: Callable[..., Any]) -> bool:
    return "token_type_ids" in signature(forward).parameters


def packed_mask(module: nn.Module, batch: PackedBatch, *, causal: bool) -> Tensor:
    """The mask of a batch where a module's weights are, of their dtype."""
    weight = next(module.parameters())
    return batch.mask(causal=causal, dtype=weight.dtype).to(weight.device)


def _positions(config: Any, batch: PackedBatch) -> Tensor:
    if config.model_type in _FROM_ZERO:
        return batch.positions
    # The tokens of a text that are padding's own (a text may spell "<pad>") take no position.
    real = (batch.ids != config.pad_token_id).long()
    first = torch.arange(batch.ids.shape[1]) - batch.positions
    before = (real.cumsum(dim=1) - real).gather(1, first)
    places: Tensor = (real.cumsum(dim=1) - before) * real + config.pad_token_id
    return places


def _near(mask: Tensor, window: int) -> Tensor:
    """The mask without tokens that are farther apart than `window`."""
    place = torch.arange(mask.shape[-1], device=mask.device)
    return mask.masked_fill((place[:, None] - place).abs() > window, float("-inf"))


# How `get_text_features` of these families pools: the end token of CLIP, the first token of the others.
_END_TOKEN, _FIRST_TOKEN = {"clip"}, {"altclip", "chinese_clip"}


def packs_texts(module: nn.Module) -> bool:
    """Whether `packed_text_rows` knows this model."""
    config: Any = module.config
    known = config.model_type in _END_TOKEN | _FIRST_TOKEN
    return known and takes_packed(module.get_submodule("text_model"))


def text_parts(module: nn.Module) -> nn.ModuleDict:
    """What embeds texts, without the image tower."""
    names = ("text_model", "text_projection")
    return nn.ModuleDict({name: module.get_submodule(name) for name in names})


def packed_text_rows(parts: nn.ModuleDict, tokens: Tokens, rows: NDArray[np.int64]) -> Tensor:
    """Embeds some texts as `get_text_features` embeds them: `[len(rows), D]`, not normalised.

    Args:
        parts: of a model that `packs_texts`.
        tokens: of many texts.
        rows: which of them.
    """
    text_model = parts["text_model"]
    config: Any = text_model.config
    if config.model_type == "clip_text_model":
        pooled = _clip_end_states(text_model, tokens, rows)
    else:
        batch = tokens.packed(rows)
        (states,) = packed_states(text_model, batch, "last")
        pooled = states.flatten(0, 1)[torch.from_numpy(batch.rows.starts).to(states.device)]
    embedded: Tensor = parts["text_projection"](pooled)
    return embedded


def _clip_end_states(text_model: Any, tokens: Tokens, rows: NDArray[np.int64]) -> Tensor:
    """State of each text's end token after CLIP's last norm, `[B, H]`."""
    batch = tokens.packed(rows)
    mask = packed_mask(text_model, batch, causal=True)
    device = mask.device
    embeddings = text_model.embeddings
    # Not its own forward pass: it refuses a row of more places than one text may have tokens.
    states = embeddings.token_embedding(batch.ids.to(device))
    states = states + embeddings.position_embedding(batch.positions.to(device))
    ends = torch.from_numpy(batch.rows.starts) + _end_places(
        tokens.batch(rows).input_ids, text_model.eos_token_id
    )
    ends = ends.to(device)
    layers = text_model.encoder.layers
    if isinstance(layers, HalfLayers):
        at_ends = layers(states, mask, only=ends)[-1]
    else:
        for layer in layers:
            states = layer(states, mask, is_causal=False)
        at_ends = states.flatten(0, 1)[ends]
    out: Tensor = text_model.final_layer_norm(at_ends)
    return out


def _end_places(ids: Tensor, end_id: int) -> Tensor:
    """Which token of each row of `ids [texts, tokens]` CLIP pools."""
    # Configurations of the first CLIP models name a wrong end token; theirs is the highest number there is.
    return (ids if end_id == 2 else (ids == end_id).int()).argmax(dim=1)

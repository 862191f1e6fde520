"""The text tower of an image-text model over many texts: packed, and at its end only what is pooled."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from langadapt.data.tokens import Tokens
from langadapt.models.half_layers import HalfLayers
from langadapt.models.packing import packed_mask, packed_states, takes_packed

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

"""The text tower of an image-text model over many texts: packed, and at its end only what is pooled."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.data.tokens import PackedBatch, blocks
from langadapt.models.packing import make_packable, no_mask, packed_output, takes_packed

# How `get_text_features` of these families pools: the end token of CLIP, the first token of the others.
_END_TOKEN, _FIRST_TOKEN = {"clip"}, {"altclip", "chinese_clip"}


def make_text_packable(module: nn.Module) -> None:
    """Lets an image-text model's text tower take packed batches, if its family is known."""
    config: Any = module.config
    if config.model_type in _END_TOKEN | _FIRST_TOKEN:
        make_packable(module.get_submodule("text_model"))


def packs_texts(module: nn.Module) -> bool:
    """Whether `packed_text_rows` knows this model."""
    config: Any = module.config
    known = config.model_type in _END_TOKEN | _FIRST_TOKEN
    return known and takes_packed(module.get_submodule("text_model"))


def text_parts(module: nn.Module) -> nn.ModuleDict:
    """What embeds texts, without the image tower."""
    names = ("text_model", "text_projection")
    return nn.ModuleDict({name: module.get_submodule(name) for name in names})


def packed_text_rows(parts: nn.ModuleDict, batch: PackedBatch) -> Tensor:
    """Embeds a packed batch as `get_text_features` embeds its texts: `[B, D]`, not normalised.

    Args:
        parts: of a model that `packs_texts`.
        batch: B texts.
    """
    text_model = parts["text_model"]
    config: Any = text_model.config
    if config.model_type == "clip_text_model":
        pooled = _clip_end_states(text_model, batch)
    else:
        states = packed_output(text_model, batch, hidden_states=False).last_hidden_state[0]
        pooled = states[_first_tokens(batch).to(states.device)]
    rows: Tensor = parts["text_projection"](pooled)
    return rows


def _clip_end_states(text_model: Any, batch: PackedBatch) -> Tensor:
    """State of each text's end token after CLIP's last norm, `[B, H]`.

    The embeddings refuse more tokens than one text may have, so they are called length by length. The last
    layer's feed-forward part runs for the end tokens alone.
    """
    ids = batch.ids.to(next(text_model.parameters()).device)
    parts = blocks(ids, batch.runs)
    states = torch.cat([text_model.embeddings(input_ids=part).flatten(0, 1) for part in parts])
    for layer in text_model.encoder.layers[:-1]:
        states = layer(states[None], no_mask(ids), is_causal=True, packed_runs=batch.runs)[0]
    ends = [_end_places(part, text_model.eos_token_id) for part in parts]
    last = _last_layer(text_model.encoder.layers[-1], states, batch, ends)
    out: Tensor = text_model.final_layer_norm(last)
    return out


def _last_layer(layer: Any, states: Tensor, batch: PackedBatch, ends: list[Tensor]) -> Tensor:
    """A layer of CLIP, asked for one token of each text: `states [N, H]` to `[B, H]`."""
    attention = layer.self_attn
    chosen = torch.cat(ends) + _first_tokens(batch).to(states.device)
    normed = layer.layer_norm1(states)
    width = (attention.num_heads, attention.head_dim)
    query = attention.q_proj(normed[chosen]).unflatten(1, width).split([run.texts for run in batch.runs])
    keys, values = (
        blocks(linear(normed).unflatten(1, width), batch.runs)
        for linear in (attention.k_proj, attention.v_proj)
    )
    found = []
    for asked, key, value, end in zip(query, keys, values, ends, strict=True):
        seen = torch.arange(key.shape[1], device=end.device) <= end[:, None]
        rows = F.scaled_dot_product_attention(
            asked[:, :, None],
            key.transpose(1, 2),
            value.transpose(1, 2),
            attn_mask=seen[:, None, None],
            scale=attention.scale,
        )
        found.append(rows.flatten(1))
    x = states[chosen] + attention.out_proj(torch.cat(found))
    out: Tensor = x + layer.mlp(layer.layer_norm2(x))
    return out


def _end_places(ids: Tensor, end_id: int) -> Tensor:
    """Which token of each row of `ids [texts, tokens]` CLIP pools."""
    # Configurations of the first CLIP models name a wrong end token; theirs is the highest number there is.
    return (ids if end_id == 2 else (ids == end_id).int()).argmax(dim=1)


def _first_tokens(batch: PackedBatch) -> Tensor:
    return torch.from_numpy(batch.lengths).cumsum(0) - torch.from_numpy(batch.lengths)

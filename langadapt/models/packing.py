"""Several texts in each row of a forward pass, kept apart by the mask and by their positions.

Transformers takes both from the caller, so no layer is written anew. Which texts share a row is decided in
`data/packed_rows.py`.
"""

from collections.abc import Callable
from functools import cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from langadapt.data.packed_rows import PackedBatch
from langadapt.models.half_layers import HalfLayers
from langadapt.models.half_precision import walk
from langadapt.models.towers import Layers, chosen_layers, chosen_states
from langadapt.nn.bottleneck import TopLayer

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

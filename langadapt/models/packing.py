"""Texts of several lengths in one forward pass without padding.

The tokens of a batch are one row of `N` tokens for the model's linear layers and norms; only attention is
told where one text ends and the next begins. Transformers lets an attention function be named by the model's
configuration and hands extra arguments on to it, so no layer is written anew.
"""

from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from langadapt.data.tokens import PackedBatch, Run, blocks
from langadapt.nn.bottleneck import TopLayer

_NAME = "langadapt_packed"
# Families whose attention goes through transformers' interface and whose forward pass takes positions.
_FROM_ZERO = {"bert", "distilbert", "modernbert", "chinese_clip_text_model"}
_BEHIND_PADDING = {"camembert", "roberta", "xlm-roberta", "altclip_text_model"}
FAMILIES = _FROM_ZERO | _BEHIND_PADDING
"""Model types that `packed_output` knows."""


def make_packable(encoder: nn.Module) -> None:
    """Lets a text encoder take packed batches beside padded ones.

    Padded batches are computed as before, by PyTorch's scaled dot product attention.

    Args:
        encoder: a text encoder of transformers, as loaded. One that was given another attention keeps it.
    """
    config: Any = encoder.config
    if config._attn_implementation == "sdpa":
        AttentionInterface.register(_NAME, _attend)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
        config._attn_implementation = _NAME


def takes_packed(encoder: nn.Module) -> bool:
    """Whether it can be given a packed batch now; a layer that tuning put on top attends on its own."""
    config: Any = encoder.config
    top = any(isinstance(module, TopLayer) for module in encoder.modules())
    return config._attn_implementation == _NAME and not top


def packed_output(encoder: nn.Module, batch: PackedBatch, *, hidden_states: bool) -> Any:
    """What a text encoder says of a packed batch, as transformers returns it, with `[1, N, H]` states."""
    ids = batch.ids.to(next(encoder.parameters()).device)[None]
    positions = torch.cat([_positions(encoder, part) for part in blocks(ids[0], batch.runs)])[None]
    options: dict[str, Any] = {"output_hidden_states": hidden_states, "packed_runs": batch.runs}
    if "token_type_ids" in signature(encoder.forward).parameters:
        # Some families would cut theirs from a table that is one text long.
        options["token_type_ids"] = torch.zeros_like(ids)
    module: Any = encoder
    return module(input_ids=ids, position_ids=positions, attention_mask=no_mask(ids), **options)


def no_mask(like: Tensor) -> Tensor:
    """A finished mask, so that transformers does not build one of `[N, N]`; packed attention ignores it."""
    return torch.zeros(1, 1, 1, 1, device=like.device)


def _positions(encoder: nn.Module, ids: Tensor) -> Tensor:
    config: Any = encoder.config
    if config.model_type in _FROM_ZERO:
        return torch.arange(ids.shape[1], device=ids.device).repeat(len(ids))
    # The tokens of a text that are padding's own (a text may spell "<pad>") take no position.
    real = ids != config.pad_token_id
    places: Tensor = real.long().cumsum(dim=1) * real + config.pad_token_id
    return places.flatten()


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed_runs: list[Run] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention `[1, heads, N, d]` inside each text; of a padded batch what transformers does by itself."""
    if packed_runs is None:
        done: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **options
        )
        return done
    causal = options.get("is_causal")
    causal = bool(getattr(module, "is_causal", True) if causal is None else causal)
    window = options.get("sliding_window")
    attended, start = [], 0
    for run in packed_runs:
        end = start + run.texts * run.tokens
        shape = (query.shape[1], run.texts, run.tokens, query.shape[3])
        own = [states[0, :, start:end].reshape(shape).transpose(0, 1) for states in (query, key, value)]
        mask = _near(run.tokens, window, query.device) if window and run.tokens > window else None
        rows = F.scaled_dot_product_attention(
            own[0], own[1], own[2], mask, scale=options.get("scaling"), is_causal=causal and mask is None
        )
        attended.append(rows.transpose(1, 2).flatten(0, 1))
        start = end
    return torch.cat(attended)[None], None


def _near(tokens: int, window: int, device: torch.device) -> Tensor:
    place = torch.arange(tokens, device=device)
    return (place[:, None] - place).abs() < window

"""A frozen text encoder over many texts: packed where it can be, in bfloat16 where that is fast."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from langadapt.data.tokens import Tokens, by_length, in_order
from langadapt.models.device import uses_bf16
from langadapt.models.half_precision import HalfPrecision
from langadapt.models.packing import FAMILIES, packed_states, takes_packed
from langadapt.models.towers import Layers, layer_states

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

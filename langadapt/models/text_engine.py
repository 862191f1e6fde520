"""A frozen text encoder over many texts: packed where it can be, in bfloat16 where that is fast."""

import copy
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from langadapt.data.tokens import PackedBatch
from langadapt.models.device import has_bf16
from langadapt.models.packing import FAMILIES, make_packable, packed_output, takes_packed
from langadapt.models.towers import chosen_states, layer_states

Module = TypeVar("Module", bound=nn.Module)
TextPath = Literal["packed", "padded"]


class TextEngine:
    """Answers for a text encoder without gradients, as fast as the machine allows.

    Reference for both is the plain forward pass of transformers: packed float32 answers equal it to
    rounding, bfloat16 ones to a cosine of 0.9995.

    Args:
        encoder: in eval mode whenever the engine is asked; its weights may change between calls.
        pad_id: fills padded batches.
    """

    def __init__(self, encoder: nn.Module, *, pad_id: int) -> None:
        self.encoder = encoder
        self.pad_id = pad_id
        self.half: HalfPrecision[nn.Module] = HalfPrecision()
        if self._known():
            make_packable(encoder)

    @property
    def path(self) -> TextPath:
        """`packed` without padding, or `padded`: the plain forward pass, for families that are not known."""
        return "packed" if self._known() and takes_packed(self.encoder) else "padded"

    def _known(self) -> bool:
        config: Any = self.encoder.config
        return config.model_type in FAMILIES

    def precision(self, *, exact: bool) -> torch.dtype:
        """What it computes in: bfloat16 where the device has it and exactness is not asked for."""
        return torch.bfloat16 if not exact and has_bf16(_device(self.encoder)) else torch.float32

    def states(self, batch: PackedBatch, layers: str | tuple[int, ...], *, exact: bool = False) -> Tensor:
        """States of the layers that `layers` means (see `layer_states`).

        Args:
            batch: N tokens of texts; texts of one length should be neighbours.
            layers: `last`, `all`, or indices.
            exact: float32 whatever the device offers.

        Returns:
            `[N, L, H]` on the encoder's device, float32 or bfloat16.
        """
        encoder = self.encoder
        if self.precision(exact=exact) == torch.bfloat16:
            encoder = self.half.of(encoder)
        if self.path == "padded":
            given = batch.padded(pad_id=self.pad_id).to(_device(encoder))
            return layer_states(encoder, given.input_ids, given.mask, layers)[given.mask]

        output = packed_output(encoder, batch, hidden_states=layers != "last")
        return chosen_states(output, layers)[0]


class HalfPrecision(Generic[Module]):
    """A bfloat16 copy of a module, made again when a weight of it has changed."""

    def __init__(self) -> None:
        self._copy: Module | None = None
        self._made_of: list[tuple[int, int]] = []

    def of(self, module: Module) -> Module:
        """The copy, in eval mode."""
        now = [(value.data_ptr(), value._version) for value in module.parameters()]
        if self._copy is None or now != self._made_of:
            self._copy, self._made_of = None, []
            self._copy = copy.deepcopy(module).eval().requires_grad_(False)
            for name, part in self._copy.named_modules():
                # Rotary angles are position times frequency: in bfloat16 far positions would point elsewhere.
                if not name.endswith("rotary_emb"):
                    _round_weights(part)
            self._made_of = now
        return self._copy


def _round_weights(module: nn.Module) -> None:
    value: Tensor
    for value in module.parameters(recurse=False):
        value.data = value.detach().to(torch.bfloat16)
    for name, value in module.named_buffers(recurse=False):
        if value.is_floating_point():
            setattr(module, name, value.to(torch.bfloat16))


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device

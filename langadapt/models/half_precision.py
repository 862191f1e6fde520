"""A frozen module in bfloat16, made again when a weight of it has changed."""

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from langadapt.models.half_layers import half_layers

Module = TypeVar("Module", bound=nn.Module)


class HalfPrecision(Generic[Module]):
    """A bfloat16 copy of a module.

    Args:
        fused: in place of the list of layers stands `HalfLayers` where the family is known; only for who
            calls the layers by themselves.
    """

    def __init__(self, *, fused: bool) -> None:
        self._fused = fused
        self._copy: Module | None = None
        self._made_of: list[tuple[int, int]] = []

    def of(self, module: Module) -> Module:
        """The copy, in eval mode."""
        now = [
            (value.data_ptr(), value._version)
            for part in walk(module)
            for value in part._parameters.values()
            if value is not None
        ]
        if self._copy is None or now != self._made_of:
            self._copy, self._made_of = None, []
            self._copy = _rounded(module, fused=self._fused)
            self._made_of = now
        return self._copy


def walk(module: nn.Module) -> list[nn.Module]:
    """A module and all inside it, one that is there twice twice; quicker than `Module.modules`."""
    found = [module]
    for part in found:  # which grows meanwhile
        found.extend(child for child in part._modules.values() if child is not None)
    return found


def _rounded(module: Module, *, fused: bool) -> Module:
    """A copy in which every weight is bfloat16; the float32 ones are not copied on the way."""
    memo: dict[int, Any] = {}
    parts: list[tuple[str, nn.Module]] = [("", module)]
    for name, part in parts:  # which grows meanwhile
        layers = half_layers(part) if fused else None
        if layers is not None:
            memo[id(layers[0])] = layers[1]
        for below, child in part.named_children():
            if id(child) not in memo:
                parts.append((below, child))
        # Rotary angles are position times frequency: in bfloat16 far positions would point elsewhere.
        if name == "rotary_emb":
            continue
        for weight in part.parameters(recurse=False):
            memo[id(weight)] = nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=False)
        for value in part.buffers(recurse=False):
            memo[id(value)] = value.to(torch.bfloat16) if value.is_floating_point() else value
    return copy.deepcopy(module, memo).eval()

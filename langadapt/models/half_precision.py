"""A frozen module in bfloat16, its matrices in the layout in which the processor multiplies them."""

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import QuickGELUActivation

Module = TypeVar("Module", bound=nn.Module)
_QUICK = 1.702
_ROWS = 2048


class HalfPrecision(Generic[Module]):
    """A bfloat16 copy of a module, made again when a weight of it has changed.

    Args:
        prepacked: matrices may be replaced by the processor's own layout of them; only for a module of a
            known family, which reads no weight of its linear maps itself.
    """

    def __init__(self, *, prepacked: bool) -> None:
        self._prepacked = prepacked
        self._copy: Module | None = None
        self._made_of: list[tuple[int, int]] = []

    def of(self, module: Module) -> Module:
        """The copy, in eval mode."""
        now = [(value.data_ptr(), value._version) for value in module.parameters()]
        if self._copy is None or now != self._made_of:
            self._copy, self._made_of = None, []
            self._copy = _rounded(module)
            if self._prepacked and _packs(next(module.parameters()).device):
                _prepack(self._copy, module)
            self._made_of = now
        return self._copy


def _rounded(module: Module) -> Module:
    """A copy in which every weight is bfloat16; the float32 ones are not copied on the way."""
    memo: dict[int, Any] = {}
    for name, part in module.named_modules():
        # Rotary angles are position times frequency: in bfloat16 far positions would point elsewhere.
        if name.endswith("rotary_emb"):
            continue
        for weight in part.parameters(recurse=False):
            memo[id(weight)] = nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=False)
        for value in part.buffers(recurse=False):
            memo[id(value)] = value.to(torch.bfloat16) if value.is_floating_point() else value
    return copy.deepcopy(module, memo).eval()


def _packs(device: torch.device) -> bool:
    # A private operation of PyTorch, the one that its compiler calls; elsewhere the public one does.
    known = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
    return known and device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def _prepack(made: nn.Module, original: nn.Module) -> None:
    for name, part in list(made.named_modules()):
        if isinstance(getattr(part, "activation_fn", None), QuickGELUActivation):
            _scale_quick_gelu(part, original.get_submodule(name))
    for part in list(made.modules()):
        for name, child in part.named_children():
            # What tuning appended to a linear map hangs on it as a hook.
            if type(child) is nn.Linear and not child._forward_hooks:
                setattr(part, name, _PackedLinear(child))


class _PackedLinear(nn.Module):
    """A linear map whose weight lies as oneDNN wants it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """Maps `x [..., in]` to `[..., out]`."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return out


class _Swish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x, inplace=True)


def _scale_quick_gelu(made: Any, original: Any) -> None:
    """`x * sigmoid(a x)` is `silu(a x) / a`: one pass instead of three, a goes into the weights."""
    for linear, plain, factor in (
        (made.fc1, original.fc1, _QUICK),
        (made.fc2, original.fc2, 1 / _QUICK),
    ):
        linear.weight = nn.Parameter((plain.weight.detach() * factor).to(torch.bfloat16), requires_grad=False)
    bias = original.fc1.bias.detach() * _QUICK
    made.fc1.bias = nn.Parameter(bias.to(torch.bfloat16), requires_grad=False)
    made.activation_fn = _Swish()

"""Small trained modules that are put into a frozen encoder and change nothing until they have learned.

Exports carry the text of this file (`export/module_source.py`), so it imports only what they carry, too.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from langadapt.nn.transformer import TransformerLayer


class Bottleneck(nn.Module):
    """Linear to a fraction of the width, GELU, linear back, residual; starts as the identity.

    Args:
        dim: width of what it stands behind.
        reduction: divides the width; at least one unit stays.

    Source: Houlsby et al., 2019; width d/4 as in LilT (Khan and Fu, 2023), whose bottlenecks do not start as
        the identity.
    """

    added_by_tuning = True

    def __init__(self, *, dim: int, reduction: int = 4) -> None:
        super().__init__()
        self.down = nn.Linear(dim, max(1, dim // reduction))
        self.up = nn.Linear(self.down.out_features, dim)
        nn.init.normal_(self.down.weight, std=dim**-0.5)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `x [..., dim]` to `[..., dim]`."""
        out: Tensor = x + self.up(F.gelu(self.down(x)))
        return out


class TopLayer(nn.Module):
    """One more Transformer layer on a tower's last states; starts as the identity.

    Args:
        dim: width of the states; heads are as many as divide it with 32 values or more each.
    """

    added_by_tuning = True

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        heads = max(h for h in range(1, max(1, dim // 32) + 1) if dim % h == 0)
        self.inner = TransformerLayer(dim=dim, heads=heads, feedforward_dim=4 * dim, dropout=0.0)
        self.mask: Tensor | None = None
        """`[B, T]` bool of the batch that comes next; None where every token counts. The tower sets it."""
        for linear in (self.inner.attention_out, self.inner.feedforward_out):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `x [B, T, dim]` to `[B, T, dim]`."""
        mask = self.mask
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        out: Tensor = self.inner(x, mask.to(x.device))
        return out


def append(place: nn.Module, name: str, added: nn.Module) -> None:
    """Makes a module what the output of another one goes through, as its submodule of a name yet unused."""
    place.add_module(name, added)

    def through(module: nn.Module, _: object, output: Any) -> Any:
        last = module.get_submodule(name)
        return (last(output[0]), *output[1:]) if isinstance(output, tuple) else last(output)

    place.register_forward_hook(through)

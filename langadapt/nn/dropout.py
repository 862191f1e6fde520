"""Dropout whose random numbers are cheap on a CPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """Drops values while training and scales up those that stay.

    PyTorch draws one number for each value, on one core: a fifth of an adapter's step. Here one draw of 64
    bits decides over four values. Elsewhere than on a CPU it is PyTorch's own.

    Args:
        fraction: dropped values; on a CPU to 1/65,536.

    Source: Srivastava et al., 2014.
    """

    def __init__(self, fraction: float) -> None:
        super().__init__()
        self.fraction = fraction

    def forward(self, x: Tensor) -> Tensor:
        """Maps `x` of any shape to the same shape."""
        if not self.training or self.fraction == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.fraction)
        draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        steps = draws.view(torch.int16)[: x.numel()].view(x.shape)  # 65,536 values, all equally likely
        kept = (steps >= round(self.fraction * 2**16) - 2**15).to(x.dtype)
        return x * kept.mul_(1 / (1 - self.fraction))

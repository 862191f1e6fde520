"""What structured prompts are compared with: a linear probe and Tip-Adapter, on frozen image embeddings."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LinearProbe(nn.Module):
    """A linear classifier on unit image embeddings, zero at the start.

    Args:
        classes: C.
        dim: D, width of the embeddings.
    """

    def __init__(self, *, classes: int, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Maps `images [B, D]` to scores `[B, C]`."""
        scores: Tensor = self.linear(images)
        return scores


class TipAdapter(nn.Module):
    """A cache of the shots: an image near a shot gets some of that shot's class.

    Without training it is Tip-Adapter; with `keys` trained, Tip-Adapter-F.

    Args:
        shots: `[N, D]` unit image embeddings.
        labels: `[N]` int64 in [0, C).
        classes: `[C, D]` unit class embeddings of the zero-shot classifier.
        temperature: divides the zero-shot cosines.
        alpha: weight of the cache.
        beta: sharpness of the cache.

    Source: Zhang et al., 2022, eq. 4 to 6; alpha 1 and beta 5.5 are its values for ImageNet.
    """

    def __init__(
        self,
        *,
        shots: Tensor,
        labels: Tensor,
        classes: Tensor,
        temperature: float,
        alpha: float = 1.0,
        beta: float = 5.5,
    ) -> None:
        super().__init__()
        self.keys = nn.Parameter(shots.clone())
        self.register_buffer("values", F.one_hot(labels, len(classes)).to(shots.dtype))
        self.register_buffer("classes", classes)
        self.temperature, self.alpha, self.beta = temperature, alpha, beta

    def forward(self, images: Tensor) -> Tensor:
        """Maps `images [B, D]`, unit rows, to scores `[B, C]`."""
        assert isinstance(self.values, Tensor)
        assert isinstance(self.classes, Tensor)
        near = torch.exp(self.beta * (images @ self.keys.T - 1.0))
        return images @ self.classes.T / self.temperature + self.alpha * near @ self.values

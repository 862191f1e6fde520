"""Losses of distillation: plain functions of tensors."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F


def distillation_distance(student: Tensor, targets: Tensor, distance: Literal["cosine", "mse"]) -> Tensor:
    """Mean distance between student rows and the teacher's unit rows, both `[B, D]` float32: a scalar.

    `cosine` is 1 - cos; `mse` is the squared distance of the unit rows divided by D. On unit rows mse is
    2 (1 - cos) / D: the two differ in scale only.
    """
    cosine = (F.normalize(student, dim=-1) * targets).sum(dim=-1)
    scale = 1.0 if distance == "cosine" else 2.0 / targets.shape[-1]
    return scale * (1.0 - cosine).mean()


def relation_distance(student: Tensor, targets: Tensor, anchors: Tensor, temperature: float) -> Tensor:
    """How far the student's similarities to anchors are from the teacher's, a scalar.

    Each row's similarities, divided by the temperature, become a softmax over the anchors; the distance is
    the Kullback-Leibler divergence of the student's from the teacher's, mean over rows.

    `student [B, D]` float32 is not normalised, `targets [B, D]` and `anchors [A, D]` are float32 unit rows.

    Source: Fang et al., 2021 (SEED), eq. 4, with fixed anchors in place of a queue.
    """
    own = F.log_softmax(F.normalize(student, dim=-1) @ anchors.T / temperature, dim=-1)
    wanted = F.softmax(targets @ anchors.T / temperature, dim=-1)
    return F.kl_div(own, wanted, reduction="batchmean")


def info_nce(student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Contrastive loss between student and teacher rows `[B, D]` float32, both directions; a scalar.

    Rows with equal targets (the same English sentence twice) are never each other's negatives.

    Source: van den Oord et al., 2018; symmetric as in Radford et al., 2021.
    """
    logits = F.normalize(student, dim=-1) @ targets.T / temperature
    same = (targets @ targets.T) > 1.0 - 1e-6
    return softmax_contrast(logits, same.fill_diagonal_(False))


_LEAST, _MOST = 0.01, 1.0


class Temperature(nn.Module):
    """What similarities are divided by, learned within 0.01 and 1.

    For the sigmoid loss also a bias, which starts at SigLIP's -10.
    """

    def __init__(self, *, start: float, loss: Literal["softmax", "sigmoid"]) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(start)))
        self.bias = nn.Parameter(torch.tensor(-10.0)) if loss == "sigmoid" else None

    def forward(self, similarity: Tensor) -> Tensor:
        """Logits of cosine similarities, same shape."""
        with torch.no_grad():  # on the weight itself: a clamp of the value would have no gradient outside
            self.log_scale.clamp_(-math.log(_MOST), -math.log(_LEAST))
        logits = similarity * self.log_scale.exp()
        return logits if self.bias is None else logits + self.bias


def duplicates(images: Tensor, captions: Tensor) -> Tensor:
    """Pairs of a batch that share an image or caption (numbers `[B]`), no negatives: `[B, B]` bool."""
    same = (images[:, None] == images) | (captions[:, None] == captions)
    return same.fill_diagonal_(False)


def softmax_contrast(logits: Tensor, ignored: Tensor, weights: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE of a batch, a scalar.

    In `logits [B, B]`, text i against image j, the diagonal holds the pairs; what is `ignored`, `[B, B]`
    bool, is neither positive nor negative. `weights [B]` are of each pair's own terms, 1 on average; None:
    all alike.

    Source: Radford et al., 2021.
    """
    logits = logits.masked_fill(ignored, float("-inf"))
    own = torch.arange(len(logits), device=logits.device)
    if weights is None:
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    t2i, i2t = (F.cross_entropy(side, own, reduction="none") for side in (logits, logits.T))
    return (weights * (t2i + i2t)).mean() / 2


def sigmoid_contrast(logits: Tensor, ignored: Tensor, weights: Tensor | None = None) -> Tensor:
    """Each text-image pair of a batch judged by itself; arguments as in `softmax_contrast`.

    Source: Zhai et al., 2023, eq. 1 and algorithm 1: the sum over all pairs, divided by B.
    """
    sign = 2 * torch.eye(len(logits), device=logits.device) - 1
    each = -F.logsigmoid(sign * logits).masked_fill(ignored, 0.0)
    if weights is None:
        return each.sum() / len(logits)
    return (weights * (each.sum(dim=0) + each.sum(dim=1))).mean() / 2


def difficulty(logits: Tensor, ignored: Tensor, by: Literal["rank", "chance"]) -> Tensor:
    """How far each pair of a batch is from being found, 0 to 1: `[B]` float32, mean of both directions.

    Arguments as in `softmax_contrast`. `rank`: one minus the reciprocal rank, of equal ones the last;
    `chance`: one minus the softmax probability.
    """
    logits = logits.masked_fill(ignored, float("-inf"))
    own = logits.diagonal()[:, None]
    if by == "rank":
        t2i, i2t = (1.0 / (side >= own).sum(dim=1) for side in (logits, logits.T))
    else:
        t2i, i2t = (side.softmax(dim=1).diagonal() for side in (logits, logits.T))
    return (1.0 - (t2i + i2t) / 2).float().clamp(0.0, 1.0)


def gather_rows(rows: Tensor) -> Tensor:
    """Gather rows `[B, D]` of all processes, in their order, as `[processes * B, D]`, with gradients.

    Each process computes the whole loss. Its gradients for foreign rows are sent to their owners and summed,
    so that after the mean over processes a weight's gradient is that of one process with the whole batch.
    """
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return rows
    gathered: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        summed = gradients[0].contiguous().clone()
        distributed.all_reduce(summed)
        return summed.chunk(distributed.get_world_size())[distributed.get_rank()]

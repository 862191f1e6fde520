"""Losses of distillation: plain functions of tensors."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def distillation_distance(student: Tensor, targets: Tensor, distance: Literal["cosine", "mse"]) -> Tensor:
    """Mean distance between student and teacher rows.

    Args:
        student: `[B, D]` float32, not normalised.
        targets: `[B, D]` float32 unit rows.
        distance: `cosine` is 1 - cos; `mse` is the squared distance of the unit rows divided by D. On unit
            rows mse is 2 (1 - cos) / D: the two differ in scale only.

    Returns:
        Scalar.
    """
    cosine = (F.normalize(student, dim=-1) * targets).sum(dim=-1)
    scale = 1.0 if distance == "cosine" else 2.0 / targets.shape[-1]
    return scale * (1.0 - cosine).mean()


def info_nce(student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Contrastive loss between student and teacher rows of a batch, both directions.

    Rows whose targets are equal (the same English sentence twice) are never each other's negatives.

    Args:
        student: `[B, D]` float32, not normalised.
        targets: `[B, D]` float32 unit rows.
        temperature: divides the similarities.

    Returns:
        Scalar.

    Source: van den Oord et al., 2018; symmetric as in Radford et al., 2021.
    """
    logits = F.normalize(student, dim=-1) @ targets.T / temperature
    same = (targets @ targets.T) > 1.0 - 1e-6
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, float("-inf"))
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

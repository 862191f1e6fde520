"""A batch of distillation."""

from dataclasses import dataclass

from torch import Tensor

from langadapt.data.tokens import TextBatch


@dataclass(frozen=True, kw_only=True)
class DistillBatch:
    """Texts of the student and what the teacher says of their English sides.

    `targets [B, D]` float32 unit rows; `states [N, L, H]` are the frozen text model's of the N tokens, one
    text behind another, where they are known, so that only the adapter has to run.
    """

    text: TextBatch
    targets: Tensor
    states: Tensor | None = None

"""What distillation minimises, and what chooses its checkpoint."""

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from langadapt.data.distill_batch import DistillBatch
from langadapt.data.tokens import by_length
from langadapt.errors import TrainingError
from langadapt.metrics.retrieval import mean_recall_text
from langadapt.nn import distillation_distance, info_nce
from langadapt.nn.gather import gather_rows
from langadapt.recipes import DistillStage
from langadapt.training.distill_data import DistillData, Examples
from langadapt.training.loop import FitState


def distill_loss(
    model: nn.Module, batch: DistillBatch, stage: DistillStage, accelerator: Accelerator
) -> Tensor:
    """The student's distance from the teacher, and their contrast over the rows of all processes."""
    with accelerator.autocast():
        embedded = model(batch.text, batch.states)
    # Each process sees the whole batch: its rows are one another's negatives.
    targets = gather_rows(batch.targets.to(embedded.device))
    # Outside autocast: equal targets are recognised by their product, which needs float32.
    student = gather_rows(embedded.float())
    value = distillation_distance(student, targets, stage.distance)
    if stage.info_nce_weight:
        value = value + stage.info_nce_weight * info_nce(student, targets, stage.temperature)
    return value


@torch.inference_mode()
def held_out_recall(state: FitState, data: DistillData) -> float:
    """Mean of recall@1, 5 and 10, in percent, of held-out texts among the teacher's held-out English."""
    model = state.model.eval()
    examples: Examples = data.held_out
    out = torch.zeros(len(examples), data.targets.dim)
    for rows in by_length(data.tokens.lengths[examples.text], batch_tokens=8192):
        batch = data.batch(examples, rows)
        out[torch.from_numpy(np.ascontiguousarray(rows))] = model(batch.text, batch.states).float().cpu()
    if not torch.isfinite(out).all():
        raise TrainingError(
            f"the student's embeddings are not finite after step {state.step}; the last checkpoint is kept: "
            "lower distill.learning_rate or text_model.learning_rate"
        )
    return mean_recall_text(out, data.targets.take(examples.target))

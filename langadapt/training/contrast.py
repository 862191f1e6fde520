"""Contrastive training of two towers on pairs: what `tune` and `align` share."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from langadapt.data.batches import ContrastBatch
from langadapt.errors import Progress, Report
from langadapt.models.tuning import ContrastModel, Embedded
from langadapt.nn import distillation_distance
from langadapt.nn.losses import duplicates, gather_rows, sigmoid_contrast, softmax_contrast
from langadapt.recipes import ContrastStage
from langadapt.training.contrast_data import ContrastData, Share
from langadapt.training.hard_sampling import HardSampler
from langadapt.training.held_out import held_out_recall
from langadapt.training.loop import FitPlan, fit, start_fit
from langadapt.training.memory import SmallerChunks
from langadapt.training.run import RunFolder, load_checkpoint, save_checkpoint, trained_parameters


def train_contrast(
    model: ContrastModel,
    data: ContrastData,
    run: RunFolder,
    *,
    distill_weight: float,
    accelerator: Accelerator,
    checkpoint_seconds: float,
    report: Report,
    hard: HardSampler | None = None,
) -> dict[str, Any]:
    """Trains until the held-out pairs stop improving and leaves the best weights in the model.

    Args:
        model: both towers with their methods.
        data: pairs, split; its stage says how to train.
        run: folder of checkpoint and log; an interrupted run goes on where its checkpoint stands.
        distill_weight: of the distillation term; 0 leaves it out.
        accelerator: device, precision, processes.
        checkpoint_seconds: a checkpoint is written this often, and at the end of each epoch.
        report: told what is done.
        hard: draws or weighs pairs by their difficulty; None: ordinary epochs.

    Returns:
        `held_out_recall` (mR6 in percent) and `best_step`, both of the start where no step was better;
        `start_recall`, `steps`, `stopped_at`.

    Raises:
        TrainingError: the loss or the embeddings are not finite.
    """
    stage = data.stage
    share = Share(index=accelerator.process_index, count=accelerator.num_processes)
    plan = FitPlan(
        steps_per_epoch=data.steps_per_epoch,
        epochs=stage.epochs,
        warmup_fraction=stage.warmup_fraction,
        gradient_clip_norm=stage.gradient_clip_norm,
        seed=stage.seed,
    )
    state = start_fit(model, parameter_groups(model, stage), plan=plan, accelerator=accelerator)
    earlier = 0.0
    if run.checkpoint.is_file():
        best = load_checkpoint(run.checkpoint, state)
        earlier = best.pop("seconds")
        if hard is not None:
            hard.restore(run.checkpoint, best.pop("hard"))
        if accelerator.is_main_process:
            run.cut_log(state.step)
        report(Progress(stage=f"resumed at step {state.step} of {plan.steps}"))
    else:
        recall, loss_now = held_out_recall(accelerator.unwrap_model(state.model), data, step=0)
        best = {"held_out_recall": recall, "held_out_loss": loss_now, "best_step": 0, "start_recall": recall}
        report(Progress(stage=f"held-out recall (mR6) at the start: {recall:.1f} %"))

    def batches(epoch: int, first: int) -> Iterator[ContrastBatch]:
        order = None if hard is None else hard.order(epoch, first)
        return data.batches(epoch, first, share, order=order)

    def loss(trained: nn.Module, batch: ContrastBatch) -> Tensor:
        with accelerator.autocast():
            embedded = trained(batch)
        return _loss(accelerator.unwrap_model(trained), embedded, batch, stage, distill_weight, hard)

    lines: list[str] = []
    saved_at = time.monotonic()
    memory = SmallerChunks(model, report=report)
    rows_per_step = min(stage.batch_size, len(data.split.train))
    for log in fit(state, batches, loss, examples_per_step=rows_per_step, memory=memory, shown=_captions):
        if hard is not None:
            hard.learn()
        lines.append(json.dumps({"kind": "step", **asdict(log)}))
        note = f"loss {log.loss:.3f}, held-out recall {best['held_out_recall']:.1f}"
        report(Progress(stage="tune", done=log.step, total=plan.steps, note=note))
        epoch_ends = log.step % plan.steps_per_epoch == 0
        if epoch_ends:
            if hard is not None:
                lines.append(json.dumps({"kind": "sampling", "step": log.step, **hard.epoch_done()}))
            recall, loss_now = held_out_recall(accelerator.unwrap_model(state.model), data, step=log.step)
            lines.append(json.dumps({"kind": "held_out", "step": log.step, "recall": recall}))
            # Few held-out images have few different recalls: of equal ones the lower loss is better.
            if (recall, -loss_now) > (best["held_out_recall"], -best["held_out_loss"]):
                best |= {"held_out_recall": recall, "held_out_loss": loss_now, "best_step": log.step}
                if accelerator.is_main_process:
                    run.save_best(trained_parameters(accelerator.unwrap_model(state.model)))
        if epoch_ends or state.stopping or time.monotonic() - saved_at > checkpoint_seconds:
            if accelerator.is_main_process:
                run.append_log(lines)
                extra = {**best, "seconds": earlier + run.seconds}
                extra |= {} if hard is None else {"hard": hard.state()}
                save_checkpoint(run.checkpoint, state, extra=extra, kept=hard.tensors() if hard else None)
            lines, saved_at = [], time.monotonic()
        waited = log.step // plan.steps_per_epoch - math.ceil(best["best_step"] / plan.steps_per_epoch)
        if epoch_ends and waited >= stage.patience_epochs:
            break
    accelerator.wait_for_everyone()
    _put_back(accelerator.unwrap_model(state.model, keep_fp32_wrapper=False), run, best["best_step"])
    accelerator.wait_for_everyone()
    seconds = round(earlier + run.seconds, 1)
    return {**best, "steps": plan.steps, "stopped_at": state.step, "seconds": seconds}


def parameter_groups(model: ContrastModel, stage: ContrastStage) -> list[dict[str, Any]]:
    """AdamW's groups: two learning rates, decay for matrices alone, none for token embeddings."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for tuned in (model.text, model.image):
        for name, value in tuned.trained().items():
            rate = stage.pretrained_learning_rate if name in tuned.slow else stage.learning_rate
            decay = stage.weight_decay if value.dim() > 1 and name != tuned.table else 0.0
            groups.setdefault((rate, decay), []).append(value)
    groups.setdefault((stage.learning_rate, 0.0), []).extend(model.temperature.parameters())
    return [
        {"params": weights, "lr": rate, "weight_decay": decay} for (rate, decay), weights in groups.items()
    ]


def _loss(
    model: ContrastModel,
    embedded: Embedded,
    batch: ContrastBatch,
    stage: ContrastStage,
    distill_weight: float,
    hard: HardSampler | None,
) -> Tensor:
    # Outside autocast, as the ids are whole numbers and the products must not round.
    text, image = gather_rows(embedded.text.float()), gather_rows(embedded.image.float())
    ignored = duplicates(batch.image_ids, batch.caption_ids).to(text.device)
    logits = model.temperature(text @ image.T)
    contrast = softmax_contrast if stage.loss == "softmax" else sigmoid_contrast
    weights = None
    if hard is not None:
        hard.see(batch.pairs, logits, ignored)
        weights = hard.weights(batch.pairs, logits.device)
    value = contrast(logits, ignored, weights)
    if batch.parallel is not None and embedded.parallel is not None:
        targets = batch.parallel.targets.to(text.device)
        term = distillation_distance(embedded.parallel.float(), targets, "cosine")
        value = value + distill_weight * term
    return value


def _captions(batch: ContrastBatch) -> str:
    return f"images {', '.join(map(str, batch.image_ids[:5].tolist()))}, ..."


def _put_back(model: nn.Module, run: RunFolder, best_step: int) -> None:
    """Leaves the best weights in the model; those of the start where no step was better."""
    assert isinstance(model, ContrastModel)
    with torch.no_grad():
        if best_step:
            weights = run.read_best()
            for name, value in trained_parameters(model).items():
                value.copy_(weights[name])
            return
        for tuned in (model.text, model.image):
            for name, parameter in tuned.trained().items():
                parameter.copy_(tuned.start[name])

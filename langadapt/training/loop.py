"""The only optimizer loop: AdamW, linear warm-up, cosine to zero, clipping, one generator of step logs."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from langadapt.errors import TrainingError

Batch = TypeVar("Batch")


@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """Length and schedule of a run, counted in optimizer steps."""

    steps_per_epoch: int
    epochs: int
    warmup_fraction: float
    gradient_clip_norm: float
    seed: int

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.steps_per_epoch * self.epochs

    def rate_factor(self, step: int) -> float:
        """Share of the peak learning rate at a step, counted from 0."""
        warmup = max(1, round(self.warmup_fraction * self.steps))
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.steps - warmup)))


@dataclass(kw_only=True)
class FitState:
    """Everything that a run changes: the model's trained weights, the optimizer, the step."""

    model: nn.Module
    optimizer: Any
    plan: FitPlan
    accelerator: Accelerator
    step: int = 0


@dataclass(frozen=True, kw_only=True)
class StepLog:
    """One optimizer step as it is logged; `step` is the number of finished steps."""

    step: int
    epoch: int
    loss: float
    learning_rate: float
    examples_per_second: float


def start_fit(
    model: nn.Module, groups: list[dict[str, Any]], *, plan: FitPlan, accelerator: Accelerator
) -> FitState:
    """Prepares a run.

    Args:
        model: what is called in the loss.
        groups: parameter groups for AdamW, each with its peak `lr`.
        plan: length and schedule.
        accelerator: device, precision, processes.
    """
    optimizer = torch.optim.AdamW(groups, fused=accelerator.device.type in ("cpu", "cuda"))
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    prepared, optimizer = accelerator.prepare(model, optimizer)
    return FitState(model=prepared, optimizer=optimizer, plan=plan, accelerator=accelerator)


def fit(
    state: FitState,
    batches: Callable[[int, int], Iterator[Batch]],
    loss: Callable[[nn.Module, Batch], Tensor],
    *,
    examples_per_step: int,
) -> Iterator[StepLog]:
    """Runs from `state.step` to the end of the plan.

    The order of an epoch and the randomness of a step depend on the seed and their numbers alone, so that a
    resumed run equals an uninterrupted one. The caller may stop by not asking for more.

    Args:
        state: from `start_fit`, or restored.
        batches: epoch and how many of its batches to pass over, to the rest of that epoch's batches; always
            the same ones in the same order.
        loss: model and batch to a scalar; runs under the accelerator's autocast only where it asks for it.
        examples_per_step: for the rate, all processes together.

    Raises:
        TrainingError: the loss is not finite.
    """
    plan, accelerator = state.plan, state.accelerator
    busy_seconds, first = 0.0, state.step
    while state.step < plan.steps:
        epoch, done = divmod(state.step, plan.steps_per_epoch)
        started = time.perf_counter()
        for batch in batches(epoch, done):
            value = _step(state, batch, loss)
            if not math.isfinite(value):
                raise TrainingError(
                    f"the loss is {value} at step {state.step + 1}; the last checkpoint is kept: lower the "
                    "stage's learning rates (and text_model.learning_rate), or raise its temperature"
                )
            state.step += 1
            busy_seconds += time.perf_counter() - started
            yield StepLog(
                step=state.step,
                epoch=epoch,
                loss=value,
                learning_rate=state.optimizer.param_groups[0]["lr"],
                examples_per_second=(state.step - first) * examples_per_step / busy_seconds,
            )
            started = time.perf_counter()
    accelerator.wait_for_everyone()


def _step(state: FitState, batch: Batch, loss: Callable[[nn.Module, Batch], Tensor]) -> float:
    plan, accelerator = state.plan, state.accelerator
    for group in state.optimizer.param_groups:
        group["lr"] = group["peak_lr"] * plan.rate_factor(state.step)
    state.model.train()
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # Dropout takes no generator; seeding each step by its number makes any step resumable.
        torch.manual_seed(plan.seed * 1_000_003 + state.step * 1_009 + accelerator.process_index)
        value = loss(state.model, batch)
        # The mean over processes, so that all of them stop together.
        mean = float(accelerator.reduce(value.detach(), reduction="mean"))
        if not math.isfinite(mean):
            return mean
        accelerator.backward(value)
    accelerator.clip_grad_norm_(state.model.parameters(), plan.gradient_clip_norm)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    return mean

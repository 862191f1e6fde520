"""The only optimizer loop: AdamW, linear warm-up, cosine to zero, clipping, one generator of step logs."""

import math
import signal
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from langadapt.errors import Stopped, TrainingError, stops_between_steps
from langadapt.training.memory import Memory, Piece, ran_out

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
    stopping: bool = False
    """A signal came: whoever saves this state does so now, and asking for another step raises `Stopped`."""


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
    memory: Memory[Batch] | None = None,
    shown: Callable[[Batch], str] | None = None,
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
        memory: cuts what does not fit; None and several processes end the run.
        shown: what an error says of a batch.

    Raises:
        TrainingError: the loss is not finite or leaves all before it behind, or memory has run out.
        Stopped: a signal came, and the caller had the chance to save.
    """
    plan, accelerator = state.plan, state.accelerator
    busy_seconds, first = 0.0, state.step
    watch = LossWatch()
    state.model.train()
    with stops_between_steps() as noted:
        while state.step < plan.steps:
            epoch, done = divmod(state.step, plan.steps_per_epoch)
            started = time.perf_counter()
            for batch in batches(epoch, done):
                value = _step(state, batch, loss, memory, watch, shown, noted)
                state.step += 1
                busy_seconds += time.perf_counter() - started
                yield StepLog(
                    step=state.step,
                    epoch=epoch,
                    loss=value,
                    learning_rate=state.optimizer.param_groups[0]["lr"],
                    examples_per_second=(state.step - first) * examples_per_step / busy_seconds,
                )
                if state.stopping and state.step < plan.steps:
                    accelerator.wait_for_everyone()
                    raise Stopped(noted() or signal.SIGTERM, f"step {state.step} of {plan.steps} is done")
                started = time.perf_counter()
    accelerator.wait_for_everyone()


class LossWatch:
    """Knows the losses of a run, or of its part since it was resumed.

    A spike is a loss of more than 10 times the median of the last 64 that is also above every one of the
    first 8: the step would make the model worse than it was before it learned anything. Fewer than 32 losses
    are no ground to judge on.
    """

    def __init__(self) -> None:
        self._first: list[float] = []
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def is_spike(self, loss: float) -> bool:
        """Whether a step's loss is one; it is remembered if it is not."""
        usual = self.usual
        if usual is not None and loss > _TIMES * usual and loss > max(self._first):
            return True
        if len(self._first) < _BEGINNING:
            self._first.append(loss)
        self._recent.append(loss)
        return False

    @property
    def usual(self) -> float | None:
        """Median of the last losses; None where there are too few."""
        return statistics.median(self._recent) if len(self._recent) >= _LEAST else None


def _step(
    state: FitState,
    batch: Batch,
    loss: Callable[[nn.Module, Batch], Tensor],
    memory: Memory[Batch] | None,
    watch: LossWatch,
    shown: Callable[[Batch], str] | None,
    noted: Callable[[], int],
) -> float:
    plan, accelerator = state.plan, state.accelerator
    for group in state.optimizer.param_groups:
        group["lr"] = group["peak_lr"] * plan.rate_factor(state.step)
    if not state.model.training:  # the caller has scored it
        state.model.train()
    while True:
        pieces = [Piece(batch, 1.0)] if memory is None else memory.pieces(batch)
        try:
            value = _gradients(state, pieces, loss, noted)
            break
        except RuntimeError as error:
            if not ran_out(error):
                raise
            problem = str(error).partition(". ")[0]
        # Outside the handler: the error holds the tensors of the failed try.
        state.optimizer.zero_grad(set_to_none=True)
        if accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
        if accelerator.num_processes > 1 or memory is None or not memory.shrink(batch):
            raise TrainingError(
                f"out of memory at {_place(state, batch, shown)} ({problem}); lower the stage's batch_size "
                "or max_tokens; the last checkpoint is kept"
            )
    spike = math.isfinite(value) and watch.is_spike(value)
    if spike or not math.isfinite(value):
        state.optimizer.zero_grad(set_to_none=True)
        jump = f", and the median of those before is {watch.usual:.4g}" if spike else ""
        raise TrainingError(
            f"the loss is {value:.4g} at {_place(state, batch, shown)}{jump}; the step was not taken and the "
            "last checkpoint is kept: lower the stage's learning rates (and text_model.learning_rate), or "
            "raise its temperature"
        )
    trained = [weight for group in state.optimizer.param_groups for weight in group["params"]]
    accelerator.clip_grad_norm_(trained, plan.gradient_clip_norm)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    return value


def _gradients(
    state: FitState,
    pieces: Sequence[Piece[Batch]],
    loss: Callable[[nn.Module, Batch], Tensor],
    noted: Callable[[], int],
) -> float:
    """Adds up the gradients of a step and returns its loss; where it is not finite there are none."""
    plan, accelerator = state.plan, state.accelerator
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    total = 0.0
    with torch.random.fork_rng(devices=devices):
        # Dropout takes no generator; seeding each step by its number makes any step resumable.
        torch.manual_seed(plan.seed * 1_000_003 + state.step * 1_009 + accelerator.process_index)
        for piece in pieces:
            value = loss(state.model, piece.batch)
            value = value if piece.share == 1.0 else value * piece.share
            # The mean over processes, so that all of them stop together.
            signal_came = torch.tensor(float(noted() > 0), device=value.device)
            told = accelerator.reduce(torch.stack([value.detach().float(), signal_came]), reduction="mean")
            mean, stopping = (float(number) for number in told)
            state.stopping = state.stopping or stopping > 0
            total += mean
            if not math.isfinite(mean):
                return total
            accelerator.backward(value)
    return total


def _place(state: FitState, batch: Batch, shown: Callable[[Batch], str] | None) -> str:
    """Which step, and what is in its batch."""
    epoch, done = divmod(state.step, state.plan.steps_per_epoch)
    text = f"step {state.step + 1} (batch {done + 1} of epoch {epoch + 1}"
    return f"{text}: {shown(batch)})" if shown else f"{text})"


_BEGINNING, _RECENT, _LEAST, _TIMES = 8, 64, 32, 10.0

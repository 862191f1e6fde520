"""The only optimizer loop: AdamW, linear warm-up, cosine to zero, clipping, one generator of step logs."""

import math
import signal
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from langadapt.errors import Stopped, TrainingError, stops_between_steps
from langadapt.files.atomic import write_text
from langadapt.files.json import parse_json
from langadapt.recipes import ContrastStage, DistillStage
from langadapt.recipes.stages import FewShotStage

Batch = TypeVar("Batch")


@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """Length and schedule of a run, counted in optimizer steps."""

    steps_per_epoch: int
    epochs: int
    warmup_fraction: float
    gradient_clip_norm: float
    seed: int

    @classmethod
    def of(cls, spec: DistillStage | ContrastStage | FewShotStage, epochs: int, steps_per_epoch: int) -> Self:
        """The plan of a recipe's stage."""
        own = {name: getattr(spec, name) for name in ("warmup_fraction", "gradient_clip_norm", "seed")}
        return cls(steps_per_epoch=steps_per_epoch, epochs=epochs, **own)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    def rate_factor(self, step: int) -> float:
        """Share of the peak learning rate at a step, counted from 0."""
        warmup = max(1, round(self.warmup_fraction * self.steps))
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.steps - warmup)))


class MicroBatch(NamedTuple, Generic[Batch]):
    """A part of a batch and its share of the batch's loss."""

    batch: Batch
    share: float


class Validation(NamedTuple):
    """Recall on the held-out rows in percent, and their loss."""

    recall: float
    loss: float = 0.0


class Sampler(Protocol):
    """State that draws the batches and `learn`s what each step measured; checkpoints keep its tensors.

    `epoch_done` begins a new epoch and returns what the log keeps of the last one.
    """

    def learn(self) -> None: ...
    def epoch_done(self) -> dict[str, list[float]]: ...
    def tensors(self) -> dict[str, Tensor]: ...
    def restore(self, tensors: dict[str, Tensor]) -> None: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage(Generic[Batch]):
    """One way of training: all that differs between stages. `fit` runs it, `run.train` also saves it."""

    name: str
    module: nn.Module
    """What is called in the loss; its parameters with `requires_grad` are saved."""
    groups: list[dict[str, Any]]
    """Parameter groups for AdamW, each with its peak `lr`."""
    plan: FitPlan
    batches: Callable[[int, int], Iterator[Batch]]
    """Epoch and how many of its batches to pass over, to the rest of that epoch's batches; always the same
    ones in the same order."""
    loss: Callable[[nn.Module, Batch], Tensor]
    """Module and batch to a scalar; uses autocast only where it asks for it."""
    examples_per_step: int
    """Of all processes together."""
    shrink: Callable[[Batch], bool] | None = None
    """Out-of-memory recovery: make the next try smaller and report it; False where it cannot be smaller.
    None: running out of memory ends the run, as it does with several processes."""
    micro_batches: Callable[[Batch], list[MicroBatch[Batch]]] = lambda batch: [MicroBatch(batch, 1.0)]
    """Split a batch into what runs one after the other; the gradients are added up."""
    describe: Callable[[Batch], str] | None = None
    """What an error says of a batch."""
    validate: Callable[[nn.Module, int], Validation] | None = None
    """Module and step to what chooses the checkpoint, at the end of each epoch."""
    chosen_by_loss: bool = False
    """The lower held-out loss decides which checkpoint is the best, and of equal ones the higher recall; else
    the other way round."""
    patience_epochs: int | None = None
    """Stop after so many epochs without a better validation than the best, the start included. None: run the
    whole plan, and do not validate the start."""
    sampler: Sampler | None = None

    def is_better(self, found: Validation, best: dict[str, Any]) -> bool:
        """Compare a validation with the facts of the best one."""
        ranks = [(found.recall, -found.loss), (best["held_out_recall"], -best.get("held_out_loss", math.inf))]
        new, old = [rank[::-1] for rank in ranks] if self.chosen_by_loss else ranks
        return new > old


@dataclass(kw_only=True)
class FitState(Generic[Batch]):
    """Everything that a run changes: the module's trained weights, the optimizer, the step."""

    stage: Stage[Batch]
    model: nn.Module
    optimizer: Any
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


def log_entries(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Entries of a run's log, of kind `step`, `held_out` or `sampling`; a damaged line is a TrainingError."""
    path = folder / "log.jsonl"
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            entry = parse_json(line)
            own = entry.pop("kind") == kind
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(f"{path}: line {number} is damaged; remove the line") from error
        if own:
            yield entry


def read_log(folder: Path) -> tuple[list[StepLog], dict[int, float]]:
    """Step logs of a run, and held-out recall by step."""
    recalls = {entry["step"]: entry["recall"] for entry in log_entries(folder, "held_out")}
    return [StepLog(**entry) for entry in log_entries(folder, "step")], recalls


def cut_log(path: Path, step: int) -> None:
    """Remove what was logged after the checkpoint at `step`: those steps are done again."""
    kept: list[str] = []
    raw = path.read_bytes() if path.is_file() else b""
    for line in raw.splitlines():
        try:
            if parse_json(line)["step"] > step:
                break
        except (KeyError, TypeError, ValueError):
            break  # half a line, where the process was killed
        kept.append(line.decode("utf-8") + "\n")
    write_text(path, "".join(kept))


def parameter_groups(weights: Iterable[tuple[nn.Parameter, float, float]]) -> list[dict[str, Any]]:
    """Group weights, each with its peak learning rate and its weight decay, as AdamW takes them."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for value, rate, decay in weights:
        groups.setdefault((rate, decay), []).append(value)
    return [{"params": values, "lr": rate, "weight_decay": decay} for (rate, decay), values in groups.items()]


def start_fit(stage: Stage[Batch], accelerator: Accelerator) -> FitState[Batch]:
    """Prepare module and optimizer of a stage for a device, a precision and several processes."""
    optimizer = torch.optim.AdamW(stage.groups, fused=accelerator.device.type in ("cpu", "cuda"))
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    model, optimizer = accelerator.prepare(stage.module, optimizer)
    return FitState(stage=stage, model=model, optimizer=optimizer, accelerator=accelerator)


def fit(state: FitState[Batch]) -> Iterator[StepLog]:
    """Run a stage from `state.step` to the end of its plan; the caller may stop by not asking for more.

    The order of an epoch and the randomness of a step depend on the seed and their numbers alone, so that a
    resumed run equals an uninterrupted one.

    Raises:
        TrainingError: the loss is not finite or spikes, or memory has run out.
        Stopped: a signal came, and the caller had the chance to save.
    """
    stage, accelerator = state.stage, state.accelerator
    plan = stage.plan
    busy_seconds, first = 0.0, state.step
    watch = LossWatch()
    state.model.train()
    with stops_between_steps() as noted:
        while state.step < plan.steps:
            epoch, done = divmod(state.step, plan.steps_per_epoch)
            started = time.perf_counter()
            for batch in stage.batches(epoch, done):
                loss = _step(state, batch, watch, noted)
                state.step += 1
                busy_seconds += time.perf_counter() - started
                yield StepLog(
                    step=state.step,
                    epoch=epoch,
                    loss=loss,
                    learning_rate=state.optimizer.param_groups[0]["lr"],
                    examples_per_second=(state.step - first) * stage.examples_per_step / busy_seconds,
                )
                if state.stopping and state.step < plan.steps:
                    accelerator.wait_for_everyone()
                    raise Stopped(noted() or signal.SIGTERM, f"step {state.step} of {plan.steps} is done")
                started = time.perf_counter()
    accelerator.wait_for_everyone()


_FIRST_LOSSES, _RECENT_LOSSES, _LEAST_LOSSES, _SPIKE_FACTOR = 8, 64, 32, 10.0


class LossWatch:
    """Find spikes among the losses of a run, or of its part since it was resumed.

    A spike is a loss of more than 10 times the median of the last 64, of at least 32, that is also above each
    of the first 8: the step would make the model worse than it was before it learned anything.
    """

    def __init__(self) -> None:
        self._first: list[float] = []
        self._recent: deque[float] = deque(maxlen=_RECENT_LOSSES)

    def is_spike(self, loss: float) -> bool:
        """Whether a step's loss is a spike; remember it if it is not."""
        median = self.median
        if median is not None and loss > _SPIKE_FACTOR * median and loss > max(self._first):
            return True
        if len(self._first) < _FIRST_LOSSES:
            self._first.append(loss)
        self._recent.append(loss)
        return False

    @property
    def median(self) -> float | None:
        """Median of the last losses; None where there are too few."""
        return statistics.median(self._recent) if len(self._recent) >= _LEAST_LOSSES else None


def _step(state: FitState[Batch], batch: Batch, watch: LossWatch, noted: Callable[[], int]) -> float:
    plan, accelerator = state.stage.plan, state.accelerator
    for group in state.optimizer.param_groups:
        group["lr"] = group["peak_lr"] * plan.rate_factor(state.step)
    if not state.model.training:  # the caller has validated it
        state.model.train()
    loss = _fitting_gradients(state, batch, noted)
    spike = math.isfinite(loss) and watch.is_spike(loss)
    if spike or not math.isfinite(loss):
        state.optimizer.zero_grad(set_to_none=True)
        jump = f", and the median of those before is {watch.median:.4g}" if spike else ""
        raise TrainingError(
            f"the loss is {loss:.4g} at {_position(state, batch)}{jump}; the step was not taken and the "
            "last checkpoint is kept: lower the stage's learning rates (and text_model.learning_rate), or "
            "raise its temperature"
        )
    trained = [weight for group in state.optimizer.param_groups for weight in group["params"]]
    accelerator.clip_grad_norm_(trained, plan.gradient_clip_norm)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    return loss


def _fitting_gradients(state: FitState[Batch], batch: Batch, noted: Callable[[], int]) -> float:
    """Out-of-memory recovery: split the batch until its gradients fit."""
    accelerator, shrink = state.accelerator, state.stage.shrink
    while True:
        try:
            return _gradients(state, state.stage.micro_batches(batch), noted)
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error)):
                raise
            problem = str(error).partition(". ")[0]
        # Outside the handler: the error holds the tensors of the failed try.
        state.optimizer.zero_grad(set_to_none=True)
        if accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
        if accelerator.num_processes > 1 or shrink is None or not shrink(batch):
            raise TrainingError(
                f"out of memory at {_position(state, batch)} ({problem}); lower the stage's batch_size "
                "or max_tokens; the last checkpoint is kept"
            )


def _gradients(state: FitState[Batch], parts: list[MicroBatch[Batch]], noted: Callable[[], int]) -> float:
    """Add up the gradients of a step and return its loss; where it is not finite there are none."""
    accelerator = state.accelerator
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    total = 0.0
    with torch.random.fork_rng(devices=devices):
        # Dropout takes no generator; seeding each step by its number makes any step resumable.
        torch.manual_seed(state.stage.plan.seed * 1_000_003 + state.step * 1_009 + accelerator.process_index)
        for part in parts:
            loss = state.stage.loss(state.model, part.batch)
            loss = loss if part.share == 1.0 else loss * part.share
            # The mean over processes, so that all of them stop together.
            signal_came = torch.tensor(float(noted() > 0), device=loss.device)
            means = accelerator.reduce(torch.stack([loss.detach().float(), signal_came]), reduction="mean")
            mean, stopping = map(float, means.tolist())
            state.stopping = state.stopping or stopping > 0
            total += mean
            if not math.isfinite(mean):
                return total
            accelerator.backward(loss)
    return total


def _position(state: FitState[Batch], batch: Batch) -> str:
    epoch, done = divmod(state.step, state.stage.plan.steps_per_epoch)
    text = f"step {state.step + 1} (batch {done + 1} of epoch {epoch + 1}"
    return f"{text}: {state.stage.describe(batch)})" if state.stage.describe else f"{text})"

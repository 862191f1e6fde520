"""The only optimizer loop: AdamW, linear warm-up, cosine to zero, clipping, one generator of step logs."""

import math
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from langadapt.errors import LangadaptWarning, Stopped, TrainingError, stops_between_steps
from langadapt.training.log import StepLog
from langadapt.training.plan import FitPlan
from langadapt.training.replay import Recorder, Replay, lacks_memory, recorder_for, seeded
from langadapt.training.watch import LossWatch, Seen

Batch = TypeVar("Batch")


class MicroBatch(NamedTuple, Generic[Batch]):
    """A part of a batch and its share of the batch's loss."""

    batch: Batch
    share: float


class Validation(NamedTuple):
    """Recall on the held-out rows in percent, and their loss."""

    recall: float
    loss: float = 0.0
    languages: dict[str, float] | None = None
    """Recall of each language, where several are learned together."""

    @property
    def recalls(self) -> dict[str, Any]:
        """What the log keeps: `recall`, and `languages` where there are several."""
        return {"recall": self.recall} | ({"languages": self.languages} if self.languages else {})


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
    loss: Callable[[nn.Module, Any], Tensor]
    """Module and prepared batch to a scalar; uses autocast only where it asks for it."""
    examples_per_step: int
    """Of all processes together."""
    shrink: Callable[[Batch], bool] | None = None
    """Out-of-memory recovery: make the next try smaller and report it; False where it cannot be smaller.
    None: running out of memory ends the run, as it does with several processes."""
    micro_batches: Callable[[Batch], list[MicroBatch[Batch]]] = lambda batch: [MicroBatch(batch, 1.0)]
    """Split a batch into what runs one after the other; the gradients are added up."""
    prepare: Callable[[Batch], Any] = lambda batch: batch
    """Bring a batch, or a part of one, to where `loss` works."""
    recordable: bool = False
    """`prepare` makes named tuples of tensors of few shapes, of which `loss` needs no value on the host."""
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
    read_every: int = 1
    """A device that runs ahead of the host tells its losses after so many steps, and at the end of an epoch;
    a bad loss stops the weights at once. Anything but 1 needs the fused optimizer."""
    recorder: Recorder | None = None
    """Of a device that runs ahead; None once it has run out of memory."""

    def set_rates(self) -> None:
        """Set the learning rates of the next step."""
        factor = self.stage.plan.rate_factor(self.step)
        for group in self.optimizer.param_groups:
            rate = group["peak_lr"] * factor
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    @property
    def trained(self) -> list[nn.Parameter]:
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]


def parameter_groups(weights: Iterable[tuple[nn.Parameter, float, float]]) -> list[dict[str, Any]]:
    """Group weights, each with its peak learning rate and its weight decay, as AdamW takes them."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for value, rate, decay in weights:
        groups.setdefault((rate, decay), []).append(value)
    return [{"params": values, "lr": rate, "weight_decay": decay} for (rate, decay), values in groups.items()]


_READ_EVERY = 16


def start_fit(stage: Stage[Batch], accelerator: Accelerator) -> FitState[Batch]:
    """Prepare module and optimizer of a stage for a device, a precision and several processes."""
    device = accelerator.device
    on_cuda = device.type == "cuda"
    ahead = on_cuda and stage.sampler is None
    fused = device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(stage.groups, fused=fused, capturable=on_cuda)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
        if on_cuda:  # a number would be part of a recording
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=device)
    model, optimizer = accelerator.prepare(stage.module, optimizer)
    return FitState(
        stage=stage,
        model=model,
        optimizer=optimizer,
        accelerator=accelerator,
        read_every=_READ_EVERY if ahead else 1,
        recorder=recorder_for(device)
        if ahead and stage.recordable and accelerator.num_processes == 1
        else None,
    )


def fit(state: FitState[Batch]) -> Iterator[StepLog]:
    """Run a stage from `state.step` to the end of its plan; the caller may stop by not asking for more.

    The order of an epoch and the randomness of a step depend on the seed and their numbers alone, so that a
    resumed run equals an uninterrupted one. Weights and `state.step` are those of the last step that was
    taken; where the device runs ahead (`read_every`), logs of the steps before it come first.

    Raises:
        TrainingError: the loss is not finite or spikes, or memory has run out.
        Stopped: a signal came, and the caller had the chance to save.
    """
    stage, accelerator = state.stage, state.accelerator
    plan = stage.plan
    peak = state.optimizer.param_groups[0]["peak_lr"]
    busy_seconds, first = 0.0, state.step
    state.model.train()
    with stops_between_steps() as noted:
        steps = _Steps(state, noted)
        while state.step < plan.steps:
            epoch, done = divmod(state.step, plan.steps_per_epoch)
            started = time.perf_counter()
            for batch in stage.batches(epoch, done):
                losses = steps.take(batch)
                busy_seconds += time.perf_counter() - started
                for step, loss in enumerate(losses, start=state.step - len(losses) + 1):
                    yield StepLog(
                        step=step,
                        epoch=epoch,
                        loss=loss,
                        learning_rate=peak * plan.rate_factor(step - 1),
                        examples_per_second=(state.step - first) * stage.examples_per_step / busy_seconds,
                    )
                if state.stopping and state.step < plan.steps:
                    accelerator.wait_for_everyone()
                    raise Stopped(noted() or signal.SIGTERM, f"step {state.step} of {plan.steps} is done")
                started = time.perf_counter()
    accelerator.wait_for_everyone()


class _Steps(Generic[Batch]):
    """Takes the steps of a run, and reads their losses when they are due."""

    def __init__(self, state: FitState[Batch], noted: Callable[[], int]) -> None:
        self._state, self._noted, self._unread = state, noted, 0
        self._watch = LossWatch(state.accelerator.device, rows=state.read_every)
        self._alone, self._judged = state.accelerator.num_processes == 1, False
        self._ahead = state.read_every > 1
        if self._ahead:  # the fused optimizer passes over a step, and counts none, where this is 1
            state.optimizer.optimizer.found_inf = self._watch.broken
        self._replay: Replay | None = None
        if self._ahead and state.recorder is not None:
            learn = lambda batch: self._judge(self._gradients([(batch, 1.0)]))  # noqa: E731
            self._replay = Replay(learn, state.recorder, changes=state.trained)

    def take(self, batch: Batch) -> list[float]:
        """Take a step; return the losses that are known now and were not before."""
        state = self._state
        plan = state.stage.plan
        state.set_rates()
        if not state.model.training:  # the caller has validated it
            state.model.train()
        self._learn_what_fits(batch)
        self._unread += 1
        if not self._ahead:
            losses = self._read(batch)
            self._update()
            state.step += 1
            return losses
        state.step += 1
        stop = self._alone and self._noted() > 0
        due = state.step % plan.steps_per_epoch == 0 or self._unread == state.read_every or stop
        return self._read(batch) if due else []

    def _read(self, batch: Batch) -> list[float]:
        """Read what was not read; raise for a bad loss, with `state.step` at the step before it."""
        state = self._state
        seen, first = self._watch.read(self._unread), state.step - (self._unread if self._ahead else 0)
        self._unread = 0
        for number, step in enumerate(seen):
            if step.broken:
                state.step = first + number
                if number < len(seen) - 1:  # not this batch's step; batches come again as they were
                    batch = next(state.stage.batches(*divmod(state.step, state.stage.plan.steps_per_epoch)))
                state.optimizer.zero_grad(set_to_none=True)
                raise _bad_loss(state, batch, step)
        state.stopping = (
            state.stopping or any(step.stop for step in seen) or (self._alone and self._noted() > 0)
        )
        return [step.loss for step in seen]

    def _learn_what_fits(self, batch: Batch) -> None:
        """Out-of-memory recovery: give up the recordings, then split the batch until its gradients fit."""
        state = self._state
        stage, device = state.stage, state.accelerator.device
        seed = stage.plan.seed * 1_000_003 + state.step * 1_009 + state.accelerator.process_index
        while True:
            try:
                # Dropout takes no generator; seeding each step by its number makes any step resumable.
                with seeded(seed, device):
                    total = self._try(batch)
                break
            except RuntimeError as error:
                if not lacks_memory(error):
                    raise
                problem = str(error).partition(". ")[0]
            # Outside the handler: the error holds the tensors of the failed try.
            recorded, self._replay, state.recorder = self._replay is not None, None, None
            if not self._judged:
                state.optimizer.zero_grad(set_to_none=True)
                if device.type == "cuda":
                    torch.cuda.empty_cache()
                if recorded:
                    told = f"{problem}: steps are recorded no longer, which is slower and learns the same"
                    warnings.warn(told, LangadaptWarning, stacklevel=2)
                    continue
                if self._alone and stage.shrink is not None and stage.shrink(batch):
                    continue
            raise TrainingError(
                f"out of memory at {_position(state, batch)} ({problem}); lower the stage's batch_size "
                "or max_tokens; the last checkpoint is kept"
            )
        if total is not None:
            self._judge(total)

    def _try(self, batch: Batch) -> Tensor | None:
        """Return what the gradients of a step leave to `_judge`; None where a recorded step did all."""
        stage, self._judged = self._state.stage, False
        parts = stage.micro_batches(batch)
        if self._replay is None or len(parts) > 1:
            return self._gradients((stage.prepare(part.batch), part.share) for part in parts)
        try:
            self._replay(stage.prepare(parts[0].batch))
        finally:
            self._judged = self._judged and not self._replay.recording
        return None

    def _gradients(self, parts: Iterable[tuple[Any, float]]) -> Tensor:
        """Add up the gradients of a step; return its loss and the share of processes that are to stop."""
        state = self._state
        accelerator = state.accelerator
        # The mean over processes, so that all of them stop together.
        total = torch.zeros(2, device=accelerator.device)
        for batch, share in parts:
            loss = state.stage.loss(state.model, batch)
            loss = loss if share == 1.0 else loss * share
            total[0] += loss.detach().float()
            accelerator.backward(loss)
        if not self._alone:
            total[1] = float(self._noted() > 0)
            total = accelerator.reduce(total, reduction="mean")
        return total

    def _judge(self, total: Tensor) -> None:
        """Judge a loss; a device that runs ahead also updates. From here on no step can be tried again."""
        self._judged = True
        self._watch.see(total[0], total[1])
        if self._ahead:
            self._update()

    def _update(self) -> None:
        state = self._state
        state.accelerator.clip_grad_norm_(state.trained, state.stage.plan.gradient_clip_norm)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)


def _bad_loss(state: FitState[Batch], batch: Batch, seen: Seen) -> TrainingError:
    spike = math.isfinite(seen.loss)
    jump = f", and the median of those before is {seen.median:.4g}" if spike else ""
    return TrainingError(
        f"the loss is {seen.loss:.4g} at {_position(state, batch)}{jump}; the step was not taken and the "
        "last checkpoint is kept: lower the stage's learning rates (and text_model.learning_rate), or "
        "raise its temperature"
    )


def _position(state: FitState[Batch], batch: Batch) -> str:
    epoch, done = divmod(state.step, state.stage.plan.steps_per_epoch)
    text = f"step {state.step + 1} (batch {done + 1} of epoch {epoch + 1}"
    return f"{text}: {state.stage.describe(batch)})" if state.stage.describe else f"{text})"

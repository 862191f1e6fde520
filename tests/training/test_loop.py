"""The optimizer loop against a plain loop, its schedule as a table, and its promises to the caller."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple
from unittest import mock

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from langadapt.doctor.timing import seconds_of_step
from langadapt.errors import LangadaptWarning, TrainingError
from langadapt.training import FitPlan, FitState, Stage, fit
from langadapt.training.loop import _Steps, start_fit
from langadapt.training.watch import LossWatch

Loss = Callable[[nn.Module, Tensor], Tensor]
PLAN = FitPlan(steps_per_epoch=4, epochs=3, warmup_fraction=0.25, gradient_clip_norm=0.5, seed=3)


def linear() -> nn.Linear:
    module = nn.Linear(3, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -2.0, 0.5]]))
        module.bias.zero_()
    return module


def batches(epoch: int, first: int = 0) -> Iterator[Tensor]:
    for number in range(first, PLAN.steps_per_epoch):
        yield torch.randn(5, 3, generator=torch.Generator().manual_seed(100 * epoch + number))


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().mean()


def start(module: nn.Module, loss: Loss = loss, **more: Any) -> FitState[Tensor]:
    groups = [
        {"params": [module.weight], "lr": 0.1, "weight_decay": 0.05},
        {"params": [module.bias], "lr": 0.02, "weight_decay": 0.0},
    ]
    given = {"batches": batches, "loss": loss, **more}
    stage = Stage(name="test", module=module, groups=groups, plan=PLAN, examples_per_step=5, **given)
    return start_fit(stage, Accelerator(cpu=True))


def test_rate_warms_up_in_a_line_and_falls_as_a_cosine() -> None:
    """Twelve steps, three of them warm-up."""
    falling = [0.5 * (1 + math.cos(math.pi * i / 9)) for i in range(9)]
    assert [PLAN.rate_factor(i) for i in range(12)] == pytest.approx([1 / 3, 2 / 3, 1, *falling])
    none = FitPlan(steps_per_epoch=5, epochs=1, warmup_fraction=0.0, gradient_clip_norm=1, seed=0)
    assert none.rate_factor(0) == 1.0
    assert 0 < none.rate_factor(4) < 0.2


def test_steps_equal_a_plain_loop() -> None:
    module, plain = linear(), linear()
    logs = list(fit(start(module)))
    optimizer = torch.optim.AdamW(
        [{"params": [plain.weight], "weight_decay": 0.05}, {"params": [plain.bias], "weight_decay": 0.0}]
    )
    losses, clipped = [], 0
    for step in range(12):
        for group, peak in zip(optimizer.param_groups, (0.1, 0.02), strict=True):
            group["lr"] = peak * PLAN.rate_factor(step)
        batch = list(batches(step // 4))[step % 4]
        value = plain(batch).square().mean()
        optimizer.zero_grad()
        value.backward()
        clipped += float(nn.utils.clip_grad_norm_(plain.parameters(), 0.5)) > 0.5
        optimizer.step()
        losses.append(value.item())
    assert clipped > 0
    assert [log.loss for log in logs] == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(module.weight, plain.weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(module.bias, plain.bias, rtol=1e-5, atol=1e-6)
    assert [(log.step, log.epoch) for log in logs] == [(i + 1, i // 4) for i in range(12)]
    assert [log.learning_rate for log in logs] == pytest.approx(
        [0.1 * PLAN.rate_factor(i) for i in range(12)]
    )
    assert all(log.examples_per_second > 0 for log in logs)


def test_the_caller_may_stop_and_go_on() -> None:
    whole, halves = linear(), linear()
    list(fit(start(whole)))
    state = start(halves)
    for log in fit(state):
        if log.step == 6:
            break
    assert state.step == 6
    assert [log.step for log in fit(state)] == list(range(7, 13))
    assert torch.equal(whole.weight, halves.weight)
    assert list(fit(state)) == []


def test_randomness_of_a_step_depends_on_its_number_alone() -> None:
    seen: dict[int, list[float]] = {}

    def noisy(model: nn.Module, batch: Tensor) -> Tensor:
        seen.setdefault(state.step, []).append(float(torch.rand(())))
        return loss(model, batch)

    before = torch.get_rng_state()
    for stop in (5, 12):
        state = start(linear(), noisy)
        for log in fit(state):
            torch.rand(3)  # what the caller draws changes nothing
            if log.step == stop:
                break
    torch.set_rng_state(before)
    assert all(len(set(values)) == 1 for values in seen.values())
    assert len({values[0] for values in seen.values()}) == 12


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_it_does_harm(bad: float) -> None:
    module = linear()

    def breaking(model: nn.Module, batch: Tensor) -> Tensor:
        return loss(model, batch) * (bad if state.step == 2 else 1.0)

    state = start(module, breaking)
    logs = fit(state)
    assert [next(logs).step, next(logs).step] == [1, 2]
    before = module.weight.clone()
    with pytest.raises(TrainingError, match=rf"the loss is {bad} at step 3"):
        next(logs)
    assert state.step == 2
    assert torch.equal(module.weight, before)


class Steps:
    """A recorder that repeats the step itself, past PyTorch's count of changes; it counts what it does."""

    def __init__(self, *weights: Tensor) -> None:
        self.done, self.weights = Counter[str](), weights

    def warm_up(self, step: Callable[[], None]) -> None:
        self.done["warm"] += 1
        step()

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        self.done["recorded"] += 1

        def replay() -> None:
            self.done["replayed"] += 1
            with torch.autograd._unsafe_preserve_version_counter(self.weights):
                step()

        return replay


class Rows(NamedTuple):
    rows: Tensor


def on_rows(model: nn.Module, batch: Rows) -> Tensor:
    """With dropout, so that a step's random numbers count."""
    return nn.functional.dropout(model(batch.rows), 0.3).square().mean()


def ragged(epoch: int, first: int = 0) -> Iterator[Tensor]:
    """The last batch of an epoch is shorter."""
    for number, batch in enumerate(batches(epoch, first), start=first):
        yield batch[:3] if number == PLAN.steps_per_epoch - 1 else batch


@pytest.mark.parametrize("every", [3, 16])
@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "as it comes"])
def test_a_device_that_runs_ahead_learns_the_same(every: int, recorded: bool) -> None:
    more = {"loss": on_rows, "prepare": Rows, "batches": ragged}
    plain, module = linear(), linear()
    expected = list(fit(start(plain, **more)))
    state, recorder = start(module, **more), Steps(module.weight)
    state.read_every = every
    state.recorder = recorder if recorded else None
    logs = list(fit(state))
    assert torch.equal(module.weight, plain.weight)
    assert torch.equal(module.bias, plain.bias)
    for key in ("step", "epoch", "loss", "learning_rate"):
        assert [getattr(log, key) for log in logs] == [getattr(log, key) for log in expected]
    if recorded:
        assert recorder.done == {"warm": 2, "recorded": 2, "replayed": 10}, "two shapes in twelve steps"
        assert module.weight._version >= 12, "who keeps a copy sees that it is old"


def test_logs_of_steps_ahead_come_together_and_never_across_epochs() -> None:
    state = start(linear())
    state.read_every = 3
    at = [(log.step, state.step) for log in fit(state)]
    assert at == [(step, min(12, (step - 1) // 4 * 4 + (3 if step % 4 else 4))) for step in range(1, 13)]


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "as it comes"])
def test_a_bad_loss_ahead_is_named_and_nothing_behind_it_is_learnt(recorded: bool) -> None:
    def bad(epoch: int, first: int = 0) -> Iterator[Tensor]:
        for number, batch in enumerate(batches(epoch, first), start=first):
            yield batch * (math.nan if (epoch, number) == (1, 1) else 1.0)

    more = {"loss": on_rows, "prepare": Rows, "batches": bad, "describe": lambda batch: f"{batch[0, 0]:.3f}"}
    plain = start(linear(), **more)
    with pytest.raises(TrainingError) as expected:
        list(fit(plain))
    state = start(linear(), **more)
    state.read_every, state.recorder = 16, Steps() if recorded else None
    with pytest.raises(
        TrainingError, match=r"the loss is nan at step 6 \(batch 2 of epoch 2: nan\)"
    ) as found:
        list(fit(state))
    assert str(found.value) == str(expected.value)
    assert state.step == 5
    assert torch.equal(state.stage.module.weight, plain.stage.module.weight)
    assert float(state.optimizer.state[state.stage.module.weight]["step"]) == 5


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class Short(Steps):
    """A recorder on a device whose memory runs out, at the given event for the first time."""

    def __init__(self, at: str, error: Exception) -> None:
        super().__init__()
        self.at, self.error = at, error

    def warm_up(self, step: Callable[[], None]) -> None:
        if self.at == "warm" and self.done["warm"] == 1:
            raise self.error
        super().warm_up(step)

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        if self.at == "recorded":
            # Python runs, but nothing that it launches.
            with mock.patch.object(LossWatch, "see"), mock.patch.object(_Steps, "_update"):
                step()
            try:
                raise self.error
            finally:
                raise RuntimeError("operation failed due to a previous error during capture")
        replay = super().record(step)

        def short() -> None:
            if self.at == "replayed" and self.done["replayed"] == 1:
                raise self.error
            replay()

        return short


@pytest.mark.parametrize("at", ["warm", "recorded", "replayed"])
@pytest.mark.parametrize("error", [FULL, RuntimeError("CUDA error: out of memory")], ids=["torch", "CUDA"])
def test_without_memory_recordings_are_given_up_before_batches_are_split(at: str, error: Exception) -> None:
    more = {"loss": on_rows, "prepare": Rows, "batches": ragged}
    plain, module = linear(), linear()
    expected = list(fit(start(plain, **more)))
    state = start(module, shrink=lambda batch: pytest.fail("split"), **more)
    state.read_every, state.recorder = 16, Short(at, error)
    with pytest.warns(LangadaptWarning, match="steps are recorded no longer"):
        logs = list(fit(state))
    assert state.recorder is None
    assert [log.loss for log in logs] == [log.loss for log in expected], "the same dropout, each step once"
    assert torch.equal(module.weight, plain.weight)


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "as it comes"])
def test_memory_that_runs_out_in_an_update_ends_the_run(recorded: bool) -> None:
    """The watch has the step by then, and some weights may have changed: it is not tried again."""
    updates = list[int]()
    state = start(linear(), on_rows, prepare=Rows, shrink=lambda batch: pytest.fail("split"))
    state.read_every, state.recorder = 16, Steps() if recorded else None

    def full(*given: Any, **more: Any) -> None:
        updates.append(state.step)
        raise FULL

    state.optimizer.step = full
    with pytest.raises(TrainingError if recorded else torch.OutOfMemoryError, match="out of memory"):
        list(fit(state))
    assert updates == [0]


def test_only_so_many_shapes_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langadapt.training.replay._MOST_SHAPES", 1)
    more = {"loss": on_rows, "prepare": Rows, "batches": ragged}
    plain, module = linear(), linear()
    list(fit(start(plain, **more)))
    state, recorder = start(module, **more), Steps()
    state.read_every, state.recorder = 16, recorder
    list(fit(state))
    assert torch.equal(module.weight, plain.weight)
    assert recorder.done == {"warm": 4, "recorded": 1, "replayed": 8}, "the end of an epoch stays as it is"


def test_nothing_is_recorded_where_the_host_reads_each_loss() -> None:
    plain, module = linear(), linear()
    list(fit(start(plain, on_rows, prepare=Rows)))
    state, recorder = start(module, on_rows, prepare=Rows), Steps()
    state.recorder = recorder
    list(fit(state))
    assert torch.equal(module.weight, plain.weight)
    assert not recorder.done


@pytest.mark.parametrize(("every", "steps"), [(1, 3), (16, 16)])
def test_a_step_is_timed_behind_those_that_warm_up(
    monkeypatch: pytest.MonkeyPatch, every: int, steps: int
) -> None:
    """Losses that are read together come at the end of each epoch of 4 steps."""
    state = start(linear())
    state.stage = replace(state.stage, plan=replace(PLAN, epochs=4))
    state.read_every = every
    monkeypatch.setattr("time.perf_counter", lambda: float(10 * state.step))
    assert seconds_of_step(state) == 10
    assert state.step == steps

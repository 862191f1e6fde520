"""How long work takes, in its quicker one of two times."""

import time
from collections.abc import Callable
from typing import Any

import torch

from langadapt.training.loop import FitState, fit

_MOST_WARM_STEPS = 64


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Time of the quicker of two calls after one that warms up."""
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started)
    return min(taken[1:])


def seconds_of_step(state: FitState[Any]) -> float:
    """Time of a step, in the quicker of two times as many as the host waits for at once.

    A device that runs ahead of the host first takes the steps of two epochs, up to 64: it records a shape of
    batches the second time the shape comes. Else one step warms up. The plan has four epochs or more.
    """
    steps, taken = fit(state), list[float]()
    warm = min(2 * state.stage.plan.steps_per_epoch, _MOST_WARM_STEPS) if state.read_every > 1 else 1
    while len(taken) < 2:
        first, started = state.step, time.perf_counter()
        next(log for log in steps if log.step == state.step)  # the last of those that were read together
        if first >= warm:
            taken.append((time.perf_counter() - started) / (state.step - first))
    return min(taken)

"""The watch over the losses of a run: it works on the device, and the host reads it when it wants to."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_FIRST_LOSSES, _RECENT_LOSSES, _LEAST_LOSSES, _SPIKE_FACTOR = 8, 64, 32, 10.0


class Seen(NamedTuple):
    """A step as the watch has seen it."""

    loss: float
    stop: float
    """Share of the processes that a signal has reached."""
    broken: float
    """1 from the first bad loss on."""
    median: float
    """Of the losses before; infinite where there are none."""


class LossWatch:
    """Find bad losses of a run, or of its part since it was resumed: not finite, or spikes.

    A spike is a loss of more than 10 times the median of the last 64, of at least 32, that is also above each
    of the first 8: the step would make the model worse than it was before it learned anything. After a bad
    loss `broken`, float32 on the device, is 1 instead of 0 for good: an optimizer that has it as `found_inf`
    takes no step any more. Up to `rows` steps are kept for `read`.
    """

    def __init__(self, device: torch.device, *, rows: int = 1) -> None:
        self.broken = torch.zeros((), device=device)
        self._first = torch.full((_FIRST_LOSSES,), -math.inf, device=device)
        self._recent = torch.full((_RECENT_LOSSES,), math.inf, device=device)
        self._good = torch.zeros((), dtype=torch.int64, device=device)
        self._unread = torch.zeros((), dtype=torch.int64, device=device)
        self._rows = torch.zeros(rows, len(Seen._fields), device=device)
        self._places = torch.arange(max(rows, _RECENT_LOSSES), device=device)

    @torch.no_grad()
    def see(self, loss: Tensor, stop: Tensor) -> None:
        """Judge a loss, float32 scalar, by those before it; the host waits for nothing."""
        known = self._good.clamp(max=_RECENT_LOSSES)
        middle = torch.stack([(known - 1).clamp(min=0), known]).div(2, rounding_mode="floor")
        median = self._recent.sort().values.index_select(0, middle).mean()
        spike = (known >= _LEAST_LOSSES) & (loss > _SPIKE_FACTOR * median) & (loss > self._first.max())
        self.broken.copy_(torch.maximum(self.broken, (spike | ~loss.isfinite()).float()))
        good = self.broken == 0
        first = self._places[: len(self._first)] == self._good
        recent = self._places[: len(self._recent)] == self._good % _RECENT_LOSSES
        self._first.copy_(torch.where(first & good, loss, self._first))
        self._recent.copy_(torch.where(recent & good, loss, self._recent))
        self._good.add_(good)
        row = torch.stack([loss, stop, self.broken, median])
        here = self._places[: len(self._rows), None] == self._unread
        self._rows.copy_(torch.where(here, row, self._rows))
        self._unread.add_(1)

    def read(self, count: int) -> list[Seen]:
        """Return the last `count` steps, all that were not read before; this waits for the device."""
        rows = self._rows[:count].tolist()
        self._unread.zero_()
        return [Seen(*row) for row in rows]

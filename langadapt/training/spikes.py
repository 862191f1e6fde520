"""Notices a loss that leaves everything before it behind."""

import statistics
from collections import deque

_BEGINNING, _RECENT, _LEAST, _TIMES = 8, 64, 32, 10.0


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

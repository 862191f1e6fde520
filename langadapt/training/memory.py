"""What a step does where the device has no memory left: smaller pieces, and it says so."""

from dataclasses import replace
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch

from langadapt.data.batches import DistillBatch
from langadapt.errors import Progress, Report
from langadapt.models.tuning import ContrastModel

Batch = TypeVar("Batch")
_CPU_WORDS = "not enough memory"


class Piece(NamedTuple, Generic[Batch]):
    """A part of a batch and its share of the batch's loss."""

    batch: Batch
    share: float


class Memory(Protocol[Batch]):
    """How a stage saves memory."""

    def pieces(self, batch: Batch) -> list[Piece[Batch]]:
        """What is run one after the other, gradients added up."""

    def shrink(self, batch: Batch) -> bool:
        """Makes the next try smaller and says so; False where it cannot be smaller."""


class CutBatches:
    """Cuts batches of distillation into pieces of nearly the same number of rows.

    The distance is a mean over rows, so the gradient stays what it was, up to rounding. It does not where the
    loss compares rows with each other, and dropout draws other numbers: both are said.

    Args:
        coupled: the loss has a contrastive part.
        dropout: the adapter drops some of its states.
        report: told when batches are cut.
    """

    def __init__(self, *, coupled: bool, dropout: bool, report: Report) -> None:
        self.count = 1
        self._coupled, self._dropout, self._report = coupled, dropout, report

    def pieces(self, batch: DistillBatch) -> list[Piece[DistillBatch]]:
        """The batch itself, or rows of it, in order."""
        rows = len(batch.targets)
        if self.count == 1:
            return [Piece(batch, 1.0)]
        return [Piece(_rows(batch, part), len(part) / rows) for part in torch.arange(rows).chunk(self.count)]

    def shrink(self, batch: DistillBatch) -> bool:
        """Halves the pieces."""
        if self.count >= len(batch.targets):
            return False
        self.count *= 2
        if self._coupled:
            same = "the result differs: the contrastive part compares rows within a piece only"
        elif self._dropout:
            same = "the result is equal but for dropout, which draws other numbers, and rounding"
        else:
            same = "the result is the same up to rounding"
        self._report(
            Progress(
                stage=f"out of memory: each batch now runs in {self.count} pieces, gradients added up; {same}"
            )
        )
        return True


class SmallerChunks:
    """Halves the chunks in which both towers run; the loss sees the whole batch as before.

    Args:
        model: its `chunk_size` is changed.
        report: told when it is.
    """

    def __init__(self, model: ContrastModel, *, report: Report) -> None:
        self._model, self._report = model, report

    def pieces(self, batch: Batch) -> list[Piece[Batch]]:
        """The batch itself: the model cuts it."""
        return [Piece(batch, 1.0)]

    def shrink(self, batch: object) -> bool:
        """Halves the chunks."""
        if self._model.chunk_size <= 1:
            return False
        self._model.chunk_size //= 2
        self._report(
            Progress(
                stage=f"out of memory: both towers now run in chunks of {self._model.chunk_size} rows; the "
                "loss still sees the whole batch, and the result is the same up to rounding and dropout"
            )
        )
        return True


def ran_out(error: RuntimeError) -> bool:
    """Whether an error says that the device, or this machine, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or _CPU_WORDS in str(error)


def _rows(batch: DistillBatch, rows: torch.Tensor) -> DistillBatch:
    text = batch.text.rows(rows)
    longest = int(text.mask.sum(dim=1).max())
    if bool(text.mask[:, longest:].any()):  # padded on the left
        longest = text.mask.shape[1]
    text = replace(text, input_ids=text.input_ids[:, :longest], mask=text.mask[:, :longest])
    states = None
    if batch.states is not None:
        ends = batch.text.mask.sum(dim=1).cumsum(dim=0).tolist()  # the rows of a piece are neighbours
        first, last = int(rows[0]), int(rows[-1])
        states = batch.states[ends[first - 1] if first else 0 : ends[last]]
    return DistillBatch(text=text, targets=batch.targets[rows], states=states)

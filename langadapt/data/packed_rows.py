"""Several texts in one row: the layout in which Transformers run without much padding.

Attention costs little as long as rows are short, so rows are made just wide enough that a few texts fill each
of them. A mask keeps the texts of a row apart.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_STEP = 32
"""Rows are a multiple of this wide: matrix units like their tiles full."""
_ENOUGH = 0.92
"""Share of filled places with which no wider row is tried."""
_WIDTH_COST = 1000
"""A place in a row of so many places costs twice what it costs in a row of none."""


@dataclass(frozen=True, kw_only=True)
class TextRows:
    """Where the N tokens of B texts stand in R rows of W places.

    `texts`, int64 `[R, W]`, is the number of the text at each place, -1 where nothing stands. `starts` and
    `lengths`, int64 `[B]`, say where a text begins, counted through all rows, and how many tokens it has.
    """

    texts: Tensor
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def places(self) -> Tensor:
        """Where the tokens of the first text stand, then those of the second, and so on: int64 `[N]`."""
        return torch.from_numpy(consecutive(self.starts, self.lengths))

    def tokens(self) -> Tensor:
        """Which of the N tokens stands at each place, int64 `[R, W]`; the first one where nothing stands."""
        found = torch.zeros_like(self.texts)
        found.view(-1)[self.places()] = torch.arange(int(self.lengths.sum()))
        return found

    def together(self) -> Tensor:
        """Whether two places of a row belong to the same text, bool `[R, W, W]`; empty ones do, too."""
        return self.texts[:, :, None] == self.texts[:, None, :]

    def by_text(self) -> tuple[Tensor, Tensor]:
        """Places of each text's tokens, int64 `[B, T]`, and which of them are real, bool `[B, T]`."""
        index, mask = padded_index(self.starts, self.lengths)
        return torch.from_numpy(index), torch.from_numpy(mask)


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """Texts in rows: `ids` and `positions`, int64 `[R, W]`, are tokens and their positions in their texts."""

    ids: Tensor
    positions: Tensor
    rows: TextRows

    def mask(self, *, causal: bool, dtype: torch.dtype) -> Tensor:
        """What is added to attention scores, `[R, 1, W, W]`: 0 inside a text, minus infinity elsewhere."""
        together = self.rows.together()
        if causal:
            together = together.tril()
        return torch.zeros(together.shape, dtype=dtype).masked_fill_(~together, float("-inf"))[:, None]


def in_rows(lengths: NDArray[np.int64]) -> TextRows:
    """Lays texts of `lengths` (int64 `[B]`, none zero) into rows."""
    layout = _best_layout(lengths)
    texts = np.full((layout.rows, layout.width), -1)
    texts.reshape(-1)[consecutive(layout.starts, lengths)] = np.repeat(np.arange(len(lengths)), lengths)
    return TextRows(texts=torch.from_numpy(texts), starts=layout.starts, lengths=lengths)


def pack(ids: NDArray[np.int32], lengths: NDArray[np.int64], *, pad_id: int) -> PackedBatch:
    """Lays texts into rows.

    Args:
        ids: tokens of all texts, one text behind another.
        lengths: int64 `[B]`, none zero.
        pad_id: stands where no text does.
    """
    rows = in_rows(lengths)
    places, shape = rows.places().numpy(), rows.texts.shape
    filled, positions = np.full(shape, pad_id), np.zeros(shape, np.int64)
    filled.reshape(-1)[places] = ids
    positions.reshape(-1)[places] = consecutive(np.zeros_like(lengths), lengths)
    return PackedBatch(ids=torch.from_numpy(filled), positions=torch.from_numpy(positions), rows=rows)


def consecutive(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """`starts[i], starts[i] + 1, ...`, as many as `lengths[i]`, for each text, one behind another."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


def padded_index(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], *, length: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The same as a table, padded to the longest text or to `length`.

    Returns:
        Positions int64 `[B, T]` (padding points at its text's first token) and mask bool `[B, T]`.
    """
    steps = np.arange(length or int(lengths.max()))
    mask = steps < lengths[:, None]
    return np.where(mask, starts[:, None] + steps, starts[:, None]), mask


@dataclass(frozen=True, kw_only=True)
class _Layout:
    rows: int
    width: int
    starts: NDArray[np.int64]

    @property
    def cost(self) -> float:
        return self.rows * self.width * (1 + self.width / _WIDTH_COST)


def _best_layout(lengths: NDArray[np.int64]) -> _Layout:
    longest, tokens = int(lengths.max()), int(lengths.sum())
    if tokens <= max(longest, _STEP):
        return _Layout(rows=1, width=tokens, starts=np.cumsum(lengths) - lengths)
    tried: list[_Layout] = []
    for width in range(-(-longest // _STEP) * _STEP, longest + 5 * _STEP, _STEP):
        tried.append(_layout(lengths, width))
        if tokens > _ENOUGH * tried[-1].rows * width:
            break
    return min(tried, key=lambda layout: layout.cost)


def _layout(lengths: NDArray[np.int64], width: int) -> _Layout:
    """Best fit: long texts first, each into the row that it leaves the least room in."""
    rows = 0
    room: list[list[int]] = [[] for _ in range(width + 1)]  # rows by the places that are free in them
    starts = np.empty_like(lengths)
    for text in np.argsort(-lengths, kind="stable").tolist():
        need = int(lengths[text])
        free = next((free for free in range(need, width) if room[free]), width)
        if free == width:
            row, rows = rows, rows + 1
        else:
            row = room[free].pop()
        starts[text] = row * width + width - free
        room[free - need].append(row)
    return _Layout(rows=rows, width=width, starts=starts)

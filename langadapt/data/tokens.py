"""Texts as one ragged array of token ids, and padded batches cut from it."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from langadapt.errors import DataError
from langadapt.files.temporary import temporary_array

_TEXTS_AT_ONCE = 16384
"""Texts that are tokenised, and moved, at a time."""

# Rows are a multiple of _STEP wide: matrix units like their tiles full. No wider row is tried once _ENOUGH of
# the places are filled. A place in a row of _WIDTH_COST places costs twice what it costs in a row of none.
_STEP, _ENOUGH, _WIDTH_COST = 32, 0.92, 1000


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to memory that a CUDA device reads without the host; elsewhere it is taken as it is."""
    return tensor.pin_memory() if device.type == "cuda" and not tensor.is_cuda else tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a CUDA device fetches it while the host goes on."""
    return pinned(tensor, device).to(device, non_blocking=device.type == "cuda")


@dataclass(frozen=True, kw_only=True)
class TextBatch:
    """A padded batch: `input_ids [B, T]` int64 and `mask [B, T]` bool, no empty row."""

    input_ids: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> "TextBatch":
        """Return the batch on another device."""
        return TextBatch(input_ids=self.input_ids.to(device), mask=self.mask.to(device))

    def rows(self, chosen: Tensor) -> "TextBatch":
        """Return some of the texts, `chosen [N]` int64, in that order; the padding stays."""
        return TextBatch(input_ids=self.input_ids[chosen], mask=self.mask[chosen])

    def tokens(self, *, pad_id: int) -> "Tokens":
        """Return the texts without their padding."""
        ids, ends = self.input_ids[self.mask].int(), self.mask.sum(dim=1).cumsum(dim=0)
        offsets = np.concatenate([[0], ends.cpu().numpy()])
        return Tokens(ids=ids.cpu().numpy(), offsets=offsets, pad_id=pad_id)


@dataclass(frozen=True, kw_only=True)
class TextRows:
    """Layout of B texts of N tokens in R rows of W places.

    `texts`, int64 `[R, W]`, is the text at each place, -1 at an empty one. `starts` and `lengths`, int64
    `[B]`, are each text's first place, counted through all rows, and number of tokens.
    """

    texts: Tensor
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def places(self) -> Tensor:
        """Return the place of each token, one text after another: int64 `[N]`."""
        return torch.from_numpy(consecutive(self.starts, self.lengths))

    def layout(self, *, whole: bool = False) -> "Layout":
        """Return the same as tables; with `whole` texts are padded to a whole row: R, W, B say all shapes."""
        tokens = torch.zeros_like(self.texts)
        tokens.view(-1)[self.places()] = torch.arange(int(self.lengths.sum()))
        width = int(self.texts.shape[1]) if whole else None
        places, mask = padded_index(self.starts, self.lengths, length=width)
        return Layout(tokens, self.texts, torch.from_numpy(places), torch.from_numpy(mask))


def together(texts: Tensor) -> Tensor:
    """Whether two places of a row belong to one of `texts [R, W]`: bool `[R, W, W]`; empty ones do, too."""
    return texts[:, :, None] == texts[:, None, :]


class Layout(NamedTuple):
    """Where the tokens of B texts stand in R rows of W places, as tables on any device.

    `tokens`, int64 `[R, W]`, is the token at each place, the first one at empty places; `texts` as in
    `TextRows`. `places`, int64 `[B, T]`, are those of each text's tokens, under `mask [B, T]` (bool).
    """

    tokens: Tensor
    texts: Tensor
    places: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> "Layout":
        """Return the tables on another device."""
        return Layout(*(send(table, device) for table in self))


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """Texts in rows: `ids` and `positions`, int64 `[R, W]`, are tokens and their positions in their texts."""

    ids: Tensor
    positions: Tensor
    rows: TextRows

    def mask(self, *, causal: bool, like: Tensor) -> Tensor:
        """Return what is added to attention scores, `[R, 1, W, W]`: 0 inside a text, else minus infinity.

        Its dtype and device are those of `like`.
        """
        seen = together(send(self.rows.texts, like.device))
        if causal:
            seen = seen.tril()
        return like.new_zeros(seen.shape).masked_fill_(~seen, float("-inf"))[:, None]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Token ids of many texts: `ids [N]` int32, text i between `offsets[i]` and `offsets[i + 1]` (int64)."""

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    pad_id: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each text, int64 `[len(self)]`."""
        return np.diff(self.offsets)

    def lengths_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of tokens of some texts, int64 `[len(rows)]`."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def batch(self, rows: NDArray[np.int64], *, length: int | None = None) -> TextBatch:
        """Pad some texts to their longest, or to `length` tokens where a model insists on one."""
        index, mask = padded_index(self.offsets[rows], self.lengths_of(rows), length=length)
        ids = torch.from_numpy(np.where(mask, self.ids[index], self.pad_id).astype(np.int64))
        return TextBatch(input_ids=ids, mask=torch.from_numpy(mask))

    def by_length(self) -> tuple["Tokens", NDArray[np.int64]]:
        """Sort the texts, shortest first; return also the new row of each old one (int64 `[len(self)]`)."""
        order = np.argsort(self.lengths, kind="stable")
        offsets = np.zeros(len(self) + 1, np.int64)
        np.cumsum(self.lengths[order], out=offsets[1:])
        chunks = (order[start : start + _TEXTS_AT_ONCE] for start in range(0, len(order), _TEXTS_AT_ONCE))
        ids = temporary_array((self.ids[self.positions(rows)] for rows in chunks), np.int32)
        place = np.empty(len(self), np.int64)
        place[order] = np.arange(len(self))
        return replace(self, ids=ids, offsets=offsets), place

    def positions(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of some texts' tokens in `ids`, int64 `[N]`, one text after another."""
        return consecutive(self.offsets[rows], self.lengths_of(rows))

    def packed(self, rows: NDArray[np.int64], *, few_shapes: bool = False) -> PackedBatch:
        """Lay some texts into rows, as `in_rows` does; texts of many lengths fill rows best."""
        lengths = self.lengths_of(rows)
        layout = in_rows(lengths, few_shapes=few_shapes)
        places, shape = layout.places().numpy(), layout.texts.shape
        ids, positions = np.full(shape, self.pad_id), np.zeros(shape, np.int64)
        ids.reshape(-1)[places] = self.ids[self.positions(rows)]
        positions.reshape(-1)[places] = consecutive(np.zeros_like(lengths), lengths)
        return PackedBatch(ids=torch.from_numpy(ids), positions=torch.from_numpy(positions), rows=layout)


def tokenize(texts: Sequence[str], encode: Callable[[list[str]], list[list[int]]], *, pad_id: int) -> Tokens:
    """Tokenise texts, none empty, once; `encode` is a tokenizer's batch call: ids with special tokens."""
    require_text(texts)
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)

    def chunks() -> Iterator[NDArray[np.int32]]:
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            rows = encode(list(texts[start : start + _TEXTS_AT_ONCE]))
            offsets[start + 1 : start + 1 + len(rows)] = [len(row) for row in rows]
            yield np.fromiter(itertools.chain.from_iterable(rows), np.int32)

    ids = temporary_array(chunks(), np.int32)
    return Tokens(ids=ids, offsets=np.cumsum(offsets), pad_id=pad_id)


def length_groups(lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Row numbers of a batch of `lengths [B]` in four groups of like length, or in one.

    Four must save a fifth of the padded tokens.
    """
    parts = [rows for rows in np.array_split(np.argsort(lengths, kind="stable"), 4) if len(rows)]
    kept = sum(len(rows) * int(lengths[rows[-1]]) for rows in parts)
    return parts if kept <= 0.8 * len(lengths) * int(lengths.max()) else [np.concatenate(parts)]


def require_text(texts: Sequence[str]) -> None:
    """Raise DataError for an empty text, or half of a surrogate pair, with its row number, from 0."""
    for row, text in enumerate(texts):
        if not text.strip():
            raise DataError(f"text {row} is empty; remove it or give it a caption")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"text {row} is not Unicode at character {error.start}; correct it") from error


def by_length(lengths: NDArray[np.int64], *, batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Yield row numbers in batches of like length, longest first, each within a budget of padded tokens."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + rows]
        start += rows


def in_order(lengths: NDArray[np.int64], *, batch_tokens: int, first: int = 0) -> Iterator[NDArray[np.int64]]:
    """Yield row numbers from `first` on as they stand, in batches within a budget of tokens."""
    ends = np.cumsum(lengths)
    start = first
    while start < len(lengths):
        before = ends[start] - lengths[start]
        end = int(np.searchsorted(ends, before + batch_tokens, side="right"))
        yield np.arange(start, max(end, start + 1))
        start = max(end, start + 1)


def in_rows(lengths: NDArray[np.int64], *, few_shapes: bool = False) -> TextRows:
    """Lay texts of `lengths` (int64 `[B]`, none zero) into rows.

    A GPU prepares itself for each shape of a batch. With `few_shapes` empty rows are added until their number
    has five binary digits and zeros behind them: at most a sixteenth more.
    """
    layout = _best_layout(lengths)
    rung = 1 << max(0, layout.rows.bit_length() - 5) if few_shapes else 1
    texts = np.full((-(-layout.rows // rung) * rung, layout.width), -1)
    texts.reshape(-1)[consecutive(layout.starts, lengths)] = np.repeat(np.arange(len(lengths)), lengths)
    return TextRows(texts=torch.from_numpy(texts), starts=layout.starts, lengths=lengths)


def consecutive(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `starts[i], starts[i] + 1, ...`, as many as `lengths[i]`, for each text, one after another."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())


def padded_index(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], *, length: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the same as a table, padded to the longest text or to `length`: int64 and mask `[B, T]`.

    Padding points at its text's first token.
    """
    steps = np.arange(length or int(lengths.max()))
    mask = steps < lengths[:, None]
    return np.where(mask, starts[:, None] + steps, starts[:, None]), mask


@dataclass(frozen=True, kw_only=True)
class _Layout:
    rows: int
    width: int
    starts: NDArray[np.int64]


def _best_layout(lengths: NDArray[np.int64]) -> _Layout:
    longest, tokens = int(lengths.max()), int(lengths.sum())
    if tokens <= max(longest, _STEP):
        return _Layout(rows=1, width=tokens, starts=np.cumsum(lengths) - lengths)
    tried: list[_Layout] = []
    for width in range(-(-longest // _STEP) * _STEP, longest + 5 * _STEP, _STEP):
        tried.append(_best_fit(lengths, width))
        if tokens > _ENOUGH * tried[-1].rows * width:
            break
    return min(tried, key=lambda layout: layout.rows * layout.width * (1 + layout.width / _WIDTH_COST))


def _best_fit(lengths: NDArray[np.int64], width: int) -> _Layout:
    """Place long texts first, each into the row that it leaves the least room in."""
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

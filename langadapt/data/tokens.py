"""Texts as one ragged array of token ids, and padded batches cut from it."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from langadapt.data.packed_rows import PackedBatch, consecutive, pack, padded_index
from langadapt.data.spool import spooled
from langadapt.errors import DataError

_TEXTS = 16384
"""Texts that are tokenised, and moved, at a time."""


@dataclass(frozen=True, kw_only=True)
class TextBatch:
    """A padded batch: `input_ids [B, T]` int64 and `mask [B, T]` bool, no empty row."""

    input_ids: Tensor
    mask: Tensor

    def to(self, device: torch.device) -> "TextBatch":
        """The same batch on another device."""
        return TextBatch(input_ids=self.input_ids.to(device), mask=self.mask.to(device))

    def rows(self, chosen: Tensor) -> "TextBatch":
        """Some of the texts, `chosen [N]` int64, in that order; the padding stays."""
        return TextBatch(input_ids=self.input_ids[chosen], mask=self.mask[chosen])

    def cut(self, tokens: int) -> "TextBatch":
        """Without what stands behind the first `tokens` places."""
        return TextBatch(input_ids=self.input_ids[:, :tokens], mask=self.mask[:, :tokens])


@dataclass(frozen=True, kw_only=True)
class LengthGroup:
    """Some texts of a batch, `rows` int64, and the length of the longest of them."""

    rows: Tensor
    tokens: int


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
        """Tokens of each text, int64 `[len(self)]`."""
        return np.diff(self.offsets)

    def lengths_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tokens of some texts, int64 `[len(rows)]`; `lengths` would count all of them."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def batch(self, rows: NDArray[np.int64], *, length: int | None = None) -> TextBatch:
        """Pads some texts to their longest, or to `length` tokens where a model insists on one."""
        index, mask = padded_index(self.offsets[rows], self.lengths_of(rows), length=length)
        ids = torch.from_numpy(np.where(mask, self.ids[index], self.pad_id).astype(np.int64))
        return TextBatch(input_ids=ids, mask=torch.from_numpy(mask))

    def by_length(self) -> tuple["Tokens", NDArray[np.int64]]:
        """The same texts, shortest first, and the new place of each old one (int64 `[len(self)]`)."""
        order = np.argsort(self.lengths, kind="stable")
        offsets = np.zeros(len(self) + 1, np.int64)
        np.cumsum(self.lengths[order], out=offsets[1:])
        chunks = (order[start : start + _TEXTS] for start in range(0, len(order), _TEXTS))
        ids = spooled((self.ids[self.positions(rows)] for rows in chunks), np.int32)
        place = np.empty(len(self), np.int64)
        place[order] = np.arange(len(self))
        return replace(self, ids=ids, offsets=offsets), place

    def positions(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the tokens of some texts stand among all, int64 `[N]`, one text behind another."""
        return consecutive(self.offsets[rows], self.lengths_of(rows))

    def packed(self, rows: NDArray[np.int64]) -> PackedBatch:
        """Some texts, several in a row; texts of many lengths fill rows best."""
        ids = self.ids[self.positions(rows)]
        return pack(ids, self.lengths_of(rows), pad_id=self.pad_id)


def tokenize(
    texts: Sequence[str],
    encode: Callable[[list[str]], list[list[int]]],
    *,
    pad_id: int,
    chunk_texts: int = _TEXTS,
) -> Tokens:
    """Tokenises texts once.

    Args:
        texts: what to tokenise, any number.
        encode: a tokenizer's batch call, texts to ids with special tokens.
        pad_id: id that fills batches.
        chunk_texts: texts per call of `encode`.

    Raises:
        DataError: an empty or whitespace text, with its row number.
    """
    require_text(texts)
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)

    def chunks() -> Iterator[NDArray[np.int32]]:
        for start in range(0, len(texts), chunk_texts):
            rows = encode(list(texts[start : start + chunk_texts]))
            offsets[start + 1 : start + 1 + len(rows)] = [len(row) for row in rows]
            yield np.fromiter(itertools.chain.from_iterable(rows), np.int32)

    ids = spooled(chunks(), np.int32)
    return Tokens(ids=ids, offsets=np.cumsum(offsets), pad_id=pad_id)


def length_groups(lengths: Tensor, *, groups: int = 4, worth: float = 0.2) -> list[LengthGroup]:
    """Cuts a padded batch into a few of like length, where that saves enough padding.

    Args:
        lengths: tokens of each text, `[B]`.
        groups: the most that there may be; of equally many texts each.
        worth: share of the padded tokens that must be saved.

    Returns:
        The groups, or a single one with all texts.
    """
    order = lengths.argsort(stable=True)
    parts = [
        LengthGroup(rows=rows, tokens=int(lengths[rows[-1]])) for rows in order.chunk(groups) if len(rows)
    ]
    longest = parts[-1].tokens
    kept = sum(len(part.rows) * part.tokens for part in parts)
    if kept > (1 - worth) * len(lengths) * longest:
        return [LengthGroup(rows=torch.arange(len(lengths), device=lengths.device), tokens=longest)]
    return parts


def require_text(texts: Sequence[str]) -> None:
    """Refuses an empty or whitespace text.

    Raises:
        DataError: with the text's row number, counted from 0.
    """
    for row, text in enumerate(texts):
        if not text.strip():
            raise DataError(f"text {row} is empty; remove it or give it a caption")


def by_length(lengths: NDArray[np.int64], *, batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Row numbers in batches of like length, longest first, each within a budget of padded tokens."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + rows]
        start += rows


def in_order(lengths: NDArray[np.int64], *, batch_tokens: int, first: int = 0) -> Iterator[NDArray[np.int64]]:
    """Row numbers from `first` on as they stand, in batches within a budget of tokens."""
    ends = np.cumsum(lengths)
    start = first
    while start < len(lengths):
        before = ends[start] - lengths[start]
        end = int(np.searchsorted(ends, before + batch_tokens, side="right"))
        yield np.arange(start, max(end, start + 1))
        start = max(end, start + 1)

"""Which words translate which, counted in the corpus itself: it tells a translation from a neighbour's.

Lengths, numbers and names say little in captions, which are equally long and have neither. Words that occur
in the same rows again and again say much: a row whose English words have no usual partner on the other side
is probably not a pair.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from langadapt.data.cleaning.fold import TokenRows
from langadapt.data.cleaning.near import mix

_PAIR_BITS = 22
_WORD_BITS = 18
_ROWS_AT_ONCE = 250
_MOST_TOKENS = 60
_MOST = 4.0
"""Associations are cut here: beyond, rare words that met by chance would outweigh all others."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lexicon:
    """Association of hashed word pairs: `pairs [2^22]` float16, 0 where nothing is known.

    `rare [2^18]` says of which words it means something that they stand on both sides: numbers and names.
    """

    pairs: NDArray[np.float16]
    rare: NDArray[np.bool_]

    def scores(self, english: TokenRows, target: TokenRows) -> NDArray[np.float32]:
        """For each row the mean, over both sides' words, of the association with the best word beside it."""
        found = np.zeros(len(english), np.float32)
        for rows, grid in _grids(english, target):
            values = self.pairs[grid.pair].astype(np.float32)
            values[(grid.english == grid.target) & self.rare[grid.english]] = _MOST
            best = np.maximum.reduceat(values, grid.first)
            turned = np.maximum.reduceat(values[grid.turn], grid.turned_first)
            found[rows] = 0.5 * (grid.mean_english(best) + grid.mean_target(turned))
        return found


def learn_lexicon(english: TokenRows, target: TokenRows) -> Lexicon:
    """Counts in how many rows two words meet, against how often they would by chance.

    The association is the pointwise mutual information of a pair that met at least three times, with the
    meetings taken at the low end of what chance allows (less one, for the row itself, and less the square
    root of their number).
    """
    met = np.zeros(1 << _PAIR_BITS, np.int32)
    for _, grid in _grids(english, target):
        once = np.unique(grid.row_of_cell << _PAIR_BITS | grid.pair)
        met += np.bincount(once & (len(met) - 1), minlength=len(met)).astype(np.int32)
    words = [_word_counts(side) for side in (english, target)]
    pairs = np.zeros(len(met), np.float16)
    for _, grid in _grids(english, target):
        times = met[grid.pair].astype(np.float32)
        cell = np.flatnonzero(times >= 3)
        expected = words[0][grid.english[cell]] * words[1][grid.target[cell]] / max(len(english), 1)
        low = np.maximum(times[cell] - 1 - np.sqrt(times[cell]), 0.1)
        pairs[grid.pair[cell]] = np.clip(np.log(low / expected), 0, _MOST)
    rare = (words[0] + 1) / max(len(english), 1) < np.exp(-_MOST)
    return Lexicon(pairs=pairs, rare=rare)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Grid:
    """All word pairs of some rows, `C` cells: per English word one run of cells, one for each target word."""

    pair: NDArray[np.int64]
    english: NDArray[np.int64]
    target: NDArray[np.int64]
    row_of_cell: NDArray[np.int64]
    first: NDArray[np.int64]
    turn: NDArray[np.int64]
    turned_first: NDArray[np.int64]
    english_lengths: NDArray[np.int64]
    target_lengths: NDArray[np.int64]

    def mean_english(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return _row_means(values, self.english_lengths)

    def mean_target(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return _row_means(values, self.target_lengths)


def _grids(english: TokenRows, target: TokenRows) -> Iterator[tuple[NDArray[np.int64], _Grid]]:
    """The cells of all rows that have words on both sides, some rows at a time; long rows are cut."""
    for start in range(0, len(english), _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(english)))
        rows = rows[(english.lengths[rows] > 0) & (target.lengths[rows] > 0)]
        if not len(rows):
            continue
        e, e_len = _words(english, rows)
        t, t_len = _words(target, rows)
        width = np.repeat(t_len, e_len)
        row_of_word = np.repeat(np.arange(len(rows)), e_len)
        first = _starts(width)
        cell = np.arange(int(width.sum())) - np.repeat(first, width)
        other = np.repeat(_starts(t_len)[row_of_word], width) + cell
        left, right = np.repeat(e, width), t[other]
        cells = mix((left << np.int64(_WORD_BITS) | right).astype(np.uint64)) & np.uint64(
            (1 << _PAIR_BITS) - 1
        )
        # The same cells in the order of the target words: a transposed rectangle for each row.
        row_of_target = np.repeat(np.arange(len(rows)), t_len)
        column = np.arange(len(t)) - _starts(t_len)[row_of_target]
        height = np.repeat(e_len, t_len)
        down = np.arange(len(cell)) - np.repeat(_starts(height), height)
        turn = np.repeat(_starts(e_len * t_len)[row_of_target] + column, height)
        turn += down * np.repeat(t_len[row_of_target], height)
        yield (
            rows,
            _Grid(
                pair=cells.astype(np.int64),
                english=left,
                target=right,
                row_of_cell=np.repeat(row_of_word, width),
                first=first,
                turn=turn,
                turned_first=_starts(height),
                english_lengths=e_len,
                target_lengths=t_len,
            ),
        )


def _words(side: TokenRows, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lengths = np.minimum(side.lengths[rows], _MOST_TOKENS)
    places = np.repeat(side.offsets[rows] - _starts(lengths), lengths) + np.arange(int(lengths.sum()))
    return side.ids[places].astype(np.int64) & ((1 << _WORD_BITS) - 1), lengths


def _word_counts(side: TokenRows) -> NDArray[np.float64]:
    return np.bincount(side.ids & ((1 << _WORD_BITS) - 1), minlength=1 << _WORD_BITS).astype(np.float64)


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(lengths) - lengths


def _row_means(values: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.asarray(np.add.reduceat(values, _starts(lengths)) / lengths, np.float32)

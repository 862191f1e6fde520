"""Misaligned blocks, whose sides have slipped against each other: evidence of each row, where it changes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from langadapt.cleaning.duplicates import mix
from langadapt.cleaning.words import Side, TokenRows
from langadapt.data.tokens import consecutive

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Evidence = Callable[[I64, I64], F64]
"""How likely some rows (first argument) are pairs with others (second argument): log-likelihood ratios."""

_MOST_EVIDENCE = 3.0
_SWITCH = 8.0
"""A slip begins, ends or changes only where that makes the rows e^8 times likelier."""

_SHIFTS = (0, *(shift for size in range(1, 9) for shift in (-size, size)))
_WINDOW, _AROUND = 9, 12
_PAIR_BITS, _WORDS = 22, 1 << 18
_ROWS_AT_ONCE, _MOST_TOKENS = 250, 60
_MOST = 4.0
"""Associations are cut here: beyond, rare words that met by chance would outweigh all others."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lexicon:
    """Association of hashed word pairs: `pairs [2^22]` float16, 0 where nothing is known.

    `rare [2^18]` says of which words it means something that they stand on both sides: numbers and names.
    """

    pairs: NDArray[np.float16]
    rare: NDArray[np.bool_]

    def scores(self, english: TokenRows, target: TokenRows) -> F32:
        """Return each row's mean, over both sides' words, of the association with the best word beside it."""
        found = np.zeros(len(english), np.float32)
        for grid in _grids(english, target):
            values = self.pairs[grid.pair].astype(np.float32)
            own = grid.english[grid.word]
            values[(own == grid.target[grid.other]) & self.rare[own]] = _MOST
            found[grid.rows] = 0.5 * (
                _mean_best(values, grid.word, grid.english_lengths)
                + _mean_best(values, grid.other, grid.target_lengths)
            )
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """Evidence that two texts are a pair: a logistic regression on word associations and lengths."""

    lexicon: Lexicon
    weights: F64
    """`[5]`, of the features."""
    ratio: float
    """The corpus' median log ratio of lengths."""
    doubtful: float
    """Mean evidence below which neighbouring rows are looked at: half way between pairs and others."""
    separation: float
    """Area under the curve that tells pairs from neighbours; 0.5 is chance."""

    def evidence(self, english: Side, target: Side) -> F64:
        """Return each row's log-likelihood ratio of pair against neighbours: `[R]`, at most 3 either way."""
        return _clipped(_features(self.lexicon, english, target, self.ratio) @ self.weights)


def learn_alignment(lexicon: Lexicon, english: Side, target: Side, follows: NDArray[np.bool_]) -> Alignment:
    """Fit the weights on rows that the lexicon has not seen, as they are and with the next row's target.

    `follows`, bool `[R]`, says whether the row behind a row is its neighbour in the corpus too.
    """
    ratio = float(np.median(_log_ratio(english, target)))
    here = np.flatnonzero(follows[:-1])
    left = english.take(here)
    pairs = _features(lexicon, left, target.take(here), ratio)
    others = _features(lexicon, left, target.take(here + 1), ratio)
    weights = _logistic(np.concatenate([pairs, others]), np.repeat([1.0, 0.0], len(here)))
    ranks = np.searchsorted(np.sort(others @ weights), pairs @ weights)
    usual, slipped_usual = (_clipped(features @ weights).mean() for features in (pairs, others))
    return Alignment(
        lexicon=lexicon,
        weights=weights,
        ratio=ratio,
        doubtful=float(usual + slipped_usual) / 2,
        separation=float(ranks.mean() / max(len(here), 1)),
    )


def slipped_rows(evidence: Evidence, alive: NDArray[np.bool_], doubtful: float) -> NDArray[np.bool_]:
    """Find rows inside blocks that have slipped.

    Where the mean evidence of neighbouring rows is below `doubtful`, each shift by up to eight rows is tried,
    and the likeliest sequence of shifts decides (Viterbi): loose translations make no better pairs with their
    neighbours. Only rows that are `alive`, bool `[R]`, count.
    """
    everything = np.arange(len(alive))
    own = np.where(alive, evidence(everything, everything), 0.0)
    found = np.zeros(len(alive), bool)
    window = np.ones(_WINDOW)
    heard = np.convolve(alive, window, "same")
    low = np.convolve(own, window, "same") < doubtful * heard
    near = np.convolve(low & (heard > 0), np.ones(2 * _AROUND + 1), "same") > 0.5
    edges = np.flatnonzero(np.diff(near.astype(np.int8), prepend=0, append=0))
    for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        rows = everything[first:end]
        values = np.stack([_shifted(evidence, rows, shift, alive) for shift in _SHIFTS])
        slipped = _likeliest(values) != 0
        # Where a slip begins and ends is uncertain by a row.
        found[first:end] = np.convolve(slipped, np.ones(3), "same") > 0.5
    return found


def _shifted(evidence: Evidence, rows: I64, shift: int, alive: NDArray[np.bool_]) -> F64:
    partners = rows + shift
    inside = (partners >= 0) & (partners < len(alive))
    values = np.full(len(rows), -_MOST_EVIDENCE)
    own, other = rows[inside], partners[inside]
    values[inside] = np.where(alive[own] & alive[other], evidence(own, other), 0.0)
    return values


def _likeliest(values: F64) -> I64:
    """Return the likeliest state of each column of `values [states, R]`; before and behind it is state 0."""
    states, rows = values.shape
    best = np.full(states, -_SWITCH)
    best[0] = 0.0
    came = np.zeros((rows, states), np.int64)
    for row in range(rows):
        leader = int(best.argmax())
        came[row] = np.where(best >= best[leader] - _SWITCH, np.arange(states), leader)
        best = np.maximum(best, best[leader] - _SWITCH) + values[:, row]
    best[1:] -= _SWITCH
    state = int(best.argmax())
    found = np.zeros(rows, np.int64)
    for row in range(rows - 1, -1, -1):
        found[row] = state
        state = int(came[row, state])
    return found


def _clipped(evidence: F64) -> F64:
    return np.asarray(np.clip(evidence, -_MOST_EVIDENCE, _MOST_EVIDENCE))


def _features(lexicon: Lexicon, english: Side, target: Side, ratio: float) -> F64:
    score = lexicon.scores(english.tokens, target.tokens).astype(np.float64)
    characters = english.characters
    far = np.minimum(np.abs(_log_ratio(english, target) - ratio) * np.sqrt(characters), 30.0)
    return np.stack([np.ones(len(score)), score, far, far**2 / 10, score * np.log1p(characters)], axis=1)


def _log_ratio(english: Side, target: Side) -> F64:
    return np.asarray(np.log((target.characters + 1) / (english.characters + 1)))


def _logistic(features: F64, answers: F64) -> F64:
    """Fit a logistic regression by Newton's method with a small ridge."""
    weights = np.zeros(features.shape[1])
    ridge = 1e-2 * np.eye(features.shape[1])
    for _ in range(25):
        chance = 1 / (1 + np.exp(-np.clip(features @ weights, -30, 30)))
        slope = features.T @ (answers - chance) - ridge @ weights
        curve = (features * (chance * (1 - chance))[:, None]).T @ features + ridge
        weights = weights + np.linalg.solve(curve, slope)
    return weights


def learn_lexicon(english: TokenRows, target: TokenRows) -> Lexicon:
    """Count in how many rows two words meet, against how often they would by chance.

    The association is the pointwise mutual information of a pair that met at least three times, with the
    meetings taken at the low end of what chance allows (less one, for the row itself, and less the square
    root of their number).
    """
    met = np.zeros(1 << _PAIR_BITS, np.int32)
    for grid in _grids(english, target):
        row = np.repeat(np.arange(len(grid.rows)), grid.english_lengths)[grid.word]
        once = np.unique(row << _PAIR_BITS | grid.pair)
        met += np.bincount(once & (len(met) - 1), minlength=len(met)).astype(np.int32)
    left, right = (
        np.bincount(side.ids & (_WORDS - 1), minlength=_WORDS).astype(np.float64)
        for side in (english, target)
    )
    pairs = np.zeros(len(met), np.float16)
    for grid in _grids(english, target):
        times = met[grid.pair].astype(np.float32)
        cell = np.flatnonzero(times >= 3)
        own, other = grid.english[grid.word[cell]], grid.target[grid.other[cell]]
        expected = left[own] * right[other] / max(len(english), 1)
        low = np.maximum(times[cell] - 1 - np.sqrt(times[cell]), 0.1)
        pairs[grid.pair[cell]] = np.clip(np.log(low / expected), 0, _MOST)
    return Lexicon(pairs=pairs, rare=(left + 1) / max(len(english), 1) < np.exp(-_MOST))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Grid:
    """All word pairs of some rows, `C` cells; `english` and `target` are the words of these rows, joined."""

    rows: I64
    english: I64
    target: I64
    english_lengths: I64
    target_lengths: I64
    word: I64
    """`[C]`, place of the English word."""
    other: I64
    """`[C]`, place of the target word."""
    pair: I64
    """`[C]`, hash of both words."""


def _grids(english: TokenRows, target: TokenRows) -> Iterator[_Grid]:
    """Yield the cells of all rows that have words on both sides, some rows at a time; long rows are cut."""
    filled = np.flatnonzero((english.lengths > 0) & (target.lengths > 0))
    for start in range(0, len(filled), _ROWS_AT_ONCE):
        rows = filled[start : start + _ROWS_AT_ONCE]
        left, left_lengths = _words(english, rows)
        right, right_lengths = _words(target, rows)
        width = np.repeat(right_lengths, left_lengths)
        word = np.repeat(np.arange(len(left)), width)
        other = consecutive(np.repeat(_starts(right_lengths), left_lengths), width)
        spread = mix((left[word] * _WORDS | right[other]).astype(np.uint64))
        yield _Grid(
            rows=rows,
            english=left,
            target=right,
            english_lengths=left_lengths,
            target_lengths=right_lengths,
            word=word,
            other=other,
            pair=(spread & np.uint64((1 << _PAIR_BITS) - 1)).astype(np.int64),
        )


def _words(side: TokenRows, rows: I64) -> tuple[I64, I64]:
    lengths = np.minimum(side.lengths[rows], _MOST_TOKENS)
    ids = side.ids[consecutive(side.offsets[rows], lengths)]
    return ids.astype(np.int64) & (_WORDS - 1), lengths


def _starts(lengths: I64) -> I64:
    return np.cumsum(lengths) - lengths


def _mean_best(values: F32, words: I64, lengths: I64) -> F32:
    """Return the mean over each row's words of the best value, at least 0, in a word's cells."""
    best = np.zeros(lengths.sum(), np.float32)
    np.maximum.at(best, words, values)
    return np.asarray(np.add.reduceat(best, _starts(lengths)) / lengths, np.float32)

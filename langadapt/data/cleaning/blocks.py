"""Blocks of rows whose sides have slipped against each other: each row's evidence, and where it changes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from langadapt.data.cleaning.fold import TokenRows
from langadapt.data.cleaning.lexicon import Lexicon

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Evidence = Callable[[I64, I64], F64]
_MOST_EVIDENCE = 3.0
_TWO_SWITCHES = 6.0
"""A block is proposed when it is more than e^6 times likelier no pairs than pairs."""
_CONFIRMED = 12.0
"""And it counts when shifts of its rows are e^12 times likelier than none."""
_PIECE = 6
_SHIFTS = tuple(shift for shift in range(-8, 9) if shift)


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """How evidence is weighed: `weights [5]` of a logistic regression, `ratio` the corpus' median log length
    ratio."""

    weights: F64
    ratio: float

    def evidence(self, lexicon: Lexicon, english: TokenRows, target: TokenRows, characters: F64) -> F64:
        """Log-likelihood ratio, for each row, of being a pair against being neighbours: `[R]`, cut at 3.

        Args:
            lexicon: word associations.
            english: tokens of the English sides.
            target: tokens of the target sides.
            characters: lengths of both sides, `[2, R]`.
        """
        found = _features(lexicon, english, target, characters, self.ratio) @ self.weights
        return np.clip(found, -_MOST_EVIDENCE, _MOST_EVIDENCE)


@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedAlignment:
    """An alignment and how well it tells pairs from neighbours: `separation` is the area under the curve, 0.5
    is chance."""

    alignment: Alignment
    separation: float


def learn_alignment(
    lexicon: Lexicon, english: TokenRows, target: TokenRows, characters: F64, follows: NDArray[np.bool_]
) -> LearnedAlignment:
    """Fits the weights on rows the lexicon has not seen, as they are and with the next row's target.

    Args:
        lexicon: learned on other rows.
        english: tokens of the English sides.
        target: tokens of the target sides.
        characters: lengths of both sides, `[2, R]`.
        follows: for each row whether the row behind it is its neighbour in the corpus too, bool `[R]`.
    """
    ratio = float(np.median(_log_ratio(characters)))
    here = np.flatnonzero(follows[:-1])
    behind = here + 1
    pairs = _features(lexicon, english.take(here), target.take(here), characters[:, here], ratio)
    slipped = np.stack([characters[0, here], characters[1, behind]])
    others = _features(lexicon, english.take(here), target.take(behind), slipped, ratio)
    weights = _logistic(np.concatenate([pairs, others]), np.repeat([1.0, 0.0], len(here)))
    ranks = np.searchsorted(np.sort(others @ weights), pairs @ weights)
    return LearnedAlignment(
        alignment=Alignment(weights=weights, ratio=ratio), separation=float(ranks.mean() / max(len(here), 1))
    )


def slipped_rows(evidence: Evidence, alive: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows inside blocks that are slipped.

    The likeliest sequence of two states proposes blocks. A block counts only when shifts make pairs of its
    rows again: loose translations make no better pairs with their neighbours.

    Args:
        evidence: how likely rows (first argument) are pairs with rows (second argument): log-likelihood
        ratios.
        alive: rows that say something.
    """
    everything = np.arange(len(alive))
    own = np.where(alive, evidence(everything, everything), 0.0)
    found = np.zeros(len(alive), bool)
    edges = np.flatnonzero(np.diff(_unlikely(own), prepend=0, append=0))
    for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        block = everything[first:end]
        # Piece by piece, because a row too many inside a block changes its shift.
        pieces = np.array_split(block, -(-len(block) // _PIECE))
        best = sum(max(_total(evidence, piece, shift, alive) for shift in _SHIFTS) for piece in pieces)
        if best > 0 and best - own[block].sum() > _CONFIRMED:
            # Where a slip begins and ends is uncertain by a row.
            found[max(first - 1, 0) : end + 1] = True
    return found


def _total(evidence: Evidence, block: I64, shift: int, alive: NDArray[np.bool_]) -> float:
    partners = block + shift
    inside = (partners >= 0) & (partners < len(alive))
    rows, partners = block[inside], partners[inside]
    if 2 * len(rows) < len(block):
        return -np.inf
    return float(np.where(alive[rows] & alive[partners], evidence(rows, partners), 0.0).sum())


def _unlikely(evidence: F64) -> NDArray[np.int8]:
    """Which of two states each row is in, 1 for not a pair: the likeliest sequence (Viterbi)."""
    switch = _TWO_SWITCHES / 2
    right, wrong = 0.0, -switch
    from_wrong = np.zeros(len(evidence), bool)
    stays_wrong = np.zeros(len(evidence), bool)
    for row, value in enumerate(evidence.tolist()):
        from_wrong[row] = wrong - switch > right
        stays_wrong[row] = wrong > right - switch
        right, wrong = max(right, wrong - switch), max(wrong, right - switch)
        right, wrong = right + value / 2, wrong - value / 2
    state = wrong > right
    found = np.zeros(len(evidence), np.int8)
    for row in range(len(evidence) - 1, -1, -1):
        found[row] = state
        state = bool(stays_wrong[row]) if state else bool(from_wrong[row])
    return found


def _features(lexicon: Lexicon, english: TokenRows, target: TokenRows, characters: F64, ratio: float) -> F64:
    score = lexicon.scores(english, target).astype(np.float64)
    far = np.minimum(np.abs(_log_ratio(characters) - ratio) * np.sqrt(characters[0]), 30.0)
    return np.stack([np.ones(len(score)), score, far, far**2 / 10, score * np.log1p(characters[0])], axis=1)


def _log_ratio(characters: F64) -> F64:
    return np.asarray(np.log((characters[1] + 1) / (characters[0] + 1)))


def _logistic(features: F64, answers: F64) -> F64:
    """Weights of a logistic regression, by Newton's method with a small ridge."""
    weights = np.zeros(features.shape[1])
    ridge = 1e-2 * np.eye(features.shape[1])
    for _ in range(25):
        chance = 1 / (1 + np.exp(-np.clip(features @ weights, -30, 30)))
        slope = features.T @ (answers - chance) - ridge @ weights
        curve = (features * (chance * (1 - chance))[:, None]).T @ features + ridge
        weights = weights + np.linalg.solve(curve, slope)
    return weights

"""Which language a text is in, as far as the corpus itself can say: what its words' usual column is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from langadapt.data.cleaning.fold import TokenRows

_BITS = 18
_MOST = 4.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Sides:
    """For each hashed word its log-odds to be English, float32 `[2^18]`, and whether a column has it: bool
    `[2, 2^18]`."""

    odds: NDArray[np.float32]
    known: NDArray[np.bool_]

    def english_odds(self, rows: TokenRows) -> NDArray[np.float32]:
        """Sum of the words' log-odds to stand in the English column, for each text."""
        return _sums(self.odds[rows.ids & ((1 << _BITS) - 1)], rows)

    def known_share(self, rows: TokenRows, *, side: int) -> NDArray[np.float32]:
        """Share of a text's words that its column (0 English, 1 target) has elsewhere too."""
        found = self.known[side][rows.ids & ((1 << _BITS) - 1)].astype(np.float32)
        return np.asarray(_sums(found, rows) / np.maximum(rows.lengths, 1), np.float32)


def learn_sides(english: TokenRows, target: TokenRows) -> Sides:
    """Counts words by column. It needs no list of languages, only that most rows stand the right way
    round."""
    counts = np.stack(
        [np.bincount(side.ids & ((1 << _BITS) - 1), minlength=1 << _BITS) for side in (english, target)]
    )
    shares = (counts + 0.5) / (counts.sum(axis=1, keepdims=True) + 1.0)
    odds = np.clip(np.log(shares[0] / shares[1]), -_MOST, _MOST)
    # A word that was met once or twice has no usual column; and what one row in 2,000 holds may be another
    # language's.
    odds[counts.sum(axis=0) < 3] = 0
    return Sides(odds=odds.astype(np.float32), known=counts >= max(3, len(english) // 2000))


def swapped(
    english_odds: NDArray[np.float32], target_odds: NDArray[np.float32], lengths: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Rows whose English side reads like the target column and the other way round.

    Args:
        english_odds: of the English sides, float32 `[R]`.
        target_odds: of the target sides.
        lengths: words of the English and of the target side, int64 `[2, R]`.
    """
    return _clear(-english_odds, lengths[0]) & _clear(target_odds, lengths[1])


def foreign_english(english_odds: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """English sides that read like the target column."""
    return _clear(-english_odds, lengths)


def english_target(target_odds: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Target sides that read like the English column: not translated."""
    return _clear(target_odds, lengths)


def _clear(odds: NDArray[np.float32], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    return (odds > 4.0) & (odds > 0.8 * lengths)


def _sums(values: NDArray[np.float32], rows: TokenRows) -> NDArray[np.float32]:
    sums = np.zeros(len(values) + 1, np.float64)
    np.cumsum(values, out=sums[1:])
    return (sums[rows.offsets[1:]] - sums[rows.offsets[:-1]]).astype(np.float32)
